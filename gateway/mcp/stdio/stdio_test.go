package stdio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/internal/scripted"
)

func TestMain(m *testing.M) {
	scripted.Main()
	os.Exit(m.Run())
}

// receiver collects a child's messages.
type receiver struct {
	messages chan string
	gone     chan error
}

func newReceiver() *receiver {
	return &receiver{messages: make(chan string, 1000), gone: make(chan error, 1)}
}

func (r *receiver) Message(m []byte) { r.messages <- string(m) }
func (r *receiver) Gone(err error)   { r.gone <- err }

func (r *receiver) next(t *testing.T) string {
	t.Helper()
	select {
	case m := <-r.messages:
		return m
	case <-time.After(3 * time.Minute):
		t.Fatal("the child says nothing")
		return ""
	}
}

func (r *receiver) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.gone:
		return err
	case <-time.After(3 * time.Minute):
		t.Fatal("the child does not end")
		return nil
	}
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	require.NoError(t, err)
	return path
}

func launcher(t *testing.T, change func(*config.Stdio)) (*Launcher, *gatewaytest.Log) {
	t.Helper()
	settings := &config.Stdio{AllowedCommands: []string{self(t)}, StopTimeout: 5 * time.Second, HomeDir: homeDir(t)}
	if change != nil {
		change(settings)
	}
	log := &gatewaytest.Log{}
	l, err := NewLauncher(settings, hclog.New(&hclog.LoggerOptions{Output: log}))
	require.NoError(t, err)
	t.Cleanup(l.Wait)
	return l, log
}

// homeDir is a folder for homes that every account may go through.
func homeDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "homes") //nolint:usetesting // whose folder other users cannot enter
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o711))
	return filepath.Join(dir, "children")
}

func scriptedServer(t *testing.T, mode string) *grants.Server {
	t.Helper()
	return &grants.Server{Name: "scripted", ID: "1", Transport: "stdio", Command: self(t), Env: map[string]string{scripted.Variable: mode}}
}

// valuesOf are the registration's own values.
func valuesOf(server *grants.Server) Values { return Values{Env: server.Env, Files: server.Files} }

func start(t *testing.T, l *Launcher, server *grants.Server) (*Process, *receiver) {
	t.Helper()
	r := newReceiver()
	p, err := l.Start(server, valuesOf(server), r)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p, r
}

func call(tool string) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":%q}}`, tool)
}

func TestMessagesGoInLinesBothWays(t *testing.T) {
	l, _ := launcher(t, nil)
	p, r := start(t, l, scriptedServer(t, ""))
	require.NoError(t, p.Send([]byte("{\"jsonrpc\":\"2.0\",\r\n\"id\":1,\n \"method\":\"tools/call\",\"params\":{\"name\":\"echo\",\"arguments\":{\"n\":12345678901234567890}}}")))
	require.Equal(t, `{"jsonrpc":"2.0","id":1,"result":{"got":{"jsonrpc":"2.0",  "id":1,  "method":"tools/call","params":{"name":"echo","arguments":{"n":12345678901234567890}}}}}`, r.next(t))
	p.Close()
	require.NoError(t, r.end(t))
}

func TestOnlyWhatTheFileAllowsIsStarted(t *testing.T) {
	l, _ := launcher(t, nil)
	server := scriptedServer(t, "")
	for _, command := range []string{"/bin/sh", "sh", "", self(t) + "/", "/../" + self(t), strings.Replace(self(t), "/", "//", 1), self(t) + " "} {
		server.Command = command
		_, err := l.Start(server, valuesOf(server), newReceiver())
		require.ErrorIs(t, err, config.ErrNotAllowed, command)
	}
	server.Command = self(t)
	for _, name := range []string{"LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "", "A=B", "A\x00"} {
		server.Env = map[string]string{name: "x"}
		_, err := l.Start(server, valuesOf(server), newReceiver())
		require.Error(t, err, name)
	}
	none, _ := launcher(t, func(s *config.Stdio) { s.AllowedCommands = nil })
	_, err := none.Start(scriptedServer(t, ""), Values{}, newReceiver())
	require.ErrorIs(t, err, config.ErrNotAllowed)
}

func TestABareNameIsTheOneAllowedProgramThatHasIt(t *testing.T) {
	server := scriptedServer(t, "")
	server.Command = filepath.Base(self(t))
	l, _ := launcher(t, nil)
	p, err := l.Start(server, valuesOf(server), newReceiver())
	require.NoError(t, err)
	executable, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.cmd.Process.Pid))
	require.NoError(t, err)
	require.Equal(t, self(t), executable)
	p.Close()

	two, _ := launcher(t, func(s *config.Stdio) {
		s.AllowedCommands = []string{self(t), "/elsewhere/" + filepath.Base(self(t))}
	})
	_, err = two.Start(server, valuesOf(server), newReceiver())
	require.ErrorIs(t, err, config.ErrAmbiguous)
}

func TestAChildGetsNothingOfTheGateways(t *testing.T) {
	t.Setenv("VAULT_TOKEN", "a-secret")
	secret, err := os.CreateTemp(t.TempDir(), "secret")
	require.NoError(t, err)
	defer secret.Close()
	l, _ := launcher(t, nil)
	server := scriptedServer(t, "")
	server.Env["GREETING"] = "hello"
	p, r := start(t, l, server)

	require.NoError(t, p.Send(call("environment")))
	answer := r.next(t)
	home := p.resources.home
	require.Contains(t, answer, `"GREETING=hello\nHOME=`+home+`\nLANG=C.UTF-8\nMCP_SCRIPTED_SERVER=\nPATH=`+searchPath+`\nTMPDIR=`+home+`/tmp\nXDG_CACHE_HOME=`+home+`/.cache"`)
	require.NotContains(t, answer, "VAULT_TOKEN")

	require.NoError(t, p.Send(call("files")))
	files := strings.Split(r.next(t), `\n`)
	require.NotContains(t, strings.Join(files, " "), secret.Name())
	pipes := 0
	for _, f := range files {
		if strings.Contains(f, "pipe:") {
			pipes++
		}
	}
	require.Equal(t, 3, pipes, "standard input, output and error: %v", files)
}

func TestAnotherUserRunsTheChildWhereConfigured(t *testing.T) {
	if os.Geteuid() != 0 {
		// Without the right to change users the start must fail, loudly.
		l, _ := launcher(t, func(s *config.Stdio) { s.User = "nobody" })
		_, err := l.Start(scriptedServer(t, ""), Values{}, newReceiver())
		require.ErrorContains(t, err, "CAP_SETUID")
		return
	}
	command := publicCopy(t)
	l, _ := launcher(t, func(s *config.Stdio) { s.User, s.AllowedCommands = "nobody", []string{command} })
	server := scriptedServer(t, "")
	server.Command = command
	p, r := start(t, l, server)
	require.NoError(t, p.Send(call("identity")))
	require.Contains(t, r.next(t), `"65534 65534 [65534] \u003cnil\u003e\n"`)
	for _, path := range []string{"environ", "mem", "maps"} {
		path = fmt.Sprintf("/proc/%d/%s", os.Getpid(), path)
		require.NoError(t, p.Send(fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":%q}}`, path)))
		require.Contains(t, r.next(t), "permission denied")
	}
	_, err := NewLauncher(&config.Stdio{User: "no such account", HomeDir: homeDir(t)}, hclog.NewNullLogger())
	require.Error(t, err)
}

// publicCopy puts a copy of the test's program where every user can run it.
func publicCopy(t *testing.T) string {
	t.Helper()
	program, err := os.ReadFile(self(t))
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "stdio") //nolint:usetesting // whose folder other users cannot enter
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.WriteFile(dir+"/child", program, 0o755))
	return dir + "/child"
}

func TestAChildEndsWithItsProcessGroup(t *testing.T) {
	for _, mode := range []string{"", "stubborn"} {
		t.Run("mode "+mode, func(t *testing.T) {
			l, _ := launcher(t, func(s *config.Stdio) { s.StopTimeout = 300 * time.Millisecond })
			p, r := start(t, l, scriptedServer(t, mode))
			require.NoError(t, p.Send(call("breed")))
			answer := r.next(t)
			grandchild, err := strconv.Atoi(strings.Split(strings.Split(answer, `"text":"`)[1], `"`)[0])
			require.NoError(t, err)
			require.True(t, alive(grandchild))
			p.Close()
			_ = r.end(t)
			require.False(t, alive(p.cmd.Process.Pid), "not even as a zombie")
			require.Eventually(t, func() bool { return !alive(grandchild) || zombie(grandchild) }, 10*time.Second, time.Millisecond)
			require.Error(t, p.Send(call("pid")))
		})
	}
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// zombie reports whether the process has ended, and waits for its parent, which
// here is not the gateway, to take note.
func zombie(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(status), ") Z ")
}

func TestTheEndOfAChildIsTold(t *testing.T) {
	l, log := launcher(t, nil)
	_, r := start(t, l, scriptedServer(t, "dies"))
	require.ErrorContains(t, r.end(t), "exit status 3")
	require.Contains(t, log.String(), "I cannot go on")
	require.Contains(t, log.String(), "ended by itself")

	p, r := start(t, l, scriptedServer(t, ""))
	require.NoError(t, p.Send(call("crash")))
	require.ErrorContains(t, r.end(t), "exit status 7")
}

func TestAProgramThatCannotRunIsAnErrorAtTheStart(t *testing.T) {
	missing := t.TempDir() + "/missing"
	l, _ := launcher(t, func(s *config.Stdio) { s.AllowedCommands = []string{missing} })
	_, err := l.Start(&grants.Server{Name: "x", Command: missing}, Values{}, newReceiver())
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestAMessageBeyondAllMeasureEndsTheChild(t *testing.T) {
	l, log := launcher(t, nil)
	p, r := start(t, l, scriptedServer(t, ""))
	require.NoError(t, p.Send(call("big")))
	require.ErrorIs(t, r.end(t), ErrMessageSize)
	require.Contains(t, log.String(), "broke the protocol")
}

func TestAChildsErrorsAreLoggedInBoundedLines(t *testing.T) {
	l, log := launcher(t, nil)
	p, r := start(t, l, scriptedServer(t, ""))
	require.NoError(t, p.Send(call("shout")))
	r.next(t)
	p.Close()
	require.NoError(t, r.end(t))
	text := log.String()
	require.Contains(t, text, "a line of log")
	require.Contains(t, text, "yyyy")
	for line := range strings.Lines(text) {
		require.Less(t, len(line), maxLogLine+500)
	}
	require.Equal(t, 1, strings.Count(text, "cut=true"))
}

func TestAChildThatDoesNotReadBlocksNobodyForEver(t *testing.T) {
	l, _ := launcher(t, nil)
	l.sendTimeout = 100 * time.Millisecond
	p, r := start(t, l, scriptedServer(t, "deaf"))
	sent := make(chan error, 1)
	go func() {
		message := []byte(`{"x":"` + strings.Repeat("x", 1<<20) + `"}`)
		for {
			if err := p.Send(message); err != nil {
				sent <- err
				return
			}
		}
	}()
	select {
	case err := <-sent:
		require.ErrorContains(t, err, "does not read")
	case <-time.After(20 * time.Second):
		t.Fatal("the sender is stuck")
	}
	p.Close()
	_ = r.end(t)
}

func TestManyChildrenComeAndGoWithoutTrace(t *testing.T) {
	before := openFiles(t)
	l, _ := launcher(t, nil)
	server := scriptedServer(t, "")
	var running sync.WaitGroup
	for range 20 {
		running.Go(func() {
			r := newReceiver()
			p, err := l.Start(server, valuesOf(server), r)
			if err != nil {
				t.Error(err)
				return
			}
			if err := p.Send(call("pid")); err != nil {
				t.Error(err)
			}
			<-r.messages
			p.Close()
			if err := <-r.gone; err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	l.Wait()
	require.Equal(t, before, openFiles(t))
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}
