package reliability

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-plugin-secrets-mcp/test/harness"
)

// TestAGatewayIsToldToEnd sends SIGTERM to one of two gateways while clients call
// tools over both, one of them a slow one, and listen on a stream.
func TestAGatewayIsToldToEnd(t *testing.T) {
	s := newStage(t)
	server := counter()
	asked, release := make(chan struct{}), make(chan struct{})
	mcp.AddTool(server, &mcp.Tool{Name: "slow"}, func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, any, error) {
		close(asked)
		<-release
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "done"}}}, nil, nil
	})
	upstream := s.StartUpstream(withSessions(server))
	s.Write("mcp/servers/counter", harness.Map{"transport": "http", "url": upstream.URL})
	token := s.CreateClient("cursor", harness.Map{"allowed_servers": "*"})
	ending, staying := s.StartGateway(harness.GatewayOptions{}), s.StartGateway(harness.GatewayOptions{})
	both := newBalancer(t, ending, staying)
	s.introduce(t, token, ending, staying)

	var probes []*probe
	for range 4 {
		c := newCaller(t, ending)
		c.url = both.url + "/servers/" + calculator + "/mcp"
		probes = append(probes, c.probe(t, "calls over both", token))
	}
	var slow sync.WaitGroup
	url := ending.ServerURL("counter")
	session := s.newSession(t, url, token)
	slow.Go(func() {
		got := s.Do(http.MethodPost, url, token, http.Header{
			"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
			"Mcp-Session-Id": {session}, "Mcp-Protocol-Version": {harness.SessionEra},
		}, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"slow"}}`)
		if got.Status != http.StatusOK || !strings.Contains(got.Body, "done") {
			t.Errorf("the slow call is answered %d %s", got.Status, got.Body)
		}
	})
	<-asked
	lines := listen(t, url, token, session)

	told := time.Now()
	if err := ending.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	last := ""
	for line := range lines {
		if line != "" {
			last = line
		}
	}
	t.Logf("the stream ended after %s, with %q", since(time.Now(), told), last)
	if !strings.HasPrefix(last, "retry: ") {
		t.Errorf("the stream ended with %q", last)
	}
	if status := s.Do(http.MethodGet, ending.Admin+"/readyz", "", nil, "").Status; status != http.StatusServiceUnavailable {
		t.Errorf("/readyz is answered %d", status)
	}
	<-time.After(time.Until(told.Add(time.Second))) // no more connections are taken
	if !ending.Process.Running() {
		t.Fatal("the gateway has ended before its last request did")
	}
	close(release)
	slow.Wait()
	s.Within(impatience, "the gateway has ended", func() error {
		if ending.Process.Running() {
			return context.DeadlineExceeded
		}
		return nil
	})
	if err := ending.Process.Err(); !strings.Contains(err.Error(), "exit status 0") {
		t.Error(err)
	}
	// Its sessions go on at the other one.
	if status, err := inSession(t, http.MethodPost, staying.ServerURL("counter"), token, session); status != http.StatusOK {
		t.Errorf("the session is answered %d at the other gateway: %v", status, err)
	}
	for _, p := range probes {
		p.stop()
		p.neverFailed(t)
	}
}

// listen opens a session's stream, and returns its lines as they come.
func listen(t *testing.T, url, token, session string) <-chan string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + token, "Accept": "text/event-stream",
		"Mcp-Session-Id": session, "Mcp-Protocol-Version": harness.SessionEra,
	} {
		request.Header.Set(name, value)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		t.Fatalf("a stream is refused: %d", response.StatusCode)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	return lines
}
