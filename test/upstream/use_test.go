package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
	"vault-plugin-secrets-mcp/test/upstream/bed"
	"vault-plugin-secrets-mcp/test/upstream/servers"
)

// TestEachServerGetsWhatItsRegistrationSays: every form of a placeholder, on each transport.
func TestEachServerGetsWhatItsRegistrationSays(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{})
	token := w.client("c", nil)
	seen := w.look(w.connect(web, token))
	require.Equal(t, "c", w.owner(&seen))
	require.Equal(t, "Bearer github-token-of-c", seen.Header.Get("Authorization"))
	require.Equal(t, "the same for all", seen.Header.Get("X-Static"))
	password := seen.Header.Get("X-Password")
	user, basic := basicAuth(t, seen.Header.Get("X-Basic"))
	require.Equal(t, "deploy", user)
	require.Equal(t, password, basic)
	verified := w.Write("ssh/verify", harness.Map{"otp": password})
	require.Equal(t, "127.0.0.1", verified["ip"])
	require.Empty(t, seen.Header.Get("X-Vault-Token"), "the server has got a Vault token")

	seen = w.look(w.connect(old, token))
	require.Equal(t, "c", w.owner(&seen))
	seen = w.look(w.connect(child, token))
	require.Equal(t, "c", w.owner(&seen))

	session := w.connect(notes, token)
	for path, status := range map[string]int{
		"kv/data/notes/mcp:c":                       200,
		"kv/data/notes/mcp:d":                       403,
		"kv/data/mcp/mcp:c/github":                  403, // of another server
		"auth/token/accessors":                      403,
		"sys/leases/lookup/pki/issue/mcp?list=true": 403,
	} {
		require.Equal(t, status, ask[servers.Reading](t, session, "read", servers.Place{Path: path}).Status, path)
	}
	w.ownFiles(&seen)
}

// basicAuth reads the value of a header for basic authentication.
func basicAuth(t *testing.T, value string) (user, password string) {
	t.Helper()
	request := http.Request{Header: http.Header{"Authorization": {value}}}
	user, password, ok := request.BasicAuth()
	require.True(t, ok, "the header is not of that form")
	return user, password
}

// ownFiles looks at the files of a server on stdio: they are its account's alone, in its
// home, and go with it.
func (w *surroundings) ownFiles(seen *servers.Sight) {
	w.t.Helper()
	require.Len(w.t, seen.Paths, 2)
	for _, path := range seen.Paths {
		info, err := os.Stat(path)
		require.NoError(w.t, err)
		require.Equal(w.t, os.FileMode(0o600), info.Mode().Perm())
		if os.Geteuid() == 0 {
			require.GreaterOrEqual(w.t, info.Sys().(*syscall.Stat_t).Uid, uint32(firstAccount))
		}
	}
	key := seen.Files["LEASED_FILE_KEY"]
	require.True(w.t, strings.HasPrefix(key, "-----BEGIN") && strings.HasSuffix(key, "-----\n"), "the file is not what Vault has issued")
	w.Write("mcp/revoke-client/c", nil)
	w.Within(beside, "the files are gone", func() error {
		for _, path := range seen.Paths {
			if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, os.ErrNotExist) {
				return errors.New("they are there")
			}
		}
		return nil
	})
}

// TestAllServersAsOneLeaseOnce: at /mcp a client has the same credentials as at each
// server's own endpoint. Requests that the gateway makes of its own accord, for lists and
// to learn the server's protocol, carry the asking client's credentials.
func TestAllServersAsOneLeaseOnce(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{})
	for _, client := range []string{"c", "d"} {
		token := w.client(client, nil)
		for _, era := range []string{harness.SessionEra, harness.StatelessEra} {
			session := stage.Connect(t, w.Harness, w.gateway.URL+"/mcp", token, era)
			for _, server := range []string{web, old, child} {
				stage.WantTools(t, w.Harness, session, server+"__", []string{"look", "wait"})
				seen := ask[servers.Sight](t, session, server+"__look", harness.Map{})
				w.declare(&seen)
				require.Equal(t, client, w.owner(&seen), server)
				alone := w.look(w.connect(server, token))
				require.Equal(t, seen.Header.Get("X-Serial")+seen.Env["LEASED_SERIAL"], alone.Header.Get("X-Serial")+alone.Env["LEASED_SERIAL"])
			}
		}
	}
	require.Len(t, bed.Leases(w.Harness, "pki/issue/mcp"), 6)
	for _, server := range []string{web, old} {
		serials := map[string]bool{}
		for _, request := range w.upstreams[server].Requests() {
			serials[request.Header.Get("X-Serial")] = true
		}
		if len(serials) != 2 || serials[""] {
			t.Errorf("requests to %s came with %v", server, serials)
		}
	}
}

// TestAnAuditLineLeadsToTheLease: from a tool to the client's entity and leases in Vault.
func TestAnAuditLineLeadsToTheLease(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{})
	w.look(w.connect(web, w.client("c", nil)))
	line := w.line(0, func(line harness.Map) bool { return line["tool"] == "look" && line["type"] == "decision" })
	tokens := w.tokens("c")
	require.Len(t, tokens, 1)
	require.Equal(t, tokens[0].Accessor, line["credential_accessor"])
	leases, _ := line["lease_ids"].([]any)
	require.ElementsMatch(t, bed.AllLeases(w.Harness), texts(leases))
	vault, err := os.ReadFile(filepath.Join(w.Dir, "vault-audit.log"))
	require.NoError(t, err)
	found := false
	for line := range strings.Lines(string(vault)) {
		found = found || strings.Contains(line, `"path":"pki/issue/mcp"`) && strings.Contains(line, `"entity_id":"`+tokens[0].Entity+`"`)
	}
	require.True(t, found, "Vault's audit log does not name the client's entity")
}

func texts(values []any) []string {
	var all []string
	for _, value := range values {
		all = append(all, fmt.Sprint(value))
	}
	return all
}
