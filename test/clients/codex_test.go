package clients

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/mcpclient"
)

// codexHome is a home with the configuration, and without a model: these tests of Codex
// need none.
func (s *stage) codexHome(t *testing.T, config string) string {
	t.Helper()
	home := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(home, ".codex"), 0o700))
	config = fmt.Sprintf("model_provider = \"none\"\nanalytics.enabled = false\n"+
		"features = { plugins = false, apps = false }\n"+ // they come over the network
		"[model_providers.none]\nname = \"none\"\nbase_url = %q\n", s.proxy.URL) + config
	require.NoError(t, os.WriteFile(filepath.Join(home, ".codex", "config.toml"), []byte(config), 0o600))
	return home
}

func (s *stage) codex(t *testing.T, home, token string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := s.Program(t, "codex", args...)
	cmd.Dir = home
	cmd.Env = append(s.environment(home), "MCP_TOKEN="+token)
	return cmd
}

// codexServer is `codex app-server`, by which editors drive Codex.
type codexServer struct {
	in     io.Writer
	out    *json.Decoder
	asked  int
	server string // the MCP server that is asked about
	thread string
	// started says how connecting to each MCP server went: "" for well.
	started map[string]string
}

// codexMessage is one line of its JSON-RPC.
type codexMessage struct {
	ID     int
	Method string
	Result json.RawMessage
	Error  *struct{ Message string }
	Params struct{ Name, Status, Error string }
}

// startCodex starts it, and returns once it has connected to the server or failed to.
func (s *stage) startCodex(t *testing.T, home, token, server string) (*codexServer, error) {
	t.Helper()
	cmd := s.codex(t, home, token, "app-server")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	c := &codexServer{in: in, out: json.NewDecoder(out), server: server, started: map[string]string{}}
	if err := c.ask("initialize", harness.Map{"clientInfo": harness.Map{"name": "test", "version": "1"}}, nil); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(in, `{"method":"initialized"}`); err != nil {
		return nil, err
	}
	var thread struct{ Thread struct{ ID string } }
	if err := c.ask("thread/start", harness.Map{"ephemeral": true}, &thread); err != nil {
		return nil, err
	}
	c.thread = thread.Thread.ID
	for {
		if problem, ok := c.started[server]; ok {
			if problem != "" {
				return nil, errors.New(problem)
			}
			return c, nil
		}
		if _, err := c.read(); err != nil {
			return nil, err
		}
	}
}

func (c *codexServer) read() (codexMessage, error) {
	var message codexMessage
	if err := c.out.Decode(&message); err != nil {
		return message, fmt.Errorf("codex app-server: %w", err)
	}
	if message.Method == "mcpServer/startupStatus/updated" {
		switch message.Params.Status {
		case "ready":
			c.started[message.Params.Name] = ""
		case "failed":
			c.started[message.Params.Name] = "failed: " + message.Params.Error
		}
	}
	return message, nil
}

func (c *codexServer) ask(method string, params harness.Map, result any) error {
	c.asked++
	if err := json.NewEncoder(c.in).Encode(harness.Map{"id": c.asked, "method": method, "params": params}); err != nil {
		return err
	}
	for {
		message, err := c.read()
		switch {
		case err != nil:
			return err
		case message.ID != c.asked || message.Method != "":
		case message.Error != nil:
			return fmt.Errorf("%s: %s", method, message.Error.Message)
		case result == nil:
			return nil
		default:
			return json.Unmarshal(message.Result, result)
		}
	}
}

func (c *codexServer) Tools() ([]string, error) {
	var answer struct {
		Data []struct {
			Name  string
			Tools map[string]any
		}
	}
	if err := c.ask("mcpServerStatus/list", harness.Map{}, &answer); err != nil {
		return nil, err
	}
	var names []string
	for _, s := range answer.Data {
		if s.Name == c.server {
			for name := range s.Tools {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

func (c *codexServer) callTool(tool string, arguments harness.Map) (string, error) {
	var answer json.RawMessage
	err := c.ask("mcpServer/tool/call", harness.Map{
		"threadId": c.thread, "server": c.server, "tool": tool, "arguments": arguments,
	}, &answer)
	return string(answer), err
}

// codexSession is Codex as a client of one server.
type codexSession struct {
	*codexServer
	tool string
}

func (s codexSession) Call() (string, error) { return s.callTool(s.tool, harness.Map{"message": "hi"}) }

func (s *stage) openCodex(t *testing.T, at mcpclient.Place) (mcpclient.Session, error) {
	t.Helper()
	home := s.codexHome(t, fmt.Sprintf("[mcp_servers.it]\nurl = %q\nbearer_token_env_var = \"MCP_TOKEN\"\n", at.URL))
	c, err := s.startCodex(t, home, at.Token, "it")
	return codexSession{c, at.Tool}, err
}
