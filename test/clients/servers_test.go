package clients

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/test/harness"
)

// server is an MCP server from npm.
type server struct {
	name         string
	registration harness.Map
	// direct reaches it without the gateway.
	direct mcp.Transport
	// tool is one of its tools, that answers so when it is called so.
	tool      string
	arguments harness.Map
	answer    string
}

func TestServersAreTheSameThroughTheGateway(t *testing.T) {
	s := newStage(t)
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "note.txt"), []byte("kept\n"), 0o600))
	graph := filepath.Join(folder, "graph.jsonl")
	require.NoError(t, os.WriteFile(graph, []byte(`{"type":"entity","name":"Vault","entityType":"program","observations":["keeps secrets"]}`), 0o600))
	echo, hi := "echo", harness.Map{"message": "hi"}
	for _, server := range []server{
		s.onStdio(t, server{name: "everything", tool: echo, arguments: hi, answer: "Echo: hi"}, nil, "stdio"),
		s.onStdio(t, server{
			name: "filesystem", tool: "read_text_file",
			arguments: harness.Map{"path": filepath.Join(folder, "note.txt")}, answer: "kept\n",
		}, nil, folder),
		s.onStdio(t, server{
			name: "memory", tool: "read_graph", arguments: harness.Map{}, answer: "keeps secrets",
		}, harness.Map{"MEMORY_FILE_PATH": graph}),
		s.overHTTP(t, server{name: "everything-http", tool: echo, arguments: hi, answer: "Echo: hi"}, "http", "streamableHttp", "/mcp"),
		s.overHTTP(t, server{name: "everything-sse", tool: echo, arguments: hi, answer: "Echo: hi"}, "sse", "sse", "/sse"),
	} {
		t.Run(server.name, func(t *testing.T) {
			s := s.in(t)
			s.Write("mcp/servers/"+server.name, server.registration)
			token := s.CreateClient("of-"+server.name, harness.Map{"allowed_servers": server.name})
			itself, err := connect(t, server.direct)
			require.NoError(t, err)
			want := offer(t, itself)
			require.NotEmpty(t, want["tools"])
			for _, era := range []string{harness.SessionEra, harness.StatelessEra} {
				t.Run(era, func(t *testing.T) {
					through, err := s.In(t).TryConnect(s.gateway.ServerURL(server.name), token, harness.ConnectOptions{Version: era})
					require.NoError(t, err)
					require.Equal(t, want, offer(t, through))
					answer, err := sdkSession{t, through}.call(server.tool, server.arguments)
					require.NoError(t, err)
					require.Contains(t, answer, server.answer)
				})
			}
		})
	}
}

// offer is all that a server lists, as JSON by kind.
func offer(t *testing.T, session *mcp.ClientSession) map[string]string {
	t.Helper()
	all := map[string]string{}
	take := func(kind string, list any) {
		text, err := json.Marshal(list)
		require.NoError(t, err)
		all[kind] = string(text)
	}
	tools, err := session.ListTools(t.Context(), nil)
	require.NoError(t, err)
	take("tools", tools.Tools)
	offers := session.InitializeResult().Capabilities
	if offers.Prompts != nil {
		prompts, err := session.ListPrompts(t.Context(), nil)
		require.NoError(t, err)
		take("prompts", prompts.Prompts)
	}
	if offers.Resources != nil {
		resources, err := session.ListResources(t.Context(), nil)
		require.NoError(t, err)
		take("resources", resources.Resources)
	}
	return all
}

// onStdio is a server as a child: of the gateway, or of the test.
func (s *stage) onStdio(t *testing.T, server server, env harness.Map, args ...string) server {
	t.Helper()
	args = append([]string{s.modules.Program("mcp-server-" + server.name)}, args...)
	all := harness.Map{"NODE_OPTIONS": "--require=" + s.guard, "LOOPBACK_LOG": s.log}
	direct := s.command(t, s.modules.Node, args...)
	for name, value := range env {
		all[name] = value
		direct.Env = append(direct.Env, name+"="+value.(string))
	}
	server.registration = harness.Map{"transport": "stdio", "command": s.modules.Node, "args": args, "env": all}
	server.direct = &mcp.CommandTransport{Command: direct}
	return server
}

// overHTTP is server-everything as a server of its own, over one of its transports.
func (s *stage) overHTTP(t *testing.T, server server, transport, mode, path string) server {
	t.Helper()
	url := s.startEverything(t, mode) + path
	server.registration = harness.Map{"transport": transport, "url": url}
	if transport == "sse" {
		server.direct = &mcp.SSEClientTransport{Endpoint: url, HTTPClient: http.DefaultClient}
	} else {
		server.direct = &mcp.StreamableClientTransport{Endpoint: url, MaxRetries: -1}
	}
	return server
}

// startEverything starts server-everything over HTTP, and returns its URL without a path.
func (s *stage) startEverything(t *testing.T, mode string) string {
	t.Helper()
	address := harness.FreeAddress(t)
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	p, err := process.Start(process.Spec{
		Name: "everything-" + mode, Path: s.modules.Node,
		Args: []string{s.modules.Program("mcp-server-everything"), mode},
		Env:  append(s.environment(t.TempDir()), "PORT="+port),
		Log:  filepath.Join(s.Dir, "everything-"+mode+".log"),
	})
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop(5 * time.Second) })
	require.NoError(t, p.Await(t.Context(), patience, func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}))
	return "http://" + address
}
