package conformance

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/npm"
	"vault-plugin-secrets-mcp/test/signin/bed"
)

// TestSignInIsAnAuthorizationServer runs the scenarios for authorization servers. The runner
// prints the address that a person is to open, and waits for the browser to come back.
func TestSignInIsAnAuthorizationServer(t *testing.T) {
	modules := npm.Install(t)
	b := bed.New(t, bed.Options{SignIn: `metadata_documents = ["https://claude.ai/oauth/"]` + "\n"})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	_, port, err := net.SplitHostPort(harness.FreeAddress(t))
	require.NoError(t, err)
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, modules.Node, modules.Path("conformance-0.2", "dist", "index.js"), "authorization",
		"--url", app.Server.Issuer, "--client-id", app.ID, "--resource", app.Resource, "--port", port, "--output-dir", dir)
	says := &page{opened: make(chan string, 1)}
	cmd.Stdout, cmd.Stderr = says, says
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case address := <-says.opened:
		landed := bed.Approve(b.Browser(bed.Alice).Open(address), bed.Engineering)
		require.Zero(t, landed.Status, landed.Text())
		b.Secret(landed.URL.Query().Get("code"))
		callback(t, landed.URL)
	case err := <-ended:
		t.Fatalf("it has asked for no browser: %v\n%s", err, says)
	}
	require.NoError(t, <-ended, says)

	scenarios := read(t, dir)
	require.Len(t, scenarios, 2)
	for scenario, checks := range scenarios {
		require.NotEmpty(t, checks, scenario)
		for check, said := range checks {
			require.Equal(t, map[string]int{"SUCCESS": 1}, statuses(said), "%s: %s: %v", scenario, check, said)
		}
	}
}

// callback has the browser open the address at which the runner waits.
func callback(t *testing.T, at *url.URL) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at.String(), http.NoBody)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode)
}

// asks is the line in which the runner prints what is to be opened.
var asks = regexp.MustCompile(`(?m)^(http\S+/sign-in/authorize\?\S+)$`)

// page is the runner's output.
type page struct {
	opened chan string

	mu   sync.Mutex
	text bytes.Buffer
	done bool
}

func (p *page) Write(part []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Write(part)
	if address := asks.Find(p.text.Bytes()); address != nil && !p.done {
		p.done = true
		p.opened <- string(address)
	}
	return len(part), nil
}

func (p *page) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}
