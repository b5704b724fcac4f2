package docs

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/docrun"
	"vault-plugin-secrets-mcp/test/harness"
)

// The server of docs/pins.md, and where it is on the page.
const (
	pinnedURL   = "https://wiki.example.com/mcp"
	mayVersion  = "Finds the notes that have a word."
	juneVersion = "Finds the notes that have a word, the newest first."
)

// The digest that the page approves is of the server's place, too, which is another one each time.
var shownDigest = regexp.MustCompile(`-shown sha256:[0-9a-f]{64}`)

const shownNow = `$$(mcp-bootstrap pins diff wiki | sed -n 's/.*-shown \(sha256:[0-9a-f]*\) -yes$$/\1/p')`

// TestDocsPins runs the commands of docs/pins.md. Between the page's parts a client lists the
// server's tools, as the page says, and the server's owner changes one.
func TestDocsPins(t *testing.T) {
	h := harness.New(t)
	var version atomic.Value
	version.Store(mayVersion)
	get := func(*http.Request) *mcp.Server {
		server := mcp.NewServer(&mcp.Implementation{Name: "wiki", Version: "1"}, &mcp.ServerOptions{Instructions: "Search before you write."})
		server.AddTool(&mcp.Tool{Name: "search", Description: version.Load().(string), InputSchema: harness.Map{"type": "object"}}, nil)
		server.AddTool(&mcp.Tool{Name: "write", Description: "Writes a note.", InputSchema: harness.Map{"type": "object"}}, nil)
		return server
	}
	url := h.StartUpstream(mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true})).URL
	gateway := h.StartGateway(harness.GatewayOptions{})
	token := h.CreateClient("reader", harness.Map{"allowed_servers": "wiki"})
	// use lists the server's tools as a client, and waits until so many definitions are reported.
	use := func(reported int) {
		h.Eventually("the gateway knows the server", func() error {
			session, err := h.TryConnect(gateway.ServerURL("wiki"), token, harness.ConnectOptions{Version: harness.SessionEra})
			if err != nil {
				return err
			}
			_, err = session.ListTools(t.Context(), nil)
			return err
		})
		h.Eventually("the gateway reports the definitions", func() error {
			if rows, _ := h.Read("mcp/pins/wiki")["reported"].([]any); len(rows) != reported {
				return fmt.Errorf("%d definitions are reported", len(rows))
			}
			return nil
		})
	}

	policies, err := filepath.Abs("../../bootstrap/policies")
	require.NoError(t, err)
	folder := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(folder, "bootstrap"), 0o700))
	require.NoError(t, os.Symlink(policies, filepath.Join(folder, "bootstrap", "policies")))
	environment := []string{
		"PATH=" + filepath.Dir(h.Programs.Bootstrap) + ":" + filepath.Dir(docrun.VaultBinary(t, folder)) + ":" + os.Getenv("PATH"),
		"VAULT_ADDR=" + h.Vault.Address(), "VAULT_TOKEN=" + h.Vault.RootToken,
	}
	page := docrun.Read(t, "pins.md")
	parts := map[string][]docrun.Command{}
	var all int
	part := func(heading string, before func()) {
		commands, _ := page.Section(heading)
		require.NotEmpty(t, commands, heading)
		parts[heading] = commands
		all += len(commands)
		before()
		run := make([]docrun.Command, len(commands))
		for i, c := range commands {
			text := strings.ReplaceAll(c.Text, pinnedURL, url)
			run[i] = docrun.Command{Text: shownDigest.ReplaceAllString(text, "-shown "+shownNow)}
		}
		docrun.WantOutputs(t, commands, docrun.Run(t, folder, run, environment))
	}
	part("Observe first", func() {})
	part("Approve and enforce", func() { use(4) })
	part("A new version of a server", func() {
		version.Store(juneVersion)
		use(1)
	})
	part("Rights", func() {})
	require.Len(t, page.Commands(), all, "a part of the page is not run")
}
