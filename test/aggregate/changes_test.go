package aggregate

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/demo"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// listener is a client that is told when its lists change.
type listener struct {
	session *mcp.ClientSession
	told    atomic.Int64
}

func listen(t *testing.T, h *harness.Harness, url, token, era string) *listener {
	t.Helper()
	l := &listener{}
	session, err := h.TryConnect(url, token, harness.ConnectOptions{Version: era, Client: &mcp.ClientOptions{
		ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { l.told.Add(1) },
	}})
	require.NoError(t, err)
	l.session = session
	return l
}

// TestAChangeOfWhatAClientMayReachIsAChangeOfItsLists changes it in every way
// there is, and wants clients of both eras to be told, and to see it.
func TestAChangeOfWhatAClientMayReachIsAChangeOfItsLists(t *testing.T) {
	h := harness.New(t)
	changing := demo.Calculator()
	url := h.StartUpstream(demo.Handler(changing)).URL
	for _, name := range []string{"a", "b"} {
		h.Write("mcp/servers/"+name, harness.Map{"transport": "http", "url": url})
	}
	token := h.CreateClient("cursor", harness.Map{"allowed_servers": "a", "policies": "team"})
	h.Write("mcp/policies/team", harness.Map{"deniedMcpServers": `[]`})
	gateway := h.StartGateway(harness.GatewayOptions{})
	var clients []*listener
	for _, era := range []string{harness.SessionEra, harness.StatelessEra} {
		l := listen(t, h, gateway.URL+"/mcp", token, era)
		stage.WantTools(t, h, l.session, "", ofBoth("add", "divide", "multiply", "subtract")[:4])
		clients = append(clients, l)
	}
	client := func(data harness.Map) func() { return func() { h.Write("mcp/clients/cursor", data) } }
	four := []string{"add", "divide", "multiply", "subtract"}
	for _, step := range []struct {
		name   string
		change func()
		want   []string
	}{
		{"another server is allowed", client(harness.Map{"allowed_servers": "a,b"}), ofBoth(four...)},
		{"a tool is denied", client(harness.Map{"denied_tools": "*/divide,*/multiply,*/subtract"}), ofBoth("add")},
		{"it is allowed again", client(harness.Map{"denied_tools": ""}), ofBoth(four...)},
		{"a policy denies a server", func() {
			h.Write("mcp/policies/team", harness.Map{"deniedMcpServers": `[{"serverName":"a"}]`})
		}, ofBoth(four...)[4:]},
		{"the policy allows it again", func() {
			h.Write("mcp/policies/team", harness.Map{"deniedMcpServers": `[]`})
		}, ofBoth(four...)},
		{"a server is removed", func() { h.Delete("mcp/servers/b") }, ofBoth(four...)[:4]},
		{"a server is registered", func() {
			h.Write("mcp/servers/b", harness.Map{"transport": "http", "url": url})
		}, ofBoth(four...)},
		{"the servers have a new tool", func() {
			changing.AddTool(&mcp.Tool{Name: "zero", InputSchema: harness.Map{"type": "object"}},
				func(context.Context, *mcp.CallToolRequest) (*mcp.CallToolResult, error) {
					return &mcp.CallToolResult{}, nil
				})
		}, ofBoth(append(slices.Clone(four), "zero")...)},
		{"a server is not allowed any more", client(harness.Map{"allowed_servers": "b"}), ofBoth(append(slices.Clone(four), "zero")...)[5:]},
	} {
		t.Run(step.name, func(t *testing.T) {
			h := h.In(t)
			var before [2]int64
			for i, l := range clients {
				before[i] = l.told.Load()
			}
			step.change()
			for i, l := range clients {
				h.Eventually("the client to be told", func() error {
					if l.told.Load() == before[i] {
						return fmt.Errorf("client %d is not", i)
					}
					return nil
				})
				h.Eventually("the list to be the new one", func() error {
					if got := stage.ToolsOf(t, l.session, ""); !slices.Equal(got, step.want) {
						return fmt.Errorf("client %d lists %q", i, got)
					}
					return nil
				})
			}
		})
	}
}

// ofBoth names tools of the servers a and b.
func ofBoth(tools ...string) (names []string) {
	for _, server := range []string{"a", "b"} {
		for _, tool := range tools {
			names = append(names, stage.Aggregate.Tool(server, tool))
		}
	}
	return names
}
