package clients

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/mcpclient"
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
	servers := []server{
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
	}
	var merged offer
	var names []string
	for _, server := range servers {
		t.Run(server.name, func(t *testing.T) {
			s := s.in(t)
			s.Write("mcp/servers/"+server.name, server.registration)
			token := s.CreateClient("of-"+server.name, harness.Map{"allowed_servers": server.name})
			s.introduce(t, token, server.name)
			itself, err := mcpclient.Connect(t, server.direct, offersNothing)
			require.NoError(t, err)
			want := offerOf(t, itself)
			require.NotEmpty(t, want.Tools)
			for _, era := range eras {
				t.Run(era, func(t *testing.T) {
					through, err := s.In(t).TryConnect(s.gateway.ServerURL(server.name), token, harness.ConnectOptions{Version: era, Client: offersNothing})
					require.NoError(t, err)
					require.Equal(t, asJSON(t, want), asJSON(t, offerOf(t, through)))
					answer, err := mcpclient.CallTool(t, through, server.tool, server.arguments)
					require.NoError(t, err)
					require.Contains(t, answer, server.answer)
				})
			}
			merged.add(server.name, want)
		})
		names = append(names, server.name)
	}
	t.Run("all of them as one", func(t *testing.T) {
		s := s.in(t)
		token := s.CreateClient("of-all", harness.Map{"allowed_servers": names})
		all := merged.count()
		for _, era := range eras {
			t.Run(era, func(t *testing.T) {
				through, err := s.In(t).TryConnect(s.gateway.URL+"/mcp", token, harness.ConnectOptions{Version: era, Client: offersNothing})
				require.NoError(t, err)
				s.listed(t, through, all)
				require.Equal(t, asJSON(t, &merged), asJSON(t, offerOf(t, through)))
				for _, server := range servers {
					answer, err := mcpclient.CallTool(t, through, server.name+"__"+server.tool, server.arguments)
					require.NoError(t, err, server.name)
					require.Contains(t, answer, server.answer, server.name)
				}
			})
		}
	})
}

// offersNothing is a client that a server can ask for nothing. server-everything has a
// tool more for clients that have roots, which a stateless client of many servers
// cannot give to one that knows sessions only.
var offersNothing = &mcp.ClientOptions{Capabilities: &mcp.ClientCapabilities{}}

var eras = []string{harness.SessionEra, harness.StatelessEra}

// offer is all that a server lists.
type offer struct {
	Tools     []*mcp.Tool
	Prompts   []*mcp.Prompt
	Resources []*mcp.Resource
	Templates []*mcp.ResourceTemplate
}

func offerOf(t *testing.T, session *mcp.ClientSession) *offer {
	t.Helper()
	o := &offer{}
	capabilities := session.InitializeResult().Capabilities
	tools, err := session.ListTools(t.Context(), nil)
	require.NoError(t, err)
	o.Tools = tools.Tools
	if capabilities.Prompts != nil {
		prompts, err := session.ListPrompts(t.Context(), nil)
		require.NoError(t, err)
		o.Prompts = prompts.Prompts
	}
	if capabilities.Resources != nil {
		resources, err := session.ListResources(t.Context(), nil)
		require.NoError(t, err)
		o.Resources = resources.Resources
		templates, err := session.ListResourceTemplates(t.Context(), nil)
		require.NoError(t, err)
		o.Templates = templates.ResourceTemplates
	}
	return o
}

// count is how many entries it has.
func (o *offer) count() int {
	return len(o.Tools) + len(o.Prompts) + len(o.Resources) + len(o.Templates)
}

// add adds what a server lists, under the names that it has among many servers.
func (o *offer) add(server string, more *offer) {
	for _, tool := range more.Tools {
		tool.Name = server + "__" + tool.Name
	}
	for _, prompt := range more.Prompts {
		prompt.Name = server + "__" + prompt.Name
	}
	for _, resource := range more.Resources {
		resource.URI = "mcp://" + server + "/" + resource.URI
	}
	for _, template := range more.Templates {
		template.URITemplate = "mcp://" + server + "/" + template.URITemplate
	}
	o.Tools = append(o.Tools, more.Tools...)
	o.Prompts = append(o.Prompts, more.Prompts...)
	o.Resources = append(o.Resources, more.Resources...)
	o.Templates = append(o.Templates, more.Templates...)
}

// asJSON is an offer as text, to compare. Servers list their entries in any order.
func asJSON(t *testing.T, o *offer) string {
	t.Helper()
	slices.SortFunc(o.Tools, func(a, b *mcp.Tool) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(o.Prompts, func(a, b *mcp.Prompt) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(o.Resources, func(a, b *mcp.Resource) int { return strings.Compare(a.URI, b.URI) })
	slices.SortFunc(o.Templates, func(a, b *mcp.ResourceTemplate) int { return strings.Compare(a.URITemplate, b.URITemplate) })
	text, err := json.MarshalIndent(o, "", " ")
	require.NoError(t, err)
	return string(text)
}

// onStdio is a server as a child: of the gateway, or of the test.
func (s *stage) onStdio(t *testing.T, server server, env harness.Map, args ...string) server {
	t.Helper()
	args = append([]string{s.Modules.Program("mcp-server-" + server.name)}, args...)
	all := harness.Map{"NODE_OPTIONS": "--require=" + s.guard, "LOOPBACK_LOG": s.log}
	direct := s.Command(t, s.Modules.Node, args...)
	for name, value := range env {
		all[name] = value
		direct.Env = append(direct.Env, name+"="+value.(string))
	}
	server.registration = harness.Map{"transport": "stdio", "command": s.Modules.Node, "args": args, "env": all}
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
	s.startEverythingAt(t, address, mode)
	return "http://" + address
}

// startEverythingAt starts it there, and returns when it listens.
func (s *stage) startEverythingAt(t *testing.T, address, mode string) *process.Process {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	p, err := process.Start(process.Spec{
		Name: "everything-" + mode, Path: s.Modules.Node,
		Args: []string{s.Modules.Program("mcp-server-everything"), mode},
		Env:  append(s.environment(t.TempDir()), "PORT="+port),
		Log:  filepath.Join(s.Dir, "everything-"+mode+".log"),
	})
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop(5 * time.Second) })
	require.NoError(t, p.Await(t.Context(), mcpclient.Patience, func(ctx context.Context) error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}))
	return p
}
