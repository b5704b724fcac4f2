package aggregate

import (
	"context"
	"net/http"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

// heard gets the notifications that a client receives.
type heard chan string

func (h heard) await(t testing.TB, want string) {
	t.Helper()
	select {
	case got := <-h:
		require.Equal(t, want, got)
	case <-time.After(10 * time.Second):
		t.Fatalf("%s was not heard of", want)
	}
}

// drain drops what was received.
func (h heard) drain() {
	for {
		select {
		case <-h:
		default:
			return
		}
	}
}

// listening returns options with which a client receives notifications.
func listening() (*sdk.ClientOptions, heard) {
	h := make(heard, 64)
	return &sdk.ClientOptions{
		ToolListChangedHandler: func(context.Context, *sdk.ToolListChangedRequest) { h <- "tools" },
		ResourceUpdatedHandler: func(_ context.Context, r *sdk.ResourceUpdatedNotificationRequest) { h <- r.Params.URI },
	}, h
}

// statelessServer is a real server without sessions.
func statelessServer(t testing.TB, name string) (*sdk.Server, string) {
	t.Helper()
	server := sdk.NewServer(&sdk.Implementation{Name: name, Version: "1"}, &sdk.ServerOptions{
		SubscribeHandler:   func(context.Context, *sdk.SubscribeRequest) error { return nil },
		UnsubscribeHandler: func(context.Context, *sdk.UnsubscribeRequest) error { return nil },
	})
	addEcho(server)
	addResource(server)
	return server, serve(t, sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, &sdk.StreamableHTTPOptions{Stateless: true}))
}

func addResource(server *sdk.Server) {
	server.AddResource(&sdk.Resource{URI: "file:///a", Name: "a"}, func(context.Context, *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
		return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{{URI: "file:///a", Text: "text"}}}, nil
	})
}

func TestClientsOfBothErasHearOfChangesInServersOfBoth(t *testing.T) {
	for client, version := range map[string]string{"a client without sessions": "2026-07-28", "a client with sessions": "2025-11-25"} {
		for _, era := range []string{"a server without sessions", "a server with sessions"} {
			t.Run(client+", "+era, func(t *testing.T) {
				var server *sdk.Server
				var url string
				if era == "a server with sessions" {
					url = sessionServer(t, "up", func(s *sdk.Server) { server = s; addResource(s) }).URL
				} else {
					server, url = statelessServer(t, "up")
				}
				s := newStage(t, map[string]string{"up": url})
				options, h := listening()
				c := s.connect(alice, version, options)
				require.Equal(t, []string{"up__echo"}, listed(t, c))
				require.NoError(t, c.Subscribe(context.Background(), &sdk.SubscribeParams{URI: "mcp://up/file:///a"}))

				// The client opens its stream in the background.
				gatewaytest.Eventually(t, "the change of a list to be heard of", func() bool {
					sdk.AddTool(server, &sdk.Tool{Name: "more"}, func(context.Context, *sdk.CallToolRequest, echoInput) (*sdk.CallToolResult, any, error) {
						return &sdk.CallToolResult{}, nil, nil
					})
					select {
					case <-h:
						return true
					case <-time.After(50 * time.Millisecond):
						return false
					}
				})
				require.Equal(t, []string{"up__echo", "up__more"}, listed(t, c))
				gatewaytest.Eventually(t, "the change of a resource to be heard of", func() bool {
					require.NoError(t, server.ResourceUpdated(context.Background(), &sdk.ResourceUpdatedNotificationParams{URI: "file:///a"}))
					select {
					case got := <-h:
						return got == "mcp://up/file:///a"
					case <-time.After(50 * time.Millisecond):
						return false
					}
				})
			})
		}
	}
}

func TestAChangeOfTheAllowListIsAChangeOfTheLists(t *testing.T) {
	for name, version := range map[string]string{"without sessions": "2026-07-28", "with sessions": "2025-11-25"} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, map[string]string{"calc": modern(t, "add", textResult).URL, "notes": sessionServer(t, "notes", nil).URL})
			options, h := listening()
			c := s.connect(bob, version, options)
			require.Equal(t, []string{"calc__add"}, listed(t, c))
			s.awaitStream()
			h.drain()
			s.vault.AddToken(bob, "bob", grantstest.Data{"allowed_servers": []string{"calc", "notes"}})
			h.await(t, "tools")
			require.Equal(t, []string{"calc__add", "notes__echo"}, listed(t, c))
			s.vault.AddToken(bob, "bob", grantstest.Data{"allowed_servers": []string{"notes"}})
			h.await(t, "tools")
			require.Equal(t, []string{"notes__echo"}, listed(t, c))
			h.drain()
			s.vault.AddServer("third", modern(t, "x", textResult).URL)
			s.vault.AddToken(bob, "bob", grantstest.Data{"allowed_servers": []string{"notes", "third"}})
			h.await(t, "tools")
			gatewaytest.Eventually(t, "the new server to be listed", func() bool { return len(listed(t, c)) == 2 })
		})
	}
}

// awaitStream waits until a client listens.
func (s *stage) awaitStream() {
	s.t.Helper()
	gatewaytest.Eventually(s.t, "a stream to be open", func() bool {
		for _, w := range s.handler.watchers.of(grants.Principal{}) {
			for _, session := range s.allSessions() {
				session.mu.Lock()
				open := session.stream != nil
				session.mu.Unlock()
				if open && session.watcher == w {
					return true
				}
			}
		}
		return len(s.handler.watchers.of(grants.Principal{})) > len(s.allSessions())
	})
}

func (s *stage) allSessions() []*session {
	s.handler.sessions.mu.Lock()
	defer s.handler.sessions.mu.Unlock()
	var all []*session
	for _, session := range s.handler.sessions.byID {
		all = append(all, session)
	}
	for _, session := range s.handler.sessions.implicitOf {
		all = append(all, session)
	}
	return all
}
