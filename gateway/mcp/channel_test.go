package mcp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// sseServer is a server of the HTTP+SSE transport made with the official SDK.
func sseServer(t *testing.T) *gatewaytest.Upstream {
	t.Helper()
	server := mcp.NewServer(&mcp.Implementation{Name: "old", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "greet"}, func(ctx context.Context, r *mcp.CallToolRequest, in struct {
		Name string `json:"name"`
	},
	) (*mcp.CallToolResult, any, error) {
		if token := r.Params.GetProgressToken(); token != nil {
			err := r.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{ProgressToken: token, Progress: 1})
			if err != nil {
				return nil, nil, err
			}
		}
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "hello " + in.Name}}}, nil, nil
	})
	handler := mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return server }, nil)
	return gatewaytest.NewUpstream(t, handler.ServeHTTP)
}

func sseRegistration(u *gatewaytest.Upstream) *grants.Server {
	s := registration(u)
	s.Transport = grants.TransportSSE
	s.Headers = map[string]string{"X-Api-Key": "k"}
	return s
}

func TestAServerOfTheOldTransport(t *testing.T) {
	up := sseServer(t)
	g := newGateway(t, testConfig(), sseRegistration(up))
	got := g.Ask(t, initOnce)
	require.Equal(t, http.StatusOK, got.Status, got.Body)
	session := []string{"Mcp-Session-Id", got.Header.Get("Mcp-Session-Id"), "MCP-Protocol-Version", "2025-11-25"}
	require.Equal(t, http.StatusAccepted, g.Ask(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, session...).Status)

	got = g.Ask(t, `{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"greet","arguments":{"name":"you"}}}`, session...)
	require.Contains(t, got.Body, "hello you")
	require.Contains(t, got.Body, `"id":"x"`)
	r, err := g.Do(t.Context(), `{"jsonrpc":"2.0","id":"y","method":"tools/call","params":{"name":"greet","arguments":{"name":"me"},"_meta":{"progressToken":"p"}}}`, session...)
	require.NoError(t, err)
	said := events(t, r.Body, 2)
	require.Contains(t, said[0], `"progressToken":"p"`)
	require.Contains(t, said[1], "hello me")
	require.NoError(t, r.Body.Close())

	for _, request := range up.Requests() {
		require.Equal(t, "k", request.Header.Get("X-Api-Key"))
		require.Empty(t, request.Header.Get("Authorization"))
	}

	body, header := modern("1", "tools/list", "")
	require.Equal(t, http.StatusBadRequest, g.Ask(t, body, header...).Status)
	require.Equal(t, http.StatusNotFound, g.Ask(t, ping, append(session, ":token", "bob")...).Status)
	require.Equal(t, http.StatusNoContent, g.Ask(t, "", append(session, ":method", "DELETE")...).Status)
	require.Equal(t, http.StatusNotFound, g.Ask(t, ping, session...).Status)
}

// oldFake is a server of the HTTP+SSE transport under the test's control.
type oldFake struct {
	*gatewaytest.Upstream
	first  string // what its stream starts with
	status int    // of the answers to messages
	answer bool   // answer requests on the stream

	mu     sync.Mutex
	stream chan string
}

func newOldFake(t *testing.T, first string) *oldFake {
	t.Helper()
	f := &oldFake{first: first, status: http.StatusAccepted, answer: true, stream: make(chan string, 10)}
	f.Upstream = gatewaytest.NewUpstream(t, f.serve)
	return f
}

func (f *oldFake) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		body, _ := io.ReadAll(r.Body)
		var m struct{ ID json.RawMessage }
		_ = json.Unmarshal(body, &m)
		f.mu.Lock()
		status := f.status
		if f.answer && m.ID != nil && status == http.StatusAccepted {
			f.stream <- fmt.Sprintf("event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{\"serverInfo\":{}}}\n\n", m.ID)
		}
		f.mu.Unlock()
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, f.first)
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case event := <-f.stream:
			if event == "" {
				return
			}
			_, _ = io.WriteString(w, event)
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (f *oldFake) setStatus(status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = status
}

func TestTheEndpointMustBeTheServersOwn(t *testing.T) {
	own := newOldFake(t, "event: endpoint\ndata: /messages?session=1\n\n")
	g := newGateway(t, testConfig(), sseRegistration(own.Upstream))
	g.open(t, "alice")
	r, _ := own.Last()
	require.Equal(t, "/messages?session=1", r.RequestURI)

	elsewhere := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	for name, first := range map[string]string{
		"another origin":         "event: endpoint\ndata: " + elsewhere.URL + "/x\n\n",
		"another host, relative": "event: endpoint\ndata: //127.0.0.2/x\n\n",
		"another scheme":         "event: endpoint\ndata: " + strings.Replace(own.URL, "http:", "https:", 1) + "/x\n\n",
		"credentials of its own": "event: endpoint\ndata: " + strings.Replace(own.URL, "http://", "http://user@", 1) + "/x\n\n",
		"no URL at all":          "event: endpoint\ndata: http://[\n\n",
		"a message first":        "data: {}\n\n",
		"nothing":                "",
	} {
		t.Run(name, func(t *testing.T) {
			f := newOldFake(t, first)
			if first == "" {
				f.stream <- ""
			}
			g := newGateway(t, testConfig(), sseRegistration(f.Upstream))
			require.Equal(t, http.StatusBadGateway, g.Ask(t, initOnce).Status)
			require.Zero(t, elsewhere.Count())
		})
	}
}

func TestRefusalsOfTheOldTransport(t *testing.T) {
	f := newOldFake(t, "event: endpoint\ndata: messages\n\n")
	g := newGateway(t, testConfig(), sseRegistration(f.Upstream))
	session := g.open(t, "alice")
	f.setStatus(http.StatusBadRequest)
	got := g.Ask(t, ping, session...)
	require.Equal(t, http.StatusOK, got.Status)
	require.Contains(t, got.Body, "-32603")
	f.setStatus(http.StatusAccepted)
	require.Equal(t, http.StatusOK, g.Ask(t, ping, session...).Status, "the channel is still good")
	f.setStatus(http.StatusNotFound)
	require.Equal(t, http.StatusBadGateway, g.Ask(t, ping, session...).Status)
	require.Equal(t, http.StatusNotFound, g.Ask(t, ping, session...).Status)
}

func TestTheEndOfTheOldTransportsStreamEndsItsSessions(t *testing.T) {
	f := newOldFake(t, "event: endpoint\ndata: messages\n\n")
	g := newGateway(t, testConfig(), sseRegistration(f.Upstream))
	session := g.open(t, "alice")
	f.stream <- ""
	gatewaytest.Eventually(t, "the session is gone", func() bool { return g.Ask(t, ping, session...).Status == http.StatusNotFound })
}

func TestTheOldTransportsChannelsAreBounded(t *testing.T) {
	f := newOldFake(t, "event: endpoint\ndata: messages\n\n")
	c := testConfig()
	c.Upstreams = map[string]config.Upstream{"up": {Timeout: time.Second, ConnectTimeout: time.Second, MaxConcurrent: 1}}
	g := newGateway(t, c, sseRegistration(f.Upstream))
	g.open(t, "alice")
	require.Equal(t, http.StatusBadGateway, g.Ask(t, initOnce, ":token", "bob").Status)
}

// TestAServerGetsNothingElseForTheRestOfAMessage: it answers before it reads on, and by then another
// client's message may be where this one was.
func TestAServerGetsNothingElseForTheRestOfAMessage(t *testing.T) {
	goOn, heard := make(chan struct{}), make(chan []byte, 1)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		reader := bufio.NewReader(conn)
		r, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
		<-goOn
		got, _ := io.ReadAll(r.Body) // until the gateway gives up, or to the end
		heard <- got
	}()
	server := &grants.Server{Name: "up", ID: "1", Transport: grants.TransportHTTP, URL: "http://" + listener.Addr().String() + "/mcp"}
	u := newGateway(t, testConfig(), server).upstream(t, server)
	c := &channel{upstream: u, ctx: t.Context(), endpoint: u.template.URL}
	message := bytes.Repeat([]byte("a"), 32<<20)
	require.NoError(t, c.Send(message))
	copy(message, bytes.Repeat([]byte("b"), len(message)))
	close(goOn)
	require.Zero(t, bytes.Count(<-heard, []byte("b")), "bytes of another message")
}
