package upstream

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/upstream/bed"
	"vault-plugin-secrets-mcp/test/upstream/servers"
)

// reason is the audit log's word for credentials that cannot be had.
const reason = "upstream-credentials"

// returns is how long a path that has failed may rest before it is asked again.
const returns = 70 * time.Second

// try calls a tool in a session of its own.
func (w *surroundings) try(server, token string) error {
	w.t.Helper()
	session, err := w.tryConnect(server, token)
	if err != nil {
		return err
	}
	defer session.Close()
	seen, err := tryAsk[servers.Sight](w.t, session, "look", harness.Map{})
	w.declare(&seen)
	return err
}

// unavailable fails the test unless a call is answered with 503 for want of credentials,
// and the server has not got a byte. It returns the audit line.
func (w *surroundings) unavailable(server, token string) harness.Map {
	w.t.Helper()
	w.meet(token)
	before, lines := w.upstreams[server].Count(), len(w.gateway.Audit())
	answer := w.callOnce(server, token)
	require.Equal(w.t, http.StatusServiceUnavailable, answer.Status, answer.Body)
	require.NotEmpty(w.t, answer.Header.Get("Retry-After"))
	require.Equal(w.t, before, w.upstreams[server].Count(), "the server was asked")
	return w.refusal(server, lines)
}

// meet has the gateway know a token, although no server is asked.
func (w *surroundings) meet(token string) {
	w.t.Helper()
	answer := w.Do(http.MethodGet, w.gateway.ServerURL("absent"), token, http.Header{"Accept": {"text/event-stream"}}, "")
	require.Equal(w.t, http.StatusForbidden, answer.Status, answer.Body)
}

// callOnce calls a tool in one request, which is not repeated.
func (w *surroundings) callOnce(server, token string) harness.Response {
	w.t.Helper()
	return w.DoOnce(http.MethodPost, w.gateway.ServerURL(server), token, callHeader, harness.CallBody("look", "{}"))
}

// callHeader is the header of a tool call in the stateless era.
var callHeader = http.Header{
	"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
	"Mcp-Protocol-Version": {harness.StatelessEra}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"look"},
}

// refusal is the audit line of a refusal at a server, after so many lines.
func (w *surroundings) refusal(server string, after int) (found harness.Map) {
	w.t.Helper()
	return w.line(after, func(line harness.Map) bool { return line["server"] == server && line["type"] == "refusal" })
}

// line waits for an audit line, after so many others.
func (w *surroundings) line(after int, is func(harness.Map) bool) (found harness.Map) {
	w.t.Helper()
	w.gateway.AwaitAudit(func(lines []harness.Map) bool {
		for _, line := range lines[after:] {
			if is(line) {
				found = line
				return true
			}
		}
		return false
	})
	return found
}

// works fails the test unless calls are answered, after a rest at most.
func (w *surroundings) works(server, token string) {
	w.t.Helper()
	w.Within(returns, "the server is reached", func() error { return w.try(server, token) })
}

// TestWhatCannotBeLeasedIsA503: whatever fault there is in Vault, nothing is sent to the
// server, and the log names the fault. Once it is mended, calls pass; no lease is left
// afterwards.
func TestWhatCannotBeLeasedIsA503(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{})
	alias := bed.AliasTemplate(t, w.Harness)
	for i, failure := range []struct {
		name, word  string // in the gateway's log
		spoil, mend func(w *surroundings, client string)
	}{
		{
			"no policy allows the path", "permission denied",
			func(w *surroundings, _ string) {
				w.Write("sys/policies/acl/"+bed.SecretsPolicy, harness.Map{"policy": `path "x" { capabilities = ["read"] }`})
			},
			func(w *surroundings, _ string) { bed.WritePolicies(w.Harness, alias) },
		},
		{
			"there is no secret at the path", "nothing at this path",
			func(w *surroundings, client string) { w.Delete("kv/metadata/mcp/mcp:" + client + "/github") },
			func(w *surroundings, client string) {
				w.Write("kv/data/mcp/mcp:"+client+"/github", harness.Map{"data": harness.Map{"token": "github-token-of-" + client}})
			},
		},
		{
			"the secret lacks the field", "data.token",
			func(w *surroundings, client string) {
				w.Write("kv/data/mcp/mcp:"+client+"/github", harness.Map{"data": harness.Map{"another": "x"}})
			},
			func(w *surroundings, client string) {
				w.Write("kv/data/mcp/mcp:"+client+"/github", harness.Map{"data": harness.Map{"token": "github-token-of-" + client}})
			},
		},
		{
			"the value would split the header", "Authorization",
			func(w *surroundings, client string) {
				w.Write("kv/data/mcp/mcp:"+client+"/github", harness.Map{"data": harness.Map{"token": "a-value-of-two\r\nX-Forged: lines"}})
			},
			func(w *surroundings, client string) {
				w.Write("kv/data/mcp/mcp:"+client+"/github", harness.Map{"data": harness.Map{"token": "github-token-of-" + client}})
			},
		},
		{
			"the engine has no such role", "pki/issue/mcp",
			func(w *surroundings, _ string) { w.Delete("pki/roles/mcp") },
			func(w *surroundings, _ string) { bed.WriteCertificateRole(w.t, w.Harness, "5m") },
		},
		{
			"the engine is not mounted", "ssh/creds/otp",
			func(w *surroundings, _ string) { w.Delete("sys/mounts/ssh") },
			func(w *surroundings, _ string) { bed.MountSSH(w.Harness) },
		},
		{
			"there is no token role", bed.TokenRole,
			func(w *surroundings, _ string) { w.Delete("auth/token/roles/" + bed.TokenRole) },
			func(w *surroundings, _ string) { bed.WriteTokenRole(w.Harness, nil) },
		},
		{
			"the token role has other aliases", bed.TokenRole,
			func(w *surroundings, _ string) {
				bed.WriteTokenRole(w.Harness, harness.Map{"allowed_entity_aliases": "other:*"})
			},
			func(w *surroundings, _ string) { bed.WriteTokenRole(w.Harness, nil) },
		},
		{
			"the token role has other policies", bed.TokenRole,
			func(w *surroundings, _ string) {
				bed.WriteTokenRole(w.Harness, harness.Map{"allowed_policies": bed.SelfPolicy})
			},
			func(w *surroundings, _ string) { bed.WriteTokenRole(w.Harness, nil) },
		},
		{
			"the token role makes orphans", "orphan",
			func(w *surroundings, _ string) { bed.WriteTokenRole(w.Harness, harness.Map{"orphan": true}) },
			func(w *surroundings, _ string) { bed.WriteTokenRole(w.Harness, nil) },
		},
		{
			"the token role makes tokens that cannot be renewed", "renewable",
			func(w *surroundings, _ string) { bed.WriteTokenRole(w.Harness, harness.Map{"renewable": false}) },
			func(w *surroundings, _ string) { bed.WriteTokenRole(w.Harness, nil) },
		},
		{
			"the gateway may not mint", bed.TokenRole,
			func(w *surroundings, _ string) {
				require.NoError(w.t, provision.Policy(w.t.Context(), w.Vault.Client(), policies.GatewayName,
					strings.ReplaceAll(policies.Gateway, "auth/token/create", "auth/token/nothing")))
			},
			func(w *surroundings, _ string) {
				require.NoError(w.t, provision.Policy(w.t.Context(), w.Vault.Client(), policies.GatewayName, policies.Gateway))
			},
		},
	} {
		t.Run(failure.name, func(t *testing.T) {
			w := w.in(t)
			client := fmt.Sprint("client-", i)
			token := w.client(client, nil)
			failure.spoil(w, client)
			line := w.unavailable(web, token)
			require.Equal(t, reason, line["reason"], line)
			if text := fmt.Sprint(line) + w.log(); !strings.Contains(text, failure.word) {
				t.Errorf("neither the audit line nor the log has %q: %v", failure.word, line)
			}
			failure.mend(w, client)
			w.works(web, token)
			w.Write("mcp/revoke-client/"+client, nil)
			w.Within(beside, "nothing is left", func() error { return none(append(bed.AllLeases(w.Harness), accessors(w.tokens(client))...)) })
			require.Empty(t, bed.Children(t, w.Harness))
		})
	}
}

func accessors(children []bed.Child) []string {
	var all []string
	for _, c := range children {
		all = append(all, c.Accessor)
	}
	return all
}

// log is the gateway's log so far.
func (w *surroundings) log() string {
	w.t.Helper()
	content, err := os.ReadFile(w.gateway.Process.Log())
	require.NoError(w.t, err)
	return string(content)
}

// TestWithoutTheBlockNothingIsLeased: a gateway whose file does not allow it.
func TestWithoutTheBlockNothingIsLeased(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{noGateway: true})
	w.gateway = w.StartGateway(harness.GatewayOptions{Blocks: map[string]string{"stdio": w.stdio()}})
	token := w.client("c", nil)
	for _, server := range []string{web, notes} {
		answer := w.callOnce(server, token)
		require.GreaterOrEqual(t, answer.Status, http.StatusInternalServerError, server)
		require.Zero(t, w.upstreams[server].Count(), server)
	}
	require.Contains(t, w.log(), "upstream_credentials")
	require.Empty(t, bed.Children(t, w.Harness))
}

// TestTheGatewaysFileBoundsThePaths: a registration names a path that the file does not
// allow.
func TestTheGatewaysFileBoundsThePaths(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{gateway: harness.GatewayOptions{Top: fmt.Sprintf("upstream %q {\n  credential_paths = [\"pki/issue/mcp\", \"kv/data/mcp/*\"]\n}\nupstream %q {\n  credential_paths = [\"pki/issue/m*\"]\n}\n", web, old)}})
	token := w.client("c", nil)
	line := w.unavailable(web, token)
	require.Equal(t, reason, line["reason"])
	require.Contains(t, fmt.Sprint(line)+w.log(), "credential_paths")
	w.look(w.connect(old, token))
}

// TestAClientMayHaveFewerPolicies: upstream_policies takes a subset of the gateway's, and
// never another.
func TestAClientMayHaveFewerPolicies(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{})
	fewer := w.client("fewer", harness.Map{"upstream_policies": bed.SelfPolicy})
	line := w.unavailable(web, fewer)
	require.Equal(t, reason, line["reason"])
	more := w.client("more", harness.Map{"upstream_policies": []string{bed.SelfPolicy, "root-like"}})
	line = w.unavailable(web, more)
	require.Equal(t, reason, line["reason"])
	require.Empty(t, w.tokens("more"))
	all := w.client("all", harness.Map{"upstream_policies": []string{bed.SelfPolicy, bed.SecretsPolicy}})
	w.works(web, all)
}

// TestAServerThatRefusesItsCredentialsGetsNewOnesOnce: the lease was revoked by an
// administrator, and the server answers 401. The credentials are read once more, and the
// client gets the answer.
func TestAServerThatRefusesItsCredentialsGetsNewOnesOnce(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{})
	token := w.client("c", nil)
	session := w.connect(web, token)
	first := w.look(session)
	serial := first.Header.Get("X-Serial")
	w.doors[web].Refuse(func(header http.Header) bool { return header.Get("X-Serial") == serial })
	for _, lease := range bed.AllLeases(w.Harness) {
		w.Write("sys/leases/revoke", harness.Map{"lease_id": lease, "sync": true})
	}
	second := w.look(session)
	require.NotEqual(t, serial, second.Header.Get("X-Serial"))
	require.Equal(t, "c", w.owner(&second))
}

// TestAServerThatAlwaysRefusesCostsTwoReadsAMinute: the client gets the server's own 401 as
// the gateway passes it on, and Vault is not asked for each call.
func TestAServerThatAlwaysRefusesCostsTwoReadsAMinute(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{})
	token := w.client("c", nil)
	w.look(w.connect(web, token))
	w.doors[web].Refuse(func(http.Header) bool { return true })
	before := len(w.List("pki/certs"))
	for range 30 {
		w.callOnce(web, token)
		pause(100 * time.Millisecond)
	}
	issued := len(w.List("pki/certs")) - before
	require.LessOrEqual(t, issued, 2, "certificates were issued for each refusal")
	w.doors[web].Refuse(nil)
	w.works(web, token)
}

// TestAGroupThatWouldAddAPolicyIsRefused: a person who may write groups could give a
// client's child tokens more rights than the gateway asks for.
func TestAGroupThatWouldAddAPolicyIsRefused(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{})
	token := w.client("c", nil)
	entity := w.Write("identity/entity", harness.Map{"name": "c"})["id"].(string)
	auths, err := w.Vault.Client().Sys().ListAuthWithContext(t.Context())
	require.NoError(t, err)
	w.Write("identity/entity-alias", harness.Map{"name": "mcp:c", "canonical_id": entity, "mount_accessor": auths["token/"].Accessor})
	w.works(old, token)
	w.Write("identity/group", harness.Map{"name": "g", "member_entity_ids": entity, "policies": "everything"})
	line := w.unavailable(web, token)
	require.Equal(t, reason, line["reason"], line)
	w.Delete("identity/group/name/g")
	w.works(web, token)
}
