package engine

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/test/harness"
)

// wantBadInput fails the test unless a write was refused with status 400, and
// with words that say what is wrong.
func wantBadInput(t *testing.T, err error, words ...string) {
	t.Helper()
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		t.Fatalf("the write is answered with %v, want a refusal", err)
	}
	if answer.StatusCode != http.StatusBadRequest {
		t.Errorf("answered %d, want 400", answer.StatusCode)
	}
	for _, word := range words {
		if !strings.Contains(answer.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, answer.Errors)
		}
	}
}

func TestBadInputIsRefusedAndLeavesNothingBehind(t *testing.T) {
	h := harness.New(t)
	const own = "own-token-0123456789-0123456789-0123456789"
	h.CreateClient("owner", harness.Map{"access_token": own})
	issued := h.CreateClient("other", nil)
	tests := []struct {
		name, path string
		data       harness.Map
		words      []string
	}{
		{"a mistyped field of a client", "clients/x", harness.Map{"allowed_server": "a"}, []string{`"allowed_server"`, "allowed_servers"}},
		{"a mistyped field of a server", "servers/x", harness.Map{"transport": "http", "uri": "http://h/"}, []string{`"uri"`, "url"}},
		{"a mistyped field of a rotation", "rotate-client/owner", harness.Map{"grace": "1h"}, []string{`"grace"`, "grace_period"}},
		{"a mistyped field of the configuration", "config", harness.Map{"ttl": "1h"}, []string{`"ttl"`, "default_ttl"}},
		{"a mistyped field of a lookup", "lookup", harness.Map{"tokens": "x"}, []string{`"tokens"`}},

		{"a client name in upper case", "clients/Cursor", nil, []string{`"Cursor"`, "lower-case"}},
		{"a client name with a space", "clients/a b", nil, []string{`"a b"`}},
		{"a client name that starts with a dot", "clients/.a", nil, []string{`".a"`}},
		{"a client name without end", "clients/" + strings.Repeat("a", 200), nil, []string{"200 characters"}},
		{"a server name with a dot", "servers/a.b", harness.Map{"transport": "http", "url": "http://h/"}, []string{`"a.b"`}},
		{"a server name with a double underscore", "servers/a__b", harness.Map{"transport": "http", "url": "http://h/"}, []string{"double underscore"}},
		{"a server name that ends in a dash", "servers/a-", harness.Map{"transport": "http", "url": "http://h/"}, []string{`"a-"`}},
		{"an invalid server name, in allowed_servers", "clients/x", harness.Map{"allowed_servers": "a b"}, []string{"allowed_servers", `"a b"`}},
		{"a pattern in allowed_servers", "clients/x", harness.Map{"allowed_servers": "git*"}, []string{"allowed_servers", `"git*"`}},

		{"a server without a transport", "servers/x", harness.Map{"url": "http://h/"}, []string{"transport"}},
		{"a server of an unknown transport", "servers/x", harness.Map{"transport": "ftp", "url": "http://h/"}, []string{`"ftp"`, "http", "stdio"}},
		{"a server without a URL", "servers/x", harness.Map{"transport": "http"}, []string{"url"}},
		{"a server at a file", "servers/x", harness.Map{"transport": "http", "url": "file:///etc/passwd"}, []string{"url", "http"}},
		{"a server with a URL that is not canonical", "servers/x", harness.Map{"transport": "http", "url": "http://H.com/a/../mcp"}, []string{"http://h.com/mcp"}},
		{"a server with a password in its URL", "servers/x", harness.Map{"transport": "http", "url": "http://u:p@h.com/"}, []string{"headers"}},
		{"a stdio server without a command", "servers/x", harness.Map{"transport": "stdio"}, []string{"command"}},
		{"a server with both a URL and a command", "servers/x", harness.Map{"transport": "http", "url": "http://h/", "command": "/bin/true"}, []string{"command"}},
		{"a server with a header of the protocol", "servers/x", harness.Map{"transport": "http", "url": "http://h/", "headers": "Mcp-Session-Id=x"}, []string{"Mcp-Session-Id"}},
		{"a server with a hop-by-hop header", "servers/x", harness.Map{"transport": "http", "url": "http://h/", "headers": "Connection=x"}, []string{"Connection"}},
		{"a server with a line end in a header", "servers/x", harness.Map{"transport": "http", "url": "http://h/", "headers": map[string]string{"X-A": "b\r\nX-C: d"}}, []string{"X-A"}},

		{"a tool rule without a server", "clients/x", harness.Map{"denied_tools": "push"}, []string{"denied_tools", `"push"`, "server/tool"}},
		{"an invalid bound address", "clients/x", harness.Map{"token_bound_cidrs": "10.0.0.0/33"}, []string{"token_bound_cidrs"}},
		{"an invalid time to live", "clients/x", harness.Map{"token_ttl": "soon"}, []string{"token_ttl"}},
		{"a negative time to live", "clients/x", harness.Map{"token_ttl": "-1h"}, []string{"token_ttl"}},
		{"a time to live above its bound", "clients/x", harness.Map{"token_ttl": "2h", "token_max_ttl": "1h"}, []string{"token_ttl", "token_max_ttl"}},

		{"a custom token that is too short", "clients/x", harness.Map{"access_token": "short"}, []string{"access_token", "12"}},
		{"a custom token that is not a b64token", "clients/x", harness.Map{"access_token": "not a b64token, though long enough"}, []string{"access_token", "RFC 6750"}},
		{"a custom token with = inside", "clients/x", harness.Map{"access_token": "abcdefgh=ijklmnopqrstuv"}, []string{"access_token"}},
		{"a custom token that poses as an issued one", "clients/x", harness.Map{"access_token": "mcpt_abcdefghijklmnopqrstuvwxyz"}, []string{"access_token", "reserved"}},
		{"a custom token in use", "clients/x", harness.Map{"access_token": own}, []string{"access_token", "in use"}},
		{"a custom token in use, at a rotation", "rotate-client/other", harness.Map{"access_token": own}, []string{"access_token", "in use"}},
		{"an issued token as a custom one", "clients/x", harness.Map{"access_token": issued}, []string{"access_token"}},
		{"an empty custom token", "clients/x", harness.Map{"access_token": ""}, []string{"access_token"}},

		{"a rotation of a client that is not there", "rotate-client/nobody", nil, []string{`"nobody"`}},
		{"a lookup without a token", "lookup", nil, []string{"token"}},
		{"a negative grace period", "rotate-client/owner", harness.Map{"grace_period": "-1s"}, []string{"grace_period"}},
	}
	before := inventory(h)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := h.In(t).TryWrite("mcp/"+test.path, test.data)
			wantBadInput(t, err, test.words...)
			for _, secret := range []string{own, issued, "not a b64token", `"owner"`, "b\r\n", "u:p"} {
				if strings.Contains(err.Error(), secret) && !strings.HasPrefix(test.path, "rotate-client/owner") {
					t.Errorf("the error shows %q", secret)
				}
			}
		})
	}
	if after := inventory(h); !slices.Equal(before, after) {
		t.Errorf("there was %q, and now there is %q", before, after)
	}
	for _, token := range []string{own, issued} {
		if data := h.Write("mcp/lookup", harness.Map{"token": token}); data["active"] != true {
			t.Error("a token that was in use is not active any more")
		}
	}
}

// inventory lists what the engine holds.
func inventory(h *harness.Harness) []string {
	all := slices.Concat(h.List("mcp/clients"), h.List("mcp/servers"))
	for _, client := range h.List("mcp/clients") {
		all = append(all, h.List("mcp/clients/"+client+"/tokens")...)
	}
	return all
}

func TestWarningsTellWhatIsLikelyNotMeant(t *testing.T) {
	h := harness.New(t)
	tests := []struct {
		name string
		data harness.Map
		want string
	}{
		{"a server that is not registered", harness.Map{"allowed_servers": "later"}, `no server "later" is registered`},
		{"no server at all", nil, "reaches no server"},
		{"every server", harness.Map{"allowed_servers": "*"}, "every server"},
		{"a token without end", harness.Map{"allowed_servers": "later"}, "does not expire"},
		{"a custom token that may be guessed", harness.Map{"allowed_servers": "later", "access_token": "my-token-0123456789"}, "may be guessed"},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := h.In(t)
			if token, ok := test.data["access_token"].(string); ok {
				h.Secret(token)
			}
			answer, err := h.Vault.Client().Logical().WriteWithContext(t.Context(), "mcp/clients/c"+strings.Repeat("x", i), test.data)
			if err != nil {
				t.Fatal(err)
			}
			h.Secret(h.Token(answer.Data))
			if !strings.Contains(strings.Join(answer.Warnings, "\n"), test.want) {
				t.Errorf("the warnings are %q", answer.Warnings)
			}
		})
	}
	t.Run("a server that is registered later can then be reached", func(t *testing.T) {
		h := h.In(t)
		upstream := h.StartUpstream(nil)
		token := h.CreateClient("early", harness.Map{"allowed_servers": "later"})
		gateway := h.StartGateway(harness.GatewayOptions{})
		if r := h.Call(gateway.ServerURL("later"), token, "add", `{"a":40,"b":2}`); r.Status != http.StatusForbidden {
			t.Errorf("before, it is answered %d %s", r.Status, r.Body)
		}
		h.Write("mcp/servers/later", harness.Map{"transport": "http", "url": upstream.URL})
		h.Eventually("the server can be reached", func() error {
			if r := h.Call(gateway.ServerURL("later"), token, "add", `{"a":40,"b":2}`); r.Status != http.StatusOK {
				return errors.New(r.Body)
			}
			return nil
		})
	})
}
