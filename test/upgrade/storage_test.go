package upgrade

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// past has the writes to the engine of v0.1.0, and its answers.
type past struct {
	tokens    map[string]string      // by their kind
	active    map[string]bool        // which of them it accepted
	lookups   map[string]harness.Map // of the tokens
	decisions map[string]any         // by "client server"
	read      map[string]harness.Map // by path
	lease     string                 // id of the lease of a token
	feed      url.Values             // where its change feed was
}

// settings are the fields in the answers to reads that v0.1.0 had, by the path's first part.
var settings = map[string][]string{
	"clients":  {"client_id", "allowed_servers", "allowed_tools", "denied_tools", "policies", "token_bound_cidrs", "metadata", "disabled", "accessor"},
	"servers":  {"id", "transport", "url", "url_query", "command", "args", "env", "headers", "shared", "description"},
	"policies": {"managed", "allowedMcpServers", "deniedMcpServers", "allowManagedMcpServersOnly"},
	"config":   {"default_ttl", "max_ttl", "min_custom_token_length"},
}

// fill has one of everything that v0.1.0 stores. A server and a policy have values that only v0.1.0
// accepts.
func (b *bed) fill(t *testing.T) *past {
	t.Helper()
	b.Write("mcp/config", harness.Map{"default_ttl": "720h", "max_ttl": "2000h", "min_custom_token_length": 24})
	b.Write("mcp/servers/headed", harness.Map{
		"transport": "http", "url": b.upstream.URL + "?key=k-123", "description": "adds",
		"headers": harness.Map{"X-Team": "${TEAM}", "X-Key": "upstream-secret"},
	})
	b.Write("mcp/servers/notes", harness.Map{
		"transport": "stdio", "command": "/usr/local/bin/notes", "args": []string{"--root", "/srv/notes"},
		"env": harness.Map{"NOTES_KEY": "env-secret"}, "shared": true,
	})
	b.Write("mcp/policies/corp", harness.Map{"managed": true, "deniedMcpServers": `[{"serverUrl":"https://*.evil.example/*"}]`, "deniedMcpServer": `[]`})
	b.Write("mcp/policies/team", harness.Map{"allowedMcpServers": `[{"serverName":"calculator"},{"serverUrl":"http://127.0.0.1:*/*"}]`})

	const every = calculator + ",headed,notes"
	was := &past{tokens: map[string]string{
		"plain":       b.client("plain", harness.Map{"allowed_servers": every, "metadata": harness.Map{"team": "core"}}),
		"ruled":       b.client("ruled", harness.Map{"allowed_servers": every, "policies": "team", "denied_tools": "notes/delete_*", "token_bound_cidrs": "127.0.0.0/8"}),
		"elsewhere":   b.client("elsewhere", harness.Map{"token_bound_cidrs": "10.0.0.0/8"}),
		"rotated-old": b.client("rotated", nil),
		"revoked":     b.client("revoked", nil),
		"disabled":    b.client("disabled", nil),
		"deleted":     b.client("deleted", nil),
		"custom":      "custom-token-of-the-test-0001",
		"spent":       "custom-token-of-the-test-0002",
	}}
	was.tokens["rotated-new"] = b.Token(b.Write("mcp/rotate-client/rotated", harness.Map{"grace_period": "24h", "rotation_id": "first"}))
	b.Write("mcp/revoke-client/revoked", nil)
	b.Write("mcp/clients/disabled", harness.Map{"disabled": true})
	b.Delete("mcp/clients/deleted")
	for _, name := range []string{"custom", "spent"} {
		b.Write("mcp/clients/"+name, harness.Map{"allowed_servers": calculator, "access_token": was.tokens[name]})
	}
	b.Write("mcp/revoke", harness.Map{"token": was.tokens["spent"]})
	b.client("leasing", harness.Map{"token_ttl": "1h", "token_max_ttl": "6h"})
	for _, name := range []string{"leased", "leased-ended"} {
		secret, err := b.Vault.Client().Logical().ReadWithContext(t.Context(), "mcp/creds/leasing")
		require.NoError(t, err)
		was.tokens[name] = b.Token(secret.Data)
		b.Secret(was.tokens[name])
		if name == "leased" {
			was.lease = secret.LeaseID
		} else {
			require.NoError(t, b.Vault.Client().Sys().RevokeWithContext(t.Context(), secret.LeaseID))
		}
	}
	b.Write("mcp/gateway/keys/rotate", nil)
	was.record(b)
	for name, active := range map[string]bool{"plain": true, "leased": true, "rotated-old": true, "spent": false, "disabled": false, "deleted": false, "leased-ended": false} {
		require.Equal(t, active, was.active[name], name)
	}
	require.Equal(t, http.StatusOK, b.call(b.old, "headed", was.tokens["plain"]).Status)
	return was
}

// record keeps the answers.
func (was *past) record(b *bed) {
	was.active, was.lookups, was.decisions, was.read = map[string]bool{}, map[string]harness.Map{}, map[string]any{}, map[string]harness.Map{}
	for name, token := range was.tokens {
		was.lookups[name] = b.Write("mcp/lookup", harness.Map{"token": token})
		was.active[name] = was.lookups[name]["active"] == true
	}
	for _, client := range b.List("mcp/clients") {
		for _, server := range b.List("mcp/servers") {
			was.decisions[client+" "+server] = b.Write("mcp/evaluate", harness.Map{"client": client, "server": server})["decision"]
		}
	}
	for _, kind := range []string{"clients", "servers", "policies"} {
		for _, name := range b.List("mcp/" + kind) {
			was.read[kind+"/"+name] = b.Read("mcp/" + kind + "/" + name)
		}
	}
	for _, path := range []string{"config", "gateway/servers", "gateway/keys"} {
		was.read[path] = b.Read("mcp/" + path)
	}
	head := b.Read("mcp/changes")
	was.feed = url.Values{"epoch": {fmt.Sprint(head["epoch"])}, "index": {fmt.Sprint(head["index"])}}
}

// readsTheSame compares the answers of the present engine with those of v0.1.0, and then uses
// the tokens that v0.1.0 has issued.
func (b *bed) readsTheSame(t *testing.T, was *past) {
	t.Helper()
	is := &past{tokens: was.tokens}
	is.record(b)
	for name, old := range was.lookups {
		for field, value := range old {
			switch field {
			case "answered_at", "epoch", "index", "client_version", "ttl":
			default:
				require.Equal(t, plain(t, value), plain(t, is.lookups[name][field]), "%s of the token %q", field, name)
			}
		}
	}
	for of, decision := range was.decisions {
		if of != "disabled "+calculator && of != "disabled headed" && of != "disabled notes" { // of which v0.1.0 says nothing here
			require.Equal(t, decision, is.decisions[of], of)
		}
	}
	for path, old := range was.read {
		kind, _, _ := strings.Cut(path, "/")
		for _, field := range settings[kind] {
			if value, has := old[field]; has {
				require.Equal(t, plain(t, value), plain(t, is.read[path][field]), "%s of %s", field, path)
			}
		}
	}
	require.Equal(t, was.read["gateway/keys"]["mount_id"], is.read["gateway/keys"]["mount_id"])
	require.Equal(t, was.read["gateway/keys"]["keys"], is.read["gateway/keys"]["keys"])
	for name, old := range was.read["gateway/servers"]["servers"].(harness.Map) {
		for field, value := range old.(harness.Map) {
			got := is.read["gateway/servers"]["servers"].(harness.Map)[name].(harness.Map)[field]
			require.Equal(t, plain(t, value), plain(t, got), "%s of %s", field, name)
		}
	}
	for _, g := range []*harness.Gateway{b.old, b.now} {
		for token, status := range map[string]int{
			"plain": http.StatusOK, "ruled": http.StatusOK, "custom": http.StatusOK, "leased": http.StatusOK, "rotated-old": http.StatusOK,
			"elsewhere": http.StatusUnauthorized, "spent": http.StatusUnauthorized, "disabled": http.StatusUnauthorized,
			"deleted": http.StatusUnauthorized, "revoked": http.StatusUnauthorized, "leased-ended": http.StatusUnauthorized,
		} {
			require.Equal(t, status, b.call(g, calculator, was.tokens[token]).Status, "the token %q", token)
		}
		require.Equal(t, http.StatusOK, b.call(g, "headed", was.tokens["plain"]).Status)
	}

	sys := b.Vault.Client().Sys()
	_, err := sys.RenewWithContext(t.Context(), was.lease, 3600)
	require.NoError(t, err)
	require.NoError(t, sys.RevokeWithContext(t.Context(), was.lease))
	b.Write("mcp/rotate-client/rotated", harness.Map{"grace_period": "0"})
	for _, name := range []string{"leased", "rotated-old", "rotated-new"} {
		require.Equal(t, false, b.Write("mcp/lookup", harness.Map{"token": was.tokens[name]})["active"], name)
	}
	_, err = b.TryWrite("mcp/clients/again", harness.Map{"access_token": was.tokens["spent"]})
	require.ErrorContains(t, err, "access_token")
	answer, err := b.Vault.Client().Logical().ReadWithDataWithContext(t.Context(), "mcp/changes", was.feed)
	require.NoError(t, err)
	require.Equal(t, false, answer.Data["reset"], "the feed goes on where it was")
	require.Contains(t, fmt.Sprint(answer.Data["changes"]), fmt.Sprint(was.lookups["leased"]["accessor"]))
}

// sharesSessions goes on with a session of one gateway at the other.
func (b *bed) sharesSessions(t *testing.T, was *past) {
	t.Helper()
	token := was.tokens["plain"]
	for _, from := range []*harness.Gateway{b.old, b.now} {
		id := stage.OpenSession(t, b.Harness, from.ServerURL(calculator), token)
		for _, at := range []*harness.Gateway{b.old, b.now} {
			r := b.Do(http.MethodPost, at.ServerURL(calculator), token, stage.InSession(id),
				`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"add","arguments":{"a":40,"b":2}}}`)
			require.Equal(t, http.StatusOK, r.Status, r.Body)
			require.Contains(t, r.Body, "42")
		}
	}
}

// plain is a value as JSON has it, with one form of nothing.
func plain(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	switch string(text) {
	case "null", "[]", "{}", `""`:
		return "nothing"
	}
	return string(text)
}
