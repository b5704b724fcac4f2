package upgrade

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

// knowsNothingNew has a row for each field that v0.1.0 does not know: its gateway refuses, or the
// field does not count there, as docs/operations.md (Upgrades) says.
func (b *bed) knowsNothingNew(t *testing.T) {
	t.Helper()
	t.Run("clients", func(t *testing.T) { b.in(t).knowsNoFieldOfClients(t) })
	t.Run("servers", func(t *testing.T) { b.in(t).knowsNoFieldOfServers(t) })
	t.Run("a token of a sign-in, which it refuses everywhere", func(t *testing.T) { b.in(t).knowsNoSignIn(t) })
	t.Run("a denial that was narrower in v0.1.0, which stays narrow", func(t *testing.T) { b.in(t).keepsItsOwnPolicies(t) })
}

func (b *bed) knowsNoFieldOfClients(t *testing.T) {
	t.Helper()
	b.Write("mcp/roles/engineer", harness.Map{"allowed_servers": calculator})
	for name, row := range map[string]struct {
		client harness.Map
		old    int // its answer; the present gateway's is 200
	}{
		"plain":             {nil, http.StatusOK},
		"role":              {harness.Map{"role": "engineer"}, http.StatusForbidden},
		"role-alone":        {harness.Map{"role": "engineer", "allowed_servers": ""}, http.StatusForbidden},
		"allowed_prompts":   {harness.Map{"allowed_prompts": calculator + "/*"}, http.StatusForbidden},
		"denied_prompts":    {harness.Map{"denied_prompts": calculator + "/x"}, http.StatusForbidden},
		"allowed_resources": {harness.Map{"allowed_resources": calculator + "/*"}, http.StatusForbidden},
		"denied_resources":  {harness.Map{"denied_resources": calculator + "/file:///x"}, http.StatusForbidden},
		"rate_limit":        {harness.Map{"rate_limit": 100}, http.StatusForbidden},
		// These do not affect the rights of the client's own tokens.
		"sign_in":           {harness.Map{"sign_in": true}, http.StatusOK},
		"upstream_policies": {harness.Map{"upstream_policies": "some"}, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			token := b.client("with-"+strings.ReplaceAll(name, "_", "-"), row.client)
			b.upstream.Forget()
			require.Equal(t, row.old, b.call(b.old, calculator, token).Status)
			require.Equal(t, row.old == http.StatusOK, b.upstream.Count() > 0, "what it refuses is not forwarded")
			r := b.call(b.now, calculator, token)
			require.Equal(t, http.StatusOK, r.Status, r.Body)
		})
	}
}

func (b *bed) knowsNoFieldOfServers(t *testing.T) {
	t.Helper()
	token := b.client("of-all-servers", harness.Map{"allowed_servers": "*"})
	for name, row := range map[string]struct {
		server harness.Map
		old    int
	}{
		"plain":          {nil, http.StatusOK},
		"disabled":       {harness.Map{"disabled": true}, http.StatusForbidden},
		"pin-enforce":    {harness.Map{"pin": "enforce"}, http.StatusForbidden},
		"pin-observe":    {harness.Map{"pin": "observe"}, http.StatusOK}, // it reports nothing
		"credentials":    {harness.Map{"credentials": harness.Map{"kv": harness.Map{"path": "secret/data/x"}}, "headers": harness.Map{"X-Key": "{{kv.data.key}}"}}, http.StatusForbidden},
		"vault_policies": {harness.Map{"vault_policies": "some", "headers": harness.Map{"X-Vault-Token": "{{vault.token}}"}}, http.StatusForbidden},
		"files":          {harness.Map{"transport": "stdio", "url": nil, "command": "/usr/local/bin/notes", "files": harness.Map{"conf": "a file"}, "env": harness.Map{"CONF": "{{file.conf}}"}}, http.StatusForbidden},
		// With pins as well it is in one place alone.
		"credentials-and-pins": {harness.Map{"pin": "enforce", "vault_policies": "some", "headers": harness.Map{"X-Vault-Token": "{{vault.token}}"}}, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			at := "new-" + strings.ReplaceAll(name, "_", "-")
			data := harness.Map{"transport": "http", "url": b.upstream.URL}
			for field, value := range row.server {
				data[field] = value
			}
			if data["url"] == nil {
				delete(data, "url")
			}
			b.Write("mcp/servers/"+at, data)
			b.registered(at)
			b.upstream.Forget()
			r := b.call(b.old, at, token)
			require.Equal(t, row.old, r.Status, "%s: the server got %s", r.Body, b.got())
			require.Equal(t, row.old == http.StatusOK, b.upstream.Count() > 0, "what it refuses is not forwarded")
		})
	}
}

// registered waits until both gateways have read all earlier writes: they admit to a server
// that was registered after these.
func (b *bed) registered(after string) {
	marker, token := "after-"+after, b.CreateClient("after-"+after, harness.Map{"allowed_servers": "*"})
	b.Write("mcp/servers/"+marker, harness.Map{"transport": "http", "url": b.upstream.URL})
	for _, g := range []*harness.Gateway{b.old, b.now} {
		b.Eventually("a gateway knows the server "+marker, func() error {
			if r := b.call(g, marker, token); r.Status != http.StatusOK {
				return fmt.Errorf("%d %s", r.Status, r.Body)
			}
			return nil
		})
	}
}

// got are the headers of registrations that the server has got.
func (b *bed) got() string {
	var all []string
	for _, r := range b.upstream.Requests() {
		all = append(all, r.Header.Get("X-Key")+r.Header.Get("X-Vault-Token"))
	}
	return strings.Join(all, ", ")
}

// knowsNoSignIn: the token is for one URL, which an old gateway does not have.
func (b *bed) knowsNoSignIn(t *testing.T) {
	t.Helper()
	const mount, resource = "userpass-mcp", "https://mcp.example.com/sign-in/mcp"
	root := b.Vault.Client()
	require.NoError(t, root.Sys().EnableAuthWithOptionsWithContext(t.Context(), mount, &api.EnableAuthOptions{Type: "userpass"}))
	auths, err := root.Sys().ListAuthWithContext(t.Context())
	require.NoError(t, err)
	require.NoError(t, provision.Policy(t.Context(), root, policies.PersonName, policies.Person))
	require.NoError(t, provision.Policy(t.Context(), root, policies.PersonClientName("people"), policies.PersonClient("people")))
	b.Write("mcp/config", harness.Map{"sign_in_logins": harness.Map{"employees": auths[mount+"/"].Accessor}})
	own := b.client("people", harness.Map{"sign_in": true})
	b.Write("auth/"+mount+"/users/ann", harness.Map{
		"password": "the-password-of-ann", "token_policies": []string{policies.PersonName, policies.PersonClientName("people")},
	})
	login, err := root.Logical().WriteWithContext(t.Context(), "auth/"+mount+"/login/ann", harness.Map{"password": "the-password-of-ann"})
	require.NoError(t, err)
	b.Secret(login.Auth.ClientToken)
	secret, err := b.Vault.ClientWithToken(login.Auth.ClientToken).Logical().WriteWithContext(t.Context(), "mcp/creds/people", harness.Map{
		"resource": resource, "application": "cursor", "application_name": "Cursor", "login": "employees",
		"sign_in_ends": time.Now().Add(time.Hour).Format(time.RFC3339),
	})
	require.NoError(t, err)
	token := b.Token(secret.Data)
	b.Secret(token)

	b.upstream.Forget()
	at, err := url.Parse(resource)
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, b.Call(b.old.URL+at.Path, token, calculator+"__add", `{"a":40,"b":2}`).Status)
	require.Equal(t, http.StatusForbidden, b.call(b.old, calculator, token).Status)
	b.Call(b.old.URL+"/mcp", token, calculator+"__add", `{"a":40,"b":2}`)
	require.Equal(t, http.StatusUnauthorized, b.call(b.now, calculator, token).Status, "it is for another URL")
	require.Zero(t, b.upstream.Count())
	require.Equal(t, http.StatusOK, b.call(b.old, calculator, own).Status, "the client's own token is as good as before")
}

// keepsItsOwnPolicies: gateways read policies themselves, and v0.1.0 compares a denial that is no
// URL, such as one with a wildcard in the port, with the query as well.
func (b *bed) keepsItsOwnPolicies(t *testing.T) {
	t.Helper()
	upstream, err := url.Parse(b.upstream.URL)
	require.NoError(t, err)
	port := upstream.Port()
	for name, query := range map[string]string{"bare": "", "queried": "?key=k"} {
		b.Write("mcp/servers/"+name, harness.Map{"transport": "http", "url": b.upstream.URL + query})
	}
	denied := fmt.Sprintf("http://127.0.0.1:*%s%s", port[1:], upstream.Path)
	b.Write("mcp/policies/local", harness.Map{"deniedMcpServers": fmt.Sprintf(`[{"serverUrl":%q}]`, denied)})
	token := b.CreateClient("denied", harness.Map{"allowed_servers": "bare,queried," + calculator, "policies": "local"})
	b.registered("denied")
	for server, status := range map[string]int{"bare": http.StatusForbidden, "queried": http.StatusOK} {
		require.Equal(t, false, b.Write("mcp/evaluate", harness.Map{"client": "denied", "server": server})["allowed"], server)
		require.Equal(t, http.StatusForbidden, b.call(b.now, server, token).Status, server)
		require.Equal(t, status, b.call(b.old, server, token).Status, server)
	}
}
