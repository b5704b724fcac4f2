package doctor

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

// object is the answer of one path of the double.
type object = map[string]any

// vaultOf is a Vault that answers paths below mcp/ with the given objects, lists
// with the last parts below a path that ends in a slash, and writes as if they were
// reads. At a path with nil, nothing is written.
func vaultOf(t *testing.T, held map[string]object) *api.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/v1/mcp/")
		if r.URL.Query().Get("list") == "true" || r.Method == "LIST" {
			path += "/"
		}
		data, found := held[path]
		if !found {
			http.NotFound(w, r)
			return
		}
		if data == nil {
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"errors": []}`))
			return
		}
		_ = json.NewEncoder(w).Encode(object{"data": data})
	}))
	t.Cleanup(server.Close)
	config := api.DefaultConfig()
	config.Address, config.MaxRetries = server.URL, 0
	client, err := api.NewClient(config)
	require.NoError(t, err)
	client.SetToken("a-token")
	return client
}

func TestEachClientHasATokenThatIsGood(t *testing.T) {
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339Nano) }
	client := func(accessor any, expires any) object {
		return object{"allowed_servers": []string{"s"}, "accessor": accessor, "expires_at": expires, "disabled": false}
	}
	token := func(kind, state string) object { return object{"kind": kind, "state": state} }
	for name, test := range map[string]struct {
		client object
		tokens map[string]object
		want   string // "": nothing is wrong
	}{
		"one that never ends":          {client("a", ""), map[string]object{"a": token("issued", "active")}, ""},
		"one that ends late":           {client("a", at(100*time.Hour)), map[string]object{"a": token("issued", "active")}, ""},
		"one that ends soon":           {client("a", at(10*time.Hour)), map[string]object{"a": token("issued", "active")}, "the token of the client c ends in 10h"},
		"one that has ended":           {client("a", at(-time.Hour)), map[string]object{"a": token("issued", "expired")}, "the token of the client c has ended at"},
		"one that has ended, a lease":  {client("a", at(-time.Hour)), map[string]object{"a": token("issued", "expired"), "b": token("leased", "active")}, ""},
		"one that was revoked":         {client("", ""), nil, "the client c has no valid token"},
		"one that was revoked, unset":  {client(nil, nil), nil, "the client c has no valid token"},
		"revoked with all of a mount":  {client("a", ""), map[string]object{"a": token("issued", "revoked")}, "the client c has no valid token"},
		"revoked, and would have long": {client("a", at(100*time.Hour)), map[string]object{"a": token("issued", "revoked")}, "the client c has no valid token"},
		"revoked, and a lease":         {client("", ""), map[string]object{"b": token("leased", "active")}, ""},
		"leases that were revoked":     {client("", ""), map[string]object{"b": token("leased", "revoked")}, "the client c has no valid token"},
		"none, and disabled":           {object{"disabled": true}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			held := map[string]object{
				"clients/":  {"keys": []string{"c"}},
				"clients/c": test.client,
				"evaluate":  {"allowed": true},
			}
			var accessors []string
			for _, accessor := range []string{"a", "b"} {
				if data := test.tokens[accessor]; data != nil {
					accessors = append(accessors, accessor)
					held["clients/c/tokens/"+accessor] = data
				}
			}
			held["clients/c/tokens/"] = object{"keys": accessors}
			var out strings.Builder
			e := &examination{Options: Options{Mount: "mcp", Expiring: 72 * time.Hour, Out: &out}, vault: vaultOf(t, held)}
			e.checkClients(t.Context())
			if test.want == "" {
				require.Zero(t, e.findings, out.String())
				require.Contains(t, out.String(), "ok    clients: 1")
				return
			}
			require.Equal(t, 1, e.findings, out.String())
			require.Contains(t, out.String(), test.want)
			require.Contains(t, out.String(), "vault write -f mcp/rotate-client/c")
		})
	}
}
