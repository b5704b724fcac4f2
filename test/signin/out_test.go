package signin

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/signin/bed"
)

// busy is a session with a stream and a child.
type busy struct {
	*bed.Session
	conversation *bed.Conversation
	stream       *bed.Stream
}

func newBusy(t *testing.T, b *bed.Bed, person, application string) *busy {
	t.Helper()
	s := b.SignIn(t, person, b.Application(application, b.ServerURL(bed.Notes)), bed.Engineering)
	c := s.Converse(t)
	return &busy{s, c, c.Listen(t)}
}

// cut wants the stream ended and the token refused, both soon.
func (s *busy) cut(t *testing.T) {
	t.Helper()
	s.stream.AwaitEnd(t, inForce)
	s.Out(t, inForce)
}

// TestOutWithinASecond is every way to take access away that gateways hear of at once, with
// streams open.
func TestOutWithinASecond(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{})
	bystander := newBusy(t, b, bed.Bob, bed.Assistant)
	t.Run("the person's Vault token is revoked, by the command that the list names", func(t *testing.T) {
		s := newBusy(t, b, bed.Alice, bed.Editor)
		id := signInOf(t, b, s.Session)
		require.Contains(t, b.List("mcp/sign-ins"), id)
		row := b.Read("mcp/sign-ins/" + id)
		require.Equal(t, bed.Alice, row["person"], row)
		require.Equal(t, bed.Editor, row["application"], row)
		require.Equal(t, "Example Editor", row["application_name"], row)
		require.Equal(t, bed.Engineering, row["client"], row)
		require.Equal(t, bed.LoginName, row["login"], row)
		words := strings.Fields(row["end_with"].(string))
		require.Equal(t, []string{"vault", "token", "revoke", "-accessor", id}, words)
		cmd := exec.CommandContext(t.Context(), b.Programs.Vault, words[1:]...)
		cmd.Env = []string{"VAULT_ADDR=" + b.Vault.Address(), "VAULT_TOKEN=" + b.Vault.RootToken, "HOME=" + t.TempDir()}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		s.cut(t)
		wantDead(t, s.Session)
	})
	t.Run("the lease is revoked, and the sign-in goes on", func(t *testing.T) {
		s := newBusy(t, b, bed.Alice, bed.Editor)
		for _, lease := range b.List("sys/leases/lookup/mcp/creds/" + bed.Engineering) {
			found := b.Write("sys/leases/lookup", harness.Map{"lease_id": "mcp/creds/" + bed.Engineering + "/" + lease})
			require.Equal(t, false, found["renewable"], found)
		}
		revokeLeaseOf(t, b, s.AccessToken)
		s.cut(t)
		s.Refresh(t)
		s.Converse(t).Call(t, "list_notes", `{}`)
	})
	t.Run("the application says that it is done", func(t *testing.T) {
		s := newBusy(t, b, bed.Alice, bed.Editor)
		got, err := s.Application.Post(s.Application.Server.RevocationEndpoint, map[string][]string{"token": {s.RefreshToken}})
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, got.Status, got.Body)
		s.cut(t)
		wantDead(t, s.Session)
		for _, token := range []string{s.RefreshToken, "unknown", alter(bystander.RefreshToken, 9)} {
			got, err := s.Application.Post(s.Application.Server.RevocationEndpoint, map[string][]string{"token": {token}, "token_type_hint": {"access_token"}})
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, got.Status, "what is not valid is as good as revoked: %s", got.Body)
		}
		got, err = s.Application.Post(s.Application.Server.RevocationEndpoint, map[string][]string{"token": {s.AccessToken}})
		require.NoError(t, err)
		require.Equal(t, "unsupported_token_type", got.Error, "it is told to send the other one: %s", got.Body)
		// Another application's token is not this one's to end.
		_, err = s.Application.Post(s.Application.Server.RevocationEndpoint, map[string][]string{"token": {bystander.RefreshToken}})
		require.NoError(t, err)
		bystander.stream.Open(t)
	})
	t.Run("sign-in is over for the identity", func(t *testing.T) {
		app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
		s := b.SignIn(t, bed.Alice, app, bed.Oncall)
		own := b.Token(b.Write("mcp/rotate-client/"+bed.Oncall, nil))
		b.Write("mcp/clients/"+bed.Oncall, harness.Map{"sign_in": false})
		s.Out(t, inForce)
		refusedForGood(t, s)
		got, err := app.Try(b.OfClients(app.Resource), own)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, got.Status, "the client's own token is not concerned: %s", got.Body)
		b.Write("mcp/clients/"+bed.Oncall, harness.Map{"sign_in": true})
	})
	bystander.stream.Open(t)
	bystander.conversation.Call(t, "list_notes", `{}`)
	t.Run("the client is revoked", func(t *testing.T) {
		s := newBusy(t, b, bed.Alice, bed.Editor)
		b.Write("mcp/revoke-client/"+bed.Engineering, nil)
		s.cut(t)
		bystander.cut(t)
	})
}

// revokeLeaseOf revokes the lease of an access token.
func revokeLeaseOf(t *testing.T, b *bed.Bed, token string) {
	t.Helper()
	b = b.In(t)
	accessor := introspect(t, b, token)["accessor"]
	b.Write("mcp/revoke-accessor", harness.Map{"accessor": accessor})
}

// refusedForGood wants a refresh refused, as one that cannot succeed later.
func refusedForGood(t *testing.T, s *bed.Session) {
	t.Helper()
	got, err := s.Application.Refresh(s.RefreshToken, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, got.Status, got.Body)
	require.Equal(t, "invalid_grant", got.Error)
}

// TestOutAtTheNextRefresh tries the events that take access away without a notice to
// gateways: the access token lives on to its end, fifteen minutes at most, and there is no
// other after it.
func TestOutAtTheNextRefresh(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	out := func(t *testing.T, person string, take func()) {
		t.Helper()
		s := b.SignIn(t, person, app, bed.Engineering)
		take()
		refusedForGood(t, s)
		refusedForGood(t, s)
	}
	t.Run("Vault's ACL no longer grants it", func(t *testing.T) {
		out(t, bed.Alice, func() { b.Delete("sys/policies/acl/mcp-person-" + bed.Engineering) })
	})
	t.Run("the client is disabled", func(t *testing.T) {
		b.Write("sys/policies/acl/mcp-person-"+bed.Engineering, harness.Map{"policy": `path "mcp/creds/engineering" { capabilities = ["update"] }`})
		out(t, bed.Alice, func() { b.Write("mcp/clients/"+bed.Engineering, harness.Map{"disabled": true}) })
		b.Write("mcp/clients/"+bed.Engineering, harness.Map{"disabled": false})
	})
	t.Run("the person's entity is disabled in Vault", func(t *testing.T) {
		out(t, bed.Alice, func() { b.Write("identity/entity/id/"+b.Company.EntityOf(t, bed.Alice), harness.Map{"disabled": true}) })
		page := b.Browser(bed.Alice).Open(app.Begin(nil).URL())
		require.GreaterOrEqual(t, page.Status, 400)
		require.Nil(t, page.Choices("identity"))
	})
	t.Run("the person is out of the group of the company: at the next login", func(t *testing.T) {
		s := b.SignIn(t, bed.Bob, app, bed.Engineering)
		require.NoError(t, b.Company.SetGroups(bed.Bob, "others"))
		s.Refresh(t) // Vault asks nobody
		page := b.Browser(bed.Bob).Open(app.Begin(nil).URL())
		require.Equal(t, http.StatusForbidden, page.Status, page.Text())
		refusedForGood(t, s) // the login has taken Bob's entity out of the external group
	})
}

// TestWhoseAccountTheCompanyClosesIsOutWhenTheLoginEnds: Vault hears nothing of it, so a
// sign-in has an end that no refresh moves.
func TestWhoseAccountTheCompanyClosesIsOutWhenTheLoginEnds(t *testing.T) {
	t.Parallel()
	const life = 12 * time.Second
	b := bed.New(t, bed.Options{Role: harness.Map{"token_ttl": "12s", "token_max_ttl": "12s"}})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	began := time.Now()
	s := b.SignIn(t, bed.Alice, app, bed.Engineering)
	require.NoError(t, b.Company.Close(bed.Alice))
	s.Refresh(t)
	s.Works(t)
	refreshed := 0
	b.Eventually("the sign-in has ended", func() error {
		got, err := s.Application.Refresh(s.RefreshToken, nil)
		require.NoError(t, err)
		if got.Status == http.StatusServiceUnavailable {
			return errAgain // the end came between two requests to Vault
		}
		if got.Status != http.StatusOK {
			require.Equal(t, http.StatusBadRequest, got.Status, got.Body)
			require.Equal(t, "invalid_grant", got.Error)
			return nil
		}
		refreshed++
		require.LessOrEqual(t, got.ExpiresIn, int(life/time.Second))
		require.Less(t, time.Since(began), life+inForce)
		s.AccessToken, s.RefreshToken = got.AccessToken, got.RefreshToken
		select {
		case <-t.Context().Done():
		case <-time.After(time.Second): // within the limit of a sign-in
		}
		return errAgain
	})
	require.Positive(t, refreshed)
	s.Out(t, inForce)
	awaitNoTokens(t, b, bed.Alice)
	page := b.Browser(bed.Alice).Open(app.Begin(nil).URL())
	require.Contains(t, page.Text(), "This account is closed.")
}
