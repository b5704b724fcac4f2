package docs

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/docrun"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// TestDocsOperations runs the commands of docs/operations.md against a Vault on
// integrated storage, in the folder from which a gateway takes its login, and checks
// their effects.
func TestDocsOperations(t *testing.T) {
	h := harness.New(t, harness.WithCluster(1))
	h.Write("mcp/servers/"+stage.Calculator, harness.Map{"transport": "http", "url": h.StartUpstream(nil).URL})
	revoked := h.CreateClient("cursor-local", harness.Map{"allowed_servers": stage.Calculator})
	leaked := h.CreateClient("agent-ci", harness.Map{"allowed_servers": stage.Calculator})
	gateway := h.StartGateway(harness.GatewayOptions{})
	s := &stage.Stage{Harness: h, Gateway: gateway}
	s.Works(t, revoked)
	s.Works(t, leaked)

	commands := docrun.Read(t, "operations.md").Commands()
	restored := -1
	for i, c := range commands {
		if strings.Contains(c.Text, "snapshot restore") {
			restored = i
		}
	}
	require.Positive(t, restored)
	env := []string{
		"PATH=" + filepath.Dir(docrun.VaultBinary(t, t.TempDir())) + ":" + os.Getenv("PATH"),
		"VAULT_ADDR=" + h.Vault.Address(), "VAULT_TOKEN=" + h.Vault.RootToken,
	}
	run := func(commands []docrun.Command) {
		docrun.WantOutputs(t, commands, docrun.Run(t, h.Dir, commands, env))
	}

	run(commands[:restored])
	late := h.CreateClient("late", harness.Map{"allowed_servers": stage.Calculator})
	s.Works(t, late)
	run(commands[restored : restored+1])
	h.Within(time.Minute, "what was issued after the snapshot to be unknown", func() error {
		if status := s.Add(late).Status; status != http.StatusUnauthorized {
			return errors.New(http.StatusText(status))
		}
		return nil
	})
	h.Within(time.Minute, "what was revoked after the snapshot to work again", func() error {
		if status := s.Add(revoked).Status; status != http.StatusOK {
			return errors.New(http.StatusText(status))
		}
		return nil
	})

	run(commands[restored+1:])
	for _, token := range []string{revoked, leaked} {
		h.Within(time.Minute, "revoke-all to reach the gateway", func() error {
			if status := s.Add(token).Status; status != http.StatusUnauthorized {
				return errors.New(http.StatusText(status))
			}
			return nil
		})
	}
	next, err := os.ReadFile(filepath.Join(h.Dir, "agent-ci.token"))
	require.NoError(t, err)
	h.Secret(strings.TrimSpace(string(next)))
	h.Within(time.Minute, "a new token to pass a gateway that has logged in again", func() error {
		if status := s.Add(strings.TrimSpace(string(next))).Status; status != http.StatusOK {
			return errors.New(http.StatusText(status))
		}
		return nil
	})
	log, err := os.ReadFile(gateway.Process.Log())
	require.NoError(t, err)
	require.GreaterOrEqual(t, strings.Count(string(log), "logged in to Vault"), 2)
}
