package isolation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-plugin-secrets-mcp/test/harness"
)

// TestWhatTheFileDoesNotAllowIsRefused registers programs, which is all that
// somebody with a token for Vault can do.
func TestWhatTheFileDoesNotAllowIsRefused(t *testing.T) {
	h, program := newStage(t)
	token := h.CreateClient("c", harness.Map{"allowed_servers": "*"})
	marker := filepath.Join(openFolder(t), "marker")
	if err := os.Chmod(filepath.Dir(marker), 0o777); err != nil {
		t.Fatal(err)
	}
	touch := []string{"-c", "touch " + marker}
	h.Write("mcp/servers/shell", harness.Map{"transport": "stdio", "command": "/bin/sh", "args": touch})
	h.Write("mcp/servers/around", harness.Map{"transport": "stdio", "command": filepath.Dir(program) + "/../" + filepath.Base(filepath.Dir(program)) + "/spy"})
	h.Write("mcp/servers/loader", harness.Map{"transport": "stdio", "command": program, "env": harness.Map{spyVariable: "1", "LD_PRELOAD": "/tmp/evil.so"}})
	on, off := h.StartGateway(harness.GatewayOptions{Blocks: stdioBlock(program)}), h.StartGateway(harness.GatewayOptions{})

	if session := h.Connect(on.ServerURL("spy"), token); session == nil {
		t.Fatal("what the file allows is refused")
	}
	for name, url := range map[string]string{
		"a program that is not listed":              on.ServerURL("shell"),
		"a listed one by another path":              on.ServerURL("around"),
		"a listed one with other code loaded":       on.ServerURL("loader"),
		"any program where there is no stdio block": off.ServerURL("spy"),
	} {
		t.Run(name, func(t *testing.T) {
			got := h.In(t).Post(url, token, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"`+
				harness.SessionEra+`","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`)
			if got.Status != http.StatusBadGateway || strings.Contains(got.Body, "allowed_commands") {
				t.Errorf("answered %d %s", got.Status, got.Body)
			}
		})
	}
	if _, err := os.Stat(marker); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program ran: %v", err)
	}
}

// TestAChildRunsAsWhomTheFileSays: as another account where the gateway may change
// accounts, and not at all where it may not.
func TestAChildRunsAsWhomTheFileSays(t *testing.T) {
	h, program := newStage(t)
	token := h.CreateClient("c", harness.Map{"allowed_servers": "spy"})
	user := "nobody"
	if !asRoot {
		user = "root" // another account than the test's own
	}
	g := h.StartGateway(harness.GatewayOptions{Blocks: map[string]string{
		"stdio": fmt.Sprintf("allowed_commands = [%q]\nuser = %q", program, user),
	}})
	if !asRoot {
		if _, err := h.TryConnect(g.ServerURL("spy"), token, harness.ConnectOptions{}); err == nil {
			t.Fatal("a gateway that cannot change accounts has started a child")
		}
		log, err := os.ReadFile(g.Process.Log())
		if err != nil || !strings.Contains(string(log), "CAP_SETUID") {
			t.Errorf("its log does not say what is missing: %v", err)
		}
		return
	}
	seen := ask[sight](t, h.Connect(g.ServerURL("spy"), token), "look", nil)
	if seen.UID != nobody || seen.GID != nobody || len(seen.Groups) != 1 || seen.Groups[0] != nobody {
		t.Errorf("it runs as %d:%d, in groups %v", seen.UID, seen.GID, seen.Groups)
	}
}

// TestNoClientHearsOfAnother has two clients use one server.
func TestNoClientHearsOfAnother(t *testing.T) {
	h, program := newStage(t)
	g := h.StartGateway(harness.GatewayOptions{Blocks: stdioBlock(program)})
	for _, era := range []string{harness.SessionEra, harness.StatelessEra} {
		t.Run("in the era of "+era, func(t *testing.T) {
			h := h.In(t)
			var heard [2]atomic.Int64
			var sessions [2]*mcp.ClientSession
			for i := range sessions {
				token := h.CreateClient(fmt.Sprintf("client-%s-%d", era, i), harness.Map{"allowed_servers": "spy"})
				session, err := h.TryConnect(g.ServerURL("spy"), token, harness.ConnectOptions{Version: era, Client: &mcp.ClientOptions{
					ToolListChangedHandler: func(context.Context, *mcp.ToolListChangedRequest) { heard[i].Add(1) },
				}})
				if err != nil {
					t.Fatal(err)
				}
				sessions[i] = session
			}
			first, second := ask[sight](t, sessions[0], "look", nil), ask[sight](t, sessions[1], "look", nil)
			if first.PID == second.PID {
				t.Error("both clients speak to one process")
			}
			ask[words](t, sessions[0], "keep", words{"a secret"})
			if got := ask[words](t, sessions[1], "keep", words{"another"}); got.Text != "" {
				t.Errorf("the second client is told %q", got.Text)
			}
			if got := ask[words](t, sessions[0], "keep", words{""}); got.Text != "a secret" {
				t.Errorf("the first client is told %q", got.Text)
			}
			if era == harness.StatelessEra {
				return // in which servers say nothing of their own accord
			}
			ask[any](t, sessions[0], "say", words{"of-the-first"})
			h.Eventually("the first client hears it", func() error {
				if heard[0].Load() != 1 {
					return errors.New("it does not")
				}
				return nil
			})
			ask[any](t, sessions[1], "say", words{"of-the-second"})
			h.Eventually("the second client hears its own", func() error {
				if heard[1].Load() == 0 {
					return errors.New("it does not")
				}
				return nil
			})
			if heard[0].Load() != 1 || heard[1].Load() != 1 {
				t.Errorf("the clients heard %d and %d messages", heard[0].Load(), heard[1].Load())
			}
		})
	}
}

// TestNoChildIsLeftBehind ends children in every way.
func TestNoChildIsLeftBehind(t *testing.T) {
	h, program := newStage(t)
	g := h.StartGateway(harness.GatewayOptions{Blocks: stdioBlock(program)})
	kill := func(t *testing.T, pid int) {
		t.Helper()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	for i, way := range []struct {
		name      string
		do        func(t *testing.T, h *harness.Harness, session *mcp.ClientSession, seen sight)
		onlyChild bool // the processes that it started are left to a service manager
	}{
		{name: "it ends by itself", do: func(t *testing.T, _ *harness.Harness, session *mcp.ClientSession, _ sight) {
			t.Helper()
			if _, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "end"}); err == nil {
				t.Error("a call was answered by a process that has ended")
			}
		}},
		{name: "it is killed", do: func(t *testing.T, _ *harness.Harness, _ *mcp.ClientSession, seen sight) {
			t.Helper()
			kill(t, seen.PID)
		}},
		{name: "its client ends the session", do: func(t *testing.T, _ *harness.Harness, session *mcp.ClientSession, _ sight) {
			t.Helper()
			if err := session.Close(); err != nil {
				t.Error(err)
			}
		}},
		{name: "its client's access is revoked", do: func(_ *testing.T, h *harness.Harness, _ *mcp.ClientSession, _ sight) {
			h.Write("mcp/revoke-client/client-3", nil)
		}},
		{name: "its server is taken from the registry", do: func(_ *testing.T, h *harness.Harness, _ *mcp.ClientSession, _ sight) {
			h.Delete("mcp/servers/spy")
		}},
		{name: "the gateway is stopped", do: func(*testing.T, *harness.Harness, *mcp.ClientSession, sight) { g.Stop() }},
		{name: "the gateway is killed", onlyChild: true, do: func(t *testing.T, _ *harness.Harness, _ *mcp.ClientSession, seen sight) {
			t.Helper()
			kill(t, seen.Parent) // and nothing else: the harness would kill all that it started
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			h := h.In(t)
			h.Write("mcp/servers/spy", harness.Map{"transport": "stdio", "command": program, "env": harness.Map{spyVariable: "1"}})
			if !g.Process.Running() {
				g.Restart()
			}
			token := h.CreateClient(fmt.Sprint("client-", i), harness.Map{"allowed_servers": "spy"})
			var session *mcp.ClientSession
			h.Eventually("the server is known", func() (err error) {
				session, err = h.TryConnect(g.ServerURL("spy"), token, harness.ConnectOptions{Version: harness.SessionEra})
				return err
			})
			seen := ask[sight](t, session, "look", nil)
			grandchild := ask[number](t, session, "breed", words{"1000"})
			if ended(seen.PID) == nil || ended(grandchild.PID) == nil {
				t.Fatal("they do not run")
			}
			way.do(t, h, session, seen)
			h.Within(end, "the child has ended, and was waited for", func() error { return ended(seen.PID) })
			if way.onlyChild {
				kill(t, grandchild.PID)
			}
			h.Within(end, "what it started has ended", func() error { return gone(grandchild.PID) })
		})
	}
}
