package reliability

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
)

// keeping are ways in which a server leaves an answer to one request where the next one would find it.
// Each is given the answer, whole.
var keeping = map[string]struct {
	does   func(answer string) string
	passes bool // the client that has asked gets the answer
}{
	"it answers twice":                    {func(answer string) string { return answer + answer }, true},
	"it says more than it announces":      {func(answer string) string { return answer + "\r\n" + answer }, true},
	"it accepts, and answers":             {func(answer string) string { return "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n" + answer }, false},
	"it has no content, and content":      {func(answer string) string { return strings.Replace(answer, "200 OK", "204 No Content", 1) + answer }, false},
	"it announces two lengths":            {func(answer string) string { return strings.Replace(answer, "\r\n", "\r\nContent-Length: 0\r\n", 1) }, false},
	"it announces a length beside chunks": {func(answer string) string { return inChunks("Content-Length: 7\r\n", "") + answer }, false},
	"it hides the end of its chunks":      {func(answer string) string { return inChunks("", ";a=\"\r\n\r\n\"") + answer }, false},
}

// inChunks is an answer with other lines in its header, and an extension of its last chunk.
func inChunks(lines, extension string) string {
	return jsonHead + lines + "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0" + extension + "\r\n\r\n"
}

// TestNoClientGetsTheAnswerToAnother: the connections to a server are shared by all clients of a gateway.
func TestNoClientGetsTheAnswerToAnother(t *testing.T) {
	own := httptest.NewTLSServer(http.NotFoundHandler())
	defer own.Close()
	authorities := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authorities, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: own.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newStage(t)
	var mu sync.Mutex
	var trick func(string) string
	for scheme, config := range map[string]*tls.Config{"http": nil, "https": {Certificates: own.TLS.Certificates, MinVersion: tls.VersionTLS12}} {
		address := keepingServer(t, config, func(answer string) string {
			mu.Lock()
			defer mu.Unlock()
			return trick(answer)
		})
		s.Write("mcp/servers/keeping-"+scheme, harness.Map{"transport": "http", "url": scheme + "://" + address + "/mcp"})
	}
	g := s.StartGateway(harness.GatewayOptions{Blocks: map[string]string{
		`upstream "keeping-https"`: fmt.Sprintf("ca_cert_file = %q", authorities),
	}})
	tokens := map[string]string{}
	for _, client := range []string{"alice", "bob"} {
		tokens[client] = s.CreateClient(client, harness.Map{"allowed_servers": "keeping-http,keeping-https"})
	}
	for name, how := range keeping {
		for _, scheme := range []string{"http", "https"} {
			t.Run(name+", "+scheme, func(t *testing.T) {
				mu.Lock()
				trick = how.does
				mu.Unlock()
				for i := range 6 {
					client, other := "alice", "bob"
					if i%2 == 1 {
						client, other = other, client
					}
					argument := fmt.Sprintf("%s-%d", client, i)
					body := askKeeping(t, g, "keeping-"+scheme, tokens[client], argument)
					if strings.Contains(body, other) || strings.Contains(strings.ReplaceAll(body, argument, ""), client) {
						t.Errorf("%s got the answer to another request: %s", client, body)
					}
					if how.passes != strings.Contains(body, argument) {
						t.Errorf("%s got %q", argument, body)
					}
				}
			})
		}
	}
}

// keepingServer answers each request with the argument of its call, in the way that say makes of it.
func keepingServer(t *testing.T, config *tls.Config, say func(answer string) string) (address string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	address = listener.Addr().String()
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serveKeeping(conn, say)
		}
	}()
	return address
}

func serveKeeping(conn net.Conn, say func(answer string) string) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		var call struct {
			Params struct{ Arguments struct{ A string } }
		}
		body, _ := io.ReadAll(request.Body)
		_ = json.Unmarshal(body, &call)
		text := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":%q}]}}`, call.Params.Arguments.A)
		if _, err := io.WriteString(conn, say(fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", jsonHead, len(text), text))); err != nil {
			return
		}
	}
}

func askKeeping(t *testing.T, g *harness.Gateway, server, token, argument string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), impatience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, g.ServerURL(server), strings.NewReader(harness.CallBody("add", fmt.Sprintf(`{"a":%q}`, argument))))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": harness.StatelessEra, "Mcp-Method": "tools/call", "Mcp-Name": "add",
	} {
		request.Header.Set(name, value)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return string(body)
}
