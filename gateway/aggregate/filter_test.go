package aggregate

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"
)

// asking is a server whose tools ask the client something. The channel gets the calls that
// were cancelled.
func asking(t testing.TB, name string) (url string, cancelled chan string) {
	t.Helper()
	cancelled = make(chan string, 16)
	return sessionServer(t, name, func(server *sdk.Server) {
		text := func(text string, err error) (*sdk.CallToolResult, any, error) {
			if err != nil {
				return nil, nil, err
			}
			return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: text}}}, nil, nil
		}
		sdk.AddTool(server, &sdk.Tool{Name: "sample"}, func(ctx context.Context, r *sdk.CallToolRequest, in echoInput) (*sdk.CallToolResult, any, error) {
			result, err := r.Session.CreateMessage(ctx, &sdk.CreateMessageParams{MaxTokens: 5, SystemPrompt: name + in.Text}) //nolint:staticcheck // deprecated, and in use
			if err != nil {
				return text("", err)
			}
			return text(result.Content.(*sdk.TextContent).Text, nil)
		})
		sdk.AddTool(server, &sdk.Tool{Name: "elicit"}, func(ctx context.Context, r *sdk.CallToolRequest, in echoInput) (*sdk.CallToolResult, any, error) {
			result, err := r.Session.Elicit(ctx, &sdk.ElicitParams{Message: name + in.Text, RequestedSchema: map[string]any{"type": "object", "properties": map[string]any{}}})
			if err != nil {
				return text("", err)
			}
			return text(result.Action, nil)
		})
		sdk.AddTool(server, &sdk.Tool{Name: "roots"}, func(ctx context.Context, r *sdk.CallToolRequest, _ echoInput) (*sdk.CallToolResult, any, error) {
			result, err := r.Session.ListRoots(ctx, nil) //nolint:staticcheck // deprecated, and in use
			if err != nil {
				return text("", err)
			}
			return text(result.Roots[0].URI, nil)
		})
		sdk.AddTool(server, &sdk.Tool{Name: "progress"}, func(ctx context.Context, r *sdk.CallToolRequest, _ echoInput) (*sdk.CallToolResult, any, error) {
			err := r.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: 1})
			return text("done", err)
		})
		sdk.AddTool(server, &sdk.Tool{Name: "hang"}, func(ctx context.Context, r *sdk.CallToolRequest, _ echoInput) (*sdk.CallToolResult, any, error) {
			_ = r.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{ProgressToken: r.Params.GetProgressToken(), Progress: 1})
			<-ctx.Done()
			cancelled <- name
			return nil, nil, ctx.Err()
		})
	}).URL, cancelled
}

func TestServersAskClientsThatHaveSessions(t *testing.T) {
	one, _ := asking(t, "one")
	two, _ := asking(t, "two")
	s := newStage(t, map[string]string{"one": one, "two": two})
	client := s.connect(alice, "2025-11-25", &sdk.ClientOptions{
		CreateMessageHandler: func(_ context.Context, r *sdk.CreateMessageRequest) (*sdk.CreateMessageResult, error) { //nolint:staticcheck // deprecated, and in use
			return &sdk.CreateMessageResult{Model: "m", Role: "assistant", Content: &sdk.TextContent{Text: "answer to " + r.Params.SystemPrompt}}, nil //nolint:staticcheck // deprecated, and in use
		},
		ElicitationHandler: func(_ context.Context, r *sdk.ElicitRequest) (*sdk.ElicitResult, error) {
			action := "accept"
			if strings.HasPrefix(r.Params.Message, "two") {
				action = "decline"
			}
			return &sdk.ElicitResult{Action: action}, nil
		},
	})
	// All at once, so that both servers use the same ids.
	var all sync.WaitGroup
	for i := range 8 {
		for server, action := range map[string]string{"one": "accept", "two": "decline"} {
			all.Go(func() {
				result, err := client.CallTool(context.Background(), &sdk.CallToolParams{
					Name: server + "__sample", Arguments: map[string]any{"text": fmt.Sprint(i)},
				})
				if err != nil {
					t.Error(err)
					return
				}
				if got, want := result.Content[0].(*sdk.TextContent).Text, fmt.Sprintf("answer to %s%d", server, i); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				result, err = client.CallTool(context.Background(), &sdk.CallToolParams{
					Name: server + "__elicit", Arguments: map[string]any{"text": fmt.Sprint(i)},
				})
				if err != nil {
					t.Error(err)
					return
				}
				if got := result.Content[0].(*sdk.TextContent).Text; got != action {
					t.Errorf("got %q, want %q", got, action)
				}
			})
		}
	}
	all.Wait()
}

func TestServersSeeTheRootsOfClientsThatHaveSessions(t *testing.T) {
	one, _ := asking(t, "one")
	s := newStage(t, map[string]string{"one": one})
	client := sdk.NewClient(&sdk.Implementation{Name: "t", Version: "1"}, nil)
	client.AddRoots(&sdk.Root{URI: "file:///home", Name: "home"}) //nolint:staticcheck // deprecated, and in use
	session, err := client.Connect(context.Background(), &sdk.StreamableClientTransport{
		Endpoint: s.url, HTTPClient: &http.Client{Transport: bearer(alice)},
	}, &sdk.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
	require.NoError(t, err)
	defer session.Close()
	result, err := session.CallTool(context.Background(), &sdk.CallToolParams{Name: "one__roots", Arguments: map[string]any{"text": ""}})
	require.NoError(t, err)
	require.False(t, result.IsError, "%v", result.Content)
	require.Equal(t, "file:///home", result.Content[0].(*sdk.TextContent).Text)
}

func TestProgressAndCancellationReachTheOtherSide(t *testing.T) {
	one, cancelled := asking(t, "one")
	s := newStage(t, map[string]string{"one": one})
	for name, version := range map[string]string{"without sessions": "2026-07-28", "with sessions": "2025-11-25"} {
		t.Run(name, func(t *testing.T) {
			progress := make(chan any, 16)
			client := s.connect(alice, version, &sdk.ClientOptions{
				ProgressNotificationHandler: func(_ context.Context, r *sdk.ProgressNotificationClientRequest) { progress <- r.Params.ProgressToken },
			})
			params := &sdk.CallToolParams{Name: "one__progress", Arguments: map[string]any{"text": ""}}
			params.SetProgressToken("mine")
			result, err := client.CallTool(context.Background(), params)
			require.NoError(t, err)
			require.Equal(t, "done", result.Content[0].(*sdk.TextContent).Text)
			require.Equal(t, "mine", await(t, progress))

			ctx, cancel := context.WithCancel(context.Background())
			params = &sdk.CallToolParams{Name: "one__hang", Arguments: map[string]any{"text": ""}}
			params.SetProgressToken("other")
			ended := make(chan error, 1)
			go func() {
				_, err := client.CallTool(ctx, params)
				ended <- err
			}()
			require.Equal(t, "other", await(t, progress))
			cancel()
			require.ErrorIs(t, await(t, ended), context.Canceled)
			require.Equal(t, "one", await(t, cancelled), "the server has heard of it")
		})
	}
}

func await[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("waited too long")
		panic("unreachable")
	}
}
