package reliability

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-plugin-secrets-mcp/test/harness"
)

// counter is a server that counts, for each session, how often its tool was
// called: an answer tells in which session it was given.
func counter() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "counter", Version: "1"}, nil)
	var mu sync.Mutex
	counts := map[string]int{}
	mcp.AddTool(server, &mcp.Tool{Name: "count"}, func(_ context.Context, r *mcp.CallToolRequest, _ any) (*mcp.CallToolResult, any, error) {
		mu.Lock()
		defer mu.Unlock()
		counts[r.Session.ID()]++
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: fmt.Sprint(counts[r.Session.ID()])}}}, nil, nil
	})
	return server
}

// withSessions serves a server in the era of sessions.
func withSessions(server *mcp.Server) http.Handler {
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)
}

// bearer adds a token to each request.
type bearer struct {
	token string
	next  http.RoundTripper
}

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}

// TestASessionGoesOnAtAnyGateway takes one session of a real client through two
// gateways that take turns, the restart of both, and a change of the keys under
// which session ids are sealed.
func TestASessionGoesOnAtAnyGateway(t *testing.T) {
	s := newStage(t)
	server := counter()
	upstream := s.StartUpstream(withSessions(server))
	s.Write("mcp/servers/counter", harness.Map{"transport": "http", "url": upstream.URL})
	token := s.CreateClient("cursor", harness.Map{"allowed_servers": "counter"})
	first, second := s.StartGateway(harness.GatewayOptions{}), s.StartGateway(harness.GatewayOptions{})
	both := newBalancer(t, first, second)
	s.introduce(t, token, first, second)

	var heard atomic.Int64 // of messages that the server sends unasked
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { heard.Add(1) },
	})
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint:   both.url + "/servers/counter/mcp",
		HTTPClient: &http.Client{Transport: &bearer{token, &harness.Patient{Next: transport}}},
	}, &mcp.ClientSessionOptions{ProtocolVersion: harness.SessionEra})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })

	called := 0
	call := func(what string) {
		t.Helper()
		for range 6 { // three at either gateway
			called++
			result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "count"})
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if got := result.Content[0].(*mcp.TextContent).Text; got != fmt.Sprint(called) {
				t.Fatalf("%s: call %d is the session's call %s", what, called, got)
			}
		}
	}
	added := 0
	listens := func(what string) {
		t.Helper()
		before := heard.Load()
		s.Within(20*time.Second, what+": the client hears the server", func() error {
			added++
			mcp.AddTool(server, &mcp.Tool{Name: fmt.Sprint("tool-", added)}, func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, any, error) {
				return nil, nil, nil
			})
			if heard.Load() == before {
				return errors.New("it has heard nothing")
			}
			return nil
		})
	}
	call("at two gateways that take turns")
	listens("at first")
	first.Restart()
	s.introduce(t, token, first)
	call("after one has restarted")
	listens("after one has restarted")
	second.Kill()
	call("after the other one was killed")
	second.Restart()
	s.introduce(t, token, second)
	call("after both have restarted")
	listens("after both have restarted")
	s.Write("mcp/gateway/keys/rotate", nil)
	call("after a change of keys")
	first.Restart()
	second.Restart()
	s.introduce(t, token, first, second)
	call("after restarts with the new keys")
	listens("after restarts with the new keys")

	ids, handshakes := map[string]bool{}, 0
	for _, r := range upstream.Requests() {
		if strings.Contains(string(r.Body), `"method":"initialize"`) {
			handshakes++
		} else {
			ids[r.Header.Get("Mcp-Session-Id")] = true
		}
	}
	if handshakes != 1 || len(ids) != 1 {
		t.Errorf("the server saw %d handshakes, and %d session ids", handshakes, len(ids))
	}
	for i, g := range []*harness.Gateway{first, second} {
		if !strings.Contains(fmt.Sprint(g.Audit()), "tools/call") {
			t.Errorf("gateway %d was given no call", i+1)
		}
	}
}

// inSession sends a request of a session, and returns the status. The error is
// that of an answer that broke off.
func inSession(t *testing.T, method, url, token, session string) (int, error) {
	t.Helper()
	body := io.Reader(http.NoBody)
	if method == http.MethodPost {
		body = strings.NewReader(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"count"}}`)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Session-Id": session, "Mcp-Protocol-Version": harness.SessionEra,
	} {
		request.Header.Set(name, value)
	}
	response, err := (&harness.Patient{Next: &http.Transport{DisableKeepAlives: true}}).RoundTrip(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if method == http.MethodPost {
		_, err = io.Copy(io.Discard, response.Body)
	}
	return response.StatusCode, err
}

// wantStatus fails the test unless a request of the session is answered so.
func wantStatus(t *testing.T, status int, method, url, token, session string) {
	t.Helper()
	if got, err := inSession(t, method, url, token, session); got != status || err != nil {
		t.Errorf("%s is answered %d, want %d: %v", method, got, status, err)
	}
}

// newSession starts a session by hand, and returns its id.
func (s *stage) newSession(t *testing.T, url, token string) string {
	t.Helper()
	var id string
	s.Within(impatience, "a session starts", func() error {
		got := s.Post(url, token, initialize)
		id = got.Header.Get("Mcp-Session-Id")
		if got.Status != http.StatusOK || id == "" {
			return fmt.Errorf("%d %s", got.Status, got.Body)
		}
		return nil
	})
	got := s.Do(http.MethodPost, url, token, http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Session-Id": {id}, "Mcp-Protocol-Version": {harness.SessionEra},
	}, `{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	if got.Status != http.StatusAccepted {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	return id
}

// TestASessionIsWorthNothingToOthers steals a session's id in every way, and
// wants 404 for each of the requests that it could be used in.
func TestASessionIsWorthNothingToOthers(t *testing.T) {
	s := newStage(t)
	upstream := s.StartUpstream(withSessions(counter()))
	register := func(name string) {
		s.Write("mcp/servers/"+name, harness.Map{"transport": "http", "url": upstream.URL})
	}
	register("counter")
	register("twin")
	s.Write("mcp/servers/notes", harness.Map{"transport": "stdio", "command": s.Programs.Bootstrap, "args": []string{"demo", "notes"}})
	g := s.StartGateway(harness.GatewayOptions{Blocks: map[string]string{"stdio": fmt.Sprintf("allowed_commands = [%q]", s.Programs.Bootstrap)}})
	all := harness.Map{"allowed_servers": "counter,twin,notes"}
	owner, thief := s.CreateClient("owner", all), s.CreateClient("thief", all)

	for name, steal := range map[string]func(s *stage, session string) (server, token string){
		"another client sends it":      func(*stage, string) (string, string) { return "counter", thief },
		"it is sent to another server": func(*stage, string) (string, string) { return "twin", owner },
		"its client was created again": func(s *stage, _ string) (string, string) {
			s.Delete("mcp/clients/owner")
			owner = s.CreateClient("owner", all)
			return "counter", owner
		},
		"its server was pointed elsewhere": func(s *stage, _ string) (string, string) {
			s.Write("mcp/servers/counter", harness.Map{"url": upstream.URL + "/"})
			return "counter", owner
		},
		"its server was registered again": func(s *stage, _ string) (string, string) {
			s.Delete("mcp/servers/counter")
			// By force: clients still name it, and it may have been pointed elsewhere before.
			s.Write("mcp/servers/counter", harness.Map{"transport": "http", "url": upstream.URL, "force": true})
			return "counter", owner
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			session := s.newSession(t, g.ServerURL("counter"), owner)
			server, token := steal(s, session)
			s.Within(promised, "the gateway has heard of it", func() error {
				if status, err := inSession(t, http.MethodPost, g.ServerURL(server), token, session); status != http.StatusNotFound {
					return fmt.Errorf("the answer is %d: %w", status, err)
				}
				return nil
			})
			upstream.Forget()
			for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
				wantStatus(t, http.StatusNotFound, method, g.ServerURL(server), token, session)
			}
			if n := upstream.Count(); n != 0 {
				t.Errorf("the server was sent %d requests", n)
			}
		})
	}

	t.Run("its child process is another client's", func(t *testing.T) {
		s := s.in(t)
		session := s.newSession(t, g.ServerURL("notes"), owner)
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
			wantStatus(t, http.StatusNotFound, method, g.ServerURL("notes"), thief, session)
		}
		wantStatus(t, http.StatusOK, http.MethodPost, g.ServerURL("notes"), owner, session)
	})
	t.Run("but it outlives its token", func(t *testing.T) {
		s := s.in(t)
		session := s.newSession(t, g.ServerURL("counter"), owner)
		rotated := s.Token(s.Write("mcp/rotate-client/owner", harness.Map{"grace_period": "1h"}))
		for token, want := range map[string]int{owner: http.StatusOK, rotated: http.StatusOK, thief: http.StatusNotFound} {
			wantStatus(t, want, http.MethodPost, g.ServerURL("counter"), token, session)
		}
		wantStatus(t, http.StatusNoContent, http.MethodDelete, g.ServerURL("counter"), rotated, session)
	})
	t.Run("the key that sealed it was forgotten", func(t *testing.T) {
		s := s.in(t)
		session := s.newSession(t, g.ServerURL("counter"), owner)
		s.Write("mcp/gateway/keys/rotate", nil)
		wantStatus(t, http.StatusOK, http.MethodPost, g.ServerURL("counter"), owner, session)
		s.Write("mcp/gateway/keys/rotate", harness.Map{"drop_old": true})
		s.Within(impatience, "a session under a key that was forgotten is unknown", func() error {
			if status, err := inSession(t, http.MethodPost, g.ServerURL("counter"), owner, session); err != nil || status != http.StatusNotFound {
				return fmt.Errorf("%d: %w", status, err)
			}
			return nil
		})
		next := s.newSession(t, g.ServerURL("counter"), owner)
		wantStatus(t, http.StatusOK, http.MethodPost, g.ServerURL("counter"), owner, next)
	})
}

// TestASessionUnderAKeyThatAGatewayHasNotHeardOf: one gateway's feed is cut, so
// that it hears of no new key; another one seals a session under it.
func TestASessionUnderAKeyThatAGatewayHasNotHeardOf(t *testing.T) {
	s := newStage(t)
	upstream := s.StartUpstream(withSessions(counter()))
	s.Write("mcp/servers/counter", harness.Map{"transport": "http", "url": upstream.URL})
	token := s.CreateClient("cursor", harness.Map{"allowed_servers": "counter"})
	between := newFeedCutter(t, s.Vault.Address())
	informed, cut := s.StartGateway(harness.GatewayOptions{}), s.StartGateway(harness.GatewayOptions{Vault: between.url})
	s.newSession(t, cut.ServerURL("counter"), token)
	s.feedUp(cut)
	s.feedUp(informed)

	between.cut()
	for round := range 2 {
		s.Write("mcp/gateway/keys/rotate", nil)
		var session string
		s.Eventually("a session is sealed under the new key", func() error {
			session = s.newSession(t, informed.ServerURL("counter"), token)
			wantStatus(t, http.StatusOK, http.MethodPost, cut.ServerURL("counter"), token, session)
			if keyVersion(t, session) != keyVersion(t, s.newSession(t, cut.ServerURL("counter"), token)) {
				return errors.New("the gateways' keys differ")
			}
			if version := keyVersion(t, session); version != round+2 {
				return fmt.Errorf("it is version %d", version)
			}
			return nil
		})
	}
}

// keyVersion reads from a sealed session id under which key it is: after its
// first byte, in four.
func keyVersion(t *testing.T, session string) int {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(session)
	if err != nil || len(raw) < 5 {
		t.Fatalf("a session id that no gateway has sealed: %v", err)
	}
	return int(binary.BigEndian.Uint32(raw[1:]))
}
