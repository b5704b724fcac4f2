package bed

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

// Request is one request of MCP, or of anything else, from an application.
type Request struct {
	Method, URL, Token string
	Header             http.Header
	Body               string
}

// Do sends one request. It repeats it as [harness.Patient] does, and may be called by many
// goroutines.
func (a *Application) Do(r Request) (harness.Response, error) {
	response, err := a.open(a.t.Context(), r)
	if err != nil {
		return harness.Response{}, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return harness.Response{Status: response.StatusCode, Header: response.Header, Body: string(content)}, err
}

func (a *Application) open(ctx context.Context, r Request) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, r.Method, r.URL, strings.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	if r.Method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	request.Header.Set("Accept", "application/json, text/event-stream")
	request.Header.Set(source, a.Source)
	if r.Token != "" {
		request.Header.Set("Authorization", "Bearer "+r.Token)
	}
	for name, values := range r.Header {
		request.Header[name] = values
	}
	return (&harness.Patient{Next: a.client.Transport}).RoundTrip(request)
}

// Try calls the calculator with a token at a resource, in the stateless era.
func (a *Application) Try(at, token string) (harness.Response, error) {
	return a.Do(Request{Method: http.MethodPost, URL: at, Token: token, Body: harness.CallBody("add", sum), Header: http.Header{
		"Mcp-Protocol-Version": {harness.StatelessEra}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {"add"},
	}})
}

// sum are the arguments of such a call, and answer is in its answer.
const (
	sum    = `{"a":40,"b":2}`
	answer = "42"
)

// Try calls the calculator at the session's resource.
func (s *Session) Try() (harness.Response, error) {
	return s.Application.Try(s.Application.Resource, s.AccessToken)
}

// Works fails the test unless the session can call the calculator.
func (s *Session) Works(t *testing.T) {
	t.Helper()
	if got, err := s.Try(); err != nil || got.Status != http.StatusOK || !strings.Contains(got.Body, answer) {
		t.Fatalf("the answer to the call is %d %s %v", got.Status, got.Body, err)
	}
}

// Out fails the test unless the session is out within that time.
func (s *Session) Out(t *testing.T, bound time.Duration) {
	t.Helper()
	s.Application.bed.In(t).Within(bound, "the access token is refused", func() error {
		got, err := s.Try()
		if err != nil {
			return err
		}
		if got.Status != http.StatusUnauthorized {
			return fmt.Errorf("the answer is %d %s", got.Status, got.Body)
		}
		return nil
	})
}

// Conversation is a session of MCP.
type Conversation struct {
	*Session
	// ID is the session's, as the gateway says it.
	ID string
}

// Converse opens a session of MCP at the session's resource.
func (s *Session) Converse(t *testing.T) *Conversation {
	t.Helper()
	got, err := s.Application.Do(Request{
		Method: http.MethodPost, URL: s.Application.Resource, Token: s.AccessToken,
		Body: `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"` + harness.SessionEra +
			`","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}`,
	})
	if err != nil || got.Status != http.StatusOK || got.Header.Get("Mcp-Session-Id") == "" {
		t.Fatalf("no session is opened: %d %s %v", got.Status, got.Body, err)
	}
	c := &Conversation{Session: s, ID: got.Header.Get("Mcp-Session-Id")}
	if got, err := c.Send(`{"jsonrpc":"2.0","method":"notifications/initialized"}`); err != nil || got.Status != http.StatusAccepted {
		t.Fatalf("the answer to a notification is %d %s %v", got.Status, got.Body, err)
	}
	return c
}

// Send sends one message in the session.
func (c *Conversation) Send(body string) (harness.Response, error) {
	return c.Application.Do(c.Message(http.MethodPost, body))
}

// Message is a request in the session, with its newest access token.
func (c *Conversation) Message(method, body string) Request {
	return Request{Method: method, URL: c.Application.Resource, Token: c.AccessToken, Body: body, Header: http.Header{
		"Mcp-Session-Id": {c.ID}, "Mcp-Protocol-Version": {harness.SessionEra},
	}}
}

// Call calls a tool, and returns the answer's body.
func (c *Conversation) Call(t *testing.T, tool, arguments string) string {
	t.Helper()
	got, err := c.Send(`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"` + tool + `","arguments":` + arguments + `}}`)
	if err != nil || got.Status != http.StatusOK {
		t.Fatalf("the answer to %s is %d %s %v", tool, got.Status, got.Body, err)
	}
	return got.Body
}

// Stream is an open stream of server-sent events.
type Stream struct {
	// Ended is closed when it has ended.
	Ended chan struct{}

	lines []string // complete once it has ended
	body  io.Closer
}

// Listen opens the session's stream.
func (c *Conversation) Listen(t *testing.T) *Stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	response, err := c.Application.open(ctx, c.Message(http.MethodGet, ""))
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		t.Fatalf("no stream: %d %s", response.StatusCode, body)
	}
	s := &Stream{Ended: make(chan struct{}), body: response.Body}
	go func() {
		defer close(s.Ended)
		defer response.Body.Close()
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			s.lines = append(s.lines, lines.Text())
		}
	}()
	return s
}

// AwaitEnd waits for its end, at most for that time, and returns its lines.
func (s *Stream) AwaitEnd(t *testing.T, bound time.Duration) []string {
	t.Helper()
	select {
	case <-s.Ended:
		return s.lines
	case <-time.After(bound):
		t.Fatalf("the stream is open after %s", bound)
		return nil
	}
}

// Open fails the test if the stream has ended.
func (s *Stream) Open(t *testing.T) {
	t.Helper()
	select {
	case <-s.Ended:
		t.Fatalf("the stream has ended: %q", s.lines)
	default:
	}
}
