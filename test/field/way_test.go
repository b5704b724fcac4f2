package field

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// promised is how soon a revocation takes effect. The gateway promises a second; the
// proxies in between, and a busy machine, may take the rest.
const promised = 5 * time.Second

// target is a server, and how its tools are called.
type target struct {
	name string
	path string // of the gateway
	// echo says its message; long reports its progress each second, for a minute.
	echo, long string
}

// tools are those that every server here has.
const (
	echo = "echo"
	long = "trigger-long-running-operation"
)

// one is a server at its own path.
func one(server string) target { return target{server, "/servers/" + server + "/mcp", echo, long} }

// among is a server at /mcp, where all are one.
func among(server string) target {
	return target{server, "/mcp", server + "__" + echo, server + "__" + long}
}

// works fails the test unless a client can do everything there is on this way: list
// tools, call one, and hear of the progress of a call as it comes, until its token is
// revoked.
func (c *company) works(t *testing.T, client, edge string, to target) {
	t.Helper()
	token := c.CreateClient(client, harness.Map{"allowed_servers": to.name})
	s := c.open(t, edge+to.path, token)
	s.lists(t, to.echo)
	s.says(t, to.echo)
	stream := s.streams(t, to.long)
	c.Write("mcp/revoke-client/"+client, nil)
	stream.ends(t)
	c.refused(t, edge+to.path, token)
}

// session is one of the Go SDK's client.
type session struct {
	*mcp.ClientSession
	progress chan struct{}
}

// open opens a session of the era with sessions, whose calls are streams.
func (c *company) open(t *testing.T, url, token string) *session {
	t.Helper()
	return c.opens(t, url, token).opened(t)
}

// opening is a session that is being opened, which can take a while: a server may be slow
// to start. nginx, which speaks HTTP/2, keeps the header of a stream to itself until
// something follows, and that is the gateway's first comment after a quarter of a minute.
type opening struct {
	done    chan struct{}
	session *session
	err     error
}

// opens begins to open a session, which lasts until the test ends.
func (c *company) opens(t *testing.T, url, token string) *opening {
	t.Helper()
	o := &opening{done: make(chan struct{}), session: &session{progress: make(chan struct{}, 1000)}}
	go func() {
		defer close(o.done)
		o.session.ClientSession, o.err = c.In(t).TryConnect(url, token, harness.ConnectOptions{
			Version: harness.SessionEra,
			Client: &mcp.ClientOptions{ProgressNotificationHandler: func(context.Context, *mcp.ProgressNotificationClientRequest) {
				o.session.progress <- struct{}{}
			}},
		})
	}()
	return o
}

// opened waits until it is open.
func (o *opening) opened(t *testing.T) *session {
	t.Helper()
	select {
	case <-o.done:
	case <-t.Context().Done():
		t.Fatal("the session is not open")
	}
	require.NoError(t, o.err)
	return o.session
}

// lists fails the test unless a tool is listed.
func (s *session) lists(t *testing.T, tool string) {
	t.Helper()
	answer, err := s.ListTools(t.Context(), nil)
	require.NoError(t, err)
	var names []string
	for _, tool := range answer.Tools {
		names = append(names, tool.Name)
	}
	require.Contains(t, names, tool)
}

// says fails the test unless a call succeeds.
func (s *session) says(t *testing.T, tool string) {
	t.Helper()
	require.NoError(t, s.call(t, tool))
}

func (s *session) call(t *testing.T, tool string) error {
	t.Helper()
	answer, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: harness.Map{"message": "hi"}})
	if err != nil {
		return err
	}
	if text := answer.Content[0].(*mcp.TextContent).Text; answer.IsError || text != "Echo: hi" {
		return fmt.Errorf("it answers %q", text)
	}
	return nil
}

// stream is a call that is not done.
type stream struct {
	progress chan struct{}
	done     chan error
}

// streams calls a tool that takes a minute, and returns once the first event of it has
// come.
func (s *session) streams(t *testing.T, tool string) *stream {
	t.Helper()
	stream := &stream{progress: s.progress, done: make(chan error, 1)}
	params := &mcp.CallToolParams{Name: tool, Arguments: harness.Map{"duration": 60, "steps": 60}}
	params.SetProgressToken(tool)
	go func() {
		_, err := s.CallTool(t.Context(), params)
		stream.done <- err
	}()
	stream.goesOn(t)
	return stream
}

// goesOn fails the test unless another event comes.
func (s *stream) goesOn(t *testing.T) {
	t.Helper()
	for len(s.progress) > 0 {
		<-s.progress
	}
	select {
	case <-s.progress:
	case err := <-s.done:
		require.NoError(t, err, "the call ended too early")
		t.Fatal("the call ended too early")
	case <-time.After(patience / 3): // half the time of the call: a proxy held the events back
		t.Fatal("no event came")
	}
}

// ends fails the test unless the call ends soon, with an error.
func (s *stream) ends(t *testing.T) {
	t.Helper()
	select {
	case err := <-s.done:
		require.Error(t, err)
	case <-time.After(promised):
		t.Fatal("the stream is still open")
	}
}

// refused fails the test unless a token is refused soon.
func (c *company) refused(t *testing.T, url, token string) {
	t.Helper()
	c.In(t).Within(promised, "the token is refused", func() error {
		if got := c.In(t).Post(url, token, `{"jsonrpc":"2.0","id":1,"method":"ping"}`); got.Status != http.StatusUnauthorized {
			return fmt.Errorf("it is answered %d %s", got.Status, got.Body)
		}
		return nil
	})
}

// introduce waits until the gateways have heard of a server that a client may reach.
func (c *company) introduce(t *testing.T, token string, servers ...string) {
	t.Helper()
	for _, edge := range []string{atNginx, atHAProxy} {
		for _, server := range servers {
			c.In(t).Eventually("the gateways know "+server, func() error {
				got := c.In(t).Post(edge+"/servers/"+server+"/mcp", token, `{"jsonrpc":"2.0","id":1,"method":"ping"}`)
				if got.Status == http.StatusForbidden || got.Status >= 500 {
					return errors.New(strings.TrimSpace(got.Body))
				}
				return nil
			})
		}
	}
}
