package signin

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/signin/bed"
)

// TestTheAuditLogHasThePerson: in the decision, the outcome and the refusal of requests, and
// in the lines of the sign-in itself.
func TestTheAuditLogHasThePerson(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{})
	b.Write("mcp/clients/"+bed.Engineering, harness.Map{"denied_tools": bed.Calculator + "/multiply"})
	s := b.SignIn(t, bed.Alice, b.Application(bed.Editor, b.ServerURL(bed.Calculator)), bed.Engineering)
	entity, id := b.Company.EntityOf(t, bed.Alice), signInOf(t, b, s)
	wantPerson := func(t *testing.T, line harness.Map) {
		t.Helper()
		require.Equal(t, []any{bed.Alice, entity, bed.Editor, id, bed.Engineering},
			[]any{line["person"], line["entity_id"], line["application"], line["sign_in"], line["client"]}, line)
	}
	lines := func(t *testing.T, is func(harness.Map) bool) (found []harness.Map) {
		t.Helper()
		b.In(t).Eventually("the lines are in the audit log", func() error {
			found = slices.DeleteFunc(b.Gateway.Audit(), func(line harness.Map) bool { return !is(line) })
			if len(found) == 0 {
				return errAgain
			}
			return nil
		})
		return found
	}
	t.Run("the decision and the outcome", func(t *testing.T) {
		s.Works(t)
		found := lines(t, func(line harness.Map) bool {
			return line["tool"] == "add" && line["decision"] == nil || line["outcome"] != nil
		})
		for _, line := range found {
			wantPerson(t, line)
		}
		for _, line := range lines(t, func(line harness.Map) bool { return line["tool"] == "add" && line["decision"] == "allow" }) {
			wantPerson(t, line)
		}
	})
	t.Run("the refusal of a tool", func(t *testing.T) {
		_, err := s.Application.Do(call(s, "multiply", `{"a":1,"b":2}`))
		require.NoError(t, err)
		for _, line := range lines(t, func(line harness.Map) bool { return line["decision"] == "deny" && line["tool"] == "multiply" }) {
			wantPerson(t, line)
		}
	})
	t.Run("the refusal of a server", func(t *testing.T) {
		b := b.In(t)
		b.Write("mcp/servers/closed", harness.Map{"transport": "http", "url": b.Calculator.URL})
		closed := b.SignIn(t, bed.Alice, b.Application(bed.Editor, b.ServerURL("closed")), bed.Engineering)
		got, err := closed.Try()
		require.NoError(t, err)
		require.Equal(t, http.StatusForbidden, got.Status, got.Body)
		for _, line := range lines(t, func(line harness.Map) bool { return line["decision"] == "deny" && line["server"] == "closed" }) {
			require.Equal(t, []any{bed.Alice, entity, bed.Editor}, []any{line["person"], line["entity_id"], line["application"]}, line)
		}
	})
	t.Run("the sign-in itself, from its beginning to its end", func(t *testing.T) {
		b := b.In(t)
		s.Refresh(t)
		_, err := s.Application.Post(s.Application.Server.RevocationEndpoint, url.Values{"token": {s.RefreshToken}})
		require.NoError(t, err)
		for _, event := range []string{"consent", "token", "refreshed", "ended"} {
			line := awaitEvent(t, b, func(line harness.Map) bool { return line["event"] == event && line["sign_in"] == id })
			require.Equal(t, []any{bed.Alice, entity, bed.Editor, bed.LoginName}, []any{line["person"], line["entity_id"], line["application"], line["login"]}, line)
			require.NotEmpty(t, line["source"])
			require.NotEmpty(t, line["request_id"])
		}
	})
}

// TestNoRequestCanNameAnotherPerson tries every place of a request in which somebody could
// be named. The engine goes by the entity of the Vault token alone.
func TestNoRequestCanNameAnotherPerson(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{})
	bob := b.SignIn(t, bed.Bob, b.Application(bed.Editor, b.ServerURL(bed.Calculator)), bed.Engineering)
	names := url.Values{
		"person": {bed.Bob}, "username": {bed.Bob}, "sub": {bed.Bob}, "login_hint": {bed.Bob}, "login": {"others"},
		"entity_id": {b.Company.EntityOf(t, bed.Bob)}, "sign_in": {signInOf(t, b, bob)}, "accessor": {signInOf(t, b, bob)},
		"application": {bed.Assistant}, "application_name": {"Another"},
	}
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	try := app.Begin(names)
	browser := b.Browser(bed.Alice)
	browser.Header = http.Header{"X-Person": {bed.Bob}, "X-Forwarded-User": {bed.Bob}, "X-Entity-Id": names["entity_id"]}
	page := browser.Open(try.URL())
	require.Contains(t, page.Text(), bed.Alice)
	action, values, err := page.Fill(url.Values{"identity": {bed.Engineering}, "decision": {"allow"}})
	require.NoError(t, err)
	for name := range names {
		values[name] = names[name]
	}
	code, err := try.Code(page.SendAs(action, values, nil))
	require.NoError(t, err)
	got := try.Redeem(code, names)
	require.NoError(t, got.Tokens())
	wantAlice(t, b, got.AccessToken)
	again, err := app.Refresh(got.RefreshToken, names)
	require.NoError(t, err)
	require.NoError(t, again.Tokens())
	wantAlice(t, b, again.AccessToken)

	r := call(bob, "add", `{"a":40,"b":2}`)
	r.Token, r.Header["X-Person"], r.Header["X-Forwarded-User"] = again.AccessToken, []string{bed.Bob}, []string{bed.Bob}
	served, err := app.Do(r)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, served.Status, served.Body)
	b.Gateway.AwaitAudit(func(lines []harness.Map) bool {
		return slices.ContainsFunc(lines, func(line harness.Map) bool { return line["tool"] == "add" && line["person"] == bed.Alice })
	})
	for _, line := range b.Gateway.Audit() {
		if line["tool"] == "add" {
			require.Equal(t, bed.Alice, line["person"], line)
		}
	}
	for _, r := range b.Calculator.Requests() {
		for name := range r.Header {
			require.False(t, strings.HasPrefix(strings.ToLower(name), "x-forwarded"), "the server is told %s", name)
		}
	}
}

func wantAlice(t *testing.T, b *bed.Bed, token string) {
	t.Helper()
	known := introspect(t, b, token)
	require.Equal(t, []any{bed.Alice, b.Company.EntityOf(t, bed.Alice), bed.LoginName, bed.Editor},
		[]any{known["person"], known["entity_id"], known["login"], known["application"]}, known)
}
