// Package scripted is an MCP server on stdio for tests. Some of its tools misbehave, and
// others use every feature that must work through a bridge. It speaks raw JSON, so that
// no byte of a message is lost.
package scripted

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Variable, set in a child's environment, makes [Main] the program.
const Variable = "MCP_SCRIPTED_SERVER"

// Main runs the server, and exits, if [Variable] is set. A test binary calls it first in
// its TestMain, and starts itself as the server. The variable's value may have, separated
// by commas: "legacy" (session era only), "mute" (never answers), "deaf" (never reads), "stubborn" (ignores
// signals and the end of its input), "dies" (ends at once).
func Main() {
	mode, on := os.LookupEnv(Variable)
	if !on {
		return
	}
	s := &server{out: os.Stdout, waiting: map[string]chan json.RawMessage{}, cancels: map[string]chan struct{}{}, legacy: strings.Contains(mode, "legacy")}
	switch {
	case strings.Contains(mode, "dies"):
		fmt.Fprintln(os.Stderr, "I cannot go on", os.Getenv("COMPLAINT"))
		os.Exit(3)
	case strings.Contains(mode, "deaf"):
		select {}
	case strings.Contains(mode, "stubborn"):
		ignoreSignals()
		s.serve(os.Stdin)
		select {}
	case strings.Contains(mode, "mute"):
		_, _ = io.Copy(io.Discard, os.Stdin)
	default:
		s.serve(os.Stdin)
	}
	syscall.Exit(0) // os.Exit would wait for a second, for the race detector
}

type server struct {
	legacy bool

	outMu sync.Mutex
	out   io.Writer

	mu      sync.Mutex
	waiting map[string]chan json.RawMessage // own requests, by id
	cancels map[string]chan struct{}        // requests being served, by id
	asked   int
	hellos  int
}

type message struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params struct {
		Name      string          `json:"name"`
		Arguments json.RawMessage `json:"arguments"`
		RequestID json.RawMessage `json:"requestId"`
		Meta      struct {
			ProgressToken json.RawMessage `json:"progressToken"`
			Version       string          `json:"io.modelcontextprotocol/protocolVersion"`
		} `json:"_meta"`
	} `json:"params"`
	Result json.RawMessage `json:"result"`
}

func (s *server) serve(in io.Reader) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 32<<20)
	for lines.Scan() {
		line := append([]byte(nil), lines.Bytes()...)
		var m message
		if err := json.Unmarshal(line, &m); err != nil {
			s.write(`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}`)
			continue
		}
		switch {
		case m.Method == "":
			s.mu.Lock()
			if c := s.waiting[string(m.ID)]; c != nil {
				c <- line
			}
			s.mu.Unlock()
		case m.Method == "notifications/cancelled":
			s.mu.Lock()
			if c := s.cancels[string(m.Params.RequestID)]; c != nil {
				close(c)
				delete(s.cancels, string(m.Params.RequestID))
			}
			s.mu.Unlock()
		case m.Method == "notifications/vendor":
			s.write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"got %s"}}`, m.Method)
		case m.ID == nil:
		default:
			cancelled := make(chan struct{})
			s.mu.Lock()
			s.cancels[string(m.ID)] = cancelled
			s.mu.Unlock()
			go func() {
				s.request(&m, line, cancelled)
				s.mu.Lock()
				delete(s.cancels, string(m.ID))
				s.mu.Unlock()
			}()
		}
	}
}

func (s *server) write(format string, args ...any) {
	s.outMu.Lock()
	defer s.outMu.Unlock()
	_, _ = fmt.Fprintf(s.out, format+"\n", args...)
}

func (s *server) result(m *message, result string) {
	s.write(`{"jsonrpc":"2.0","id":%s,"result":%s}`, m.ID, result)
}

// text answers a call with a text.
func (s *server) text(m *message, text any) {
	quoted, err := json.Marshal(fmt.Sprint(text))
	if err != nil {
		panic(err)
	}
	s.result(m, fmt.Sprintf(`{"content":[{"type":"text","text":%s}]}`, quoted))
}

func (s *server) request(m *message, line []byte, cancelled chan struct{}) {
	switch m.Method {
	case "initialize":
		s.mu.Lock()
		s.hellos++
		n := s.hellos
		s.mu.Unlock()
		s.result(m, fmt.Sprintf(`{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"instructions":"process %[2]d","serverInfo":{"name":"scripted","version":"%[1]d","pid":%[2]d}}`, n, os.Getpid()))
	case "server/discover":
		if s.legacy {
			s.write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"what?"}}`, m.ID)
			return
		}
		s.result(m, fmt.Sprintf(`{"supportedVersions":["2026-07-28"],"capabilities":{},"instructions":"process %d"}`, os.Getpid()))
	case "tools/list":
		s.result(m, `{"tools":[{"name":"echo"},{"name":"pid"}],"big":12345678901234567890}`)
	case "resources/subscribe", "resources/unsubscribe", "ping":
		s.result(m, `{}`)
	case "subscriptions/listen":
		s.write(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":%s}}}`, m.ID)
		<-cancelled
		fmt.Fprintln(os.Stderr, "cancelled listen")
	case "tools/call":
		s.call(m, line, cancelled)
	default:
		s.write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"unknown"}}`, m.ID)
	}
}

func (s *server) call(m *message, line []byte, cancelled chan struct{}) {
	switch m.Params.Name {
	case "echo":
		s.result(m, fmt.Sprintf(`{"got":%s}`, line))
	case "pid":
		s.text(m, os.Getpid())
	case "environment":
		s.text(m, strings.Join(os.Environ(), "\n"))
	case "files":
		s.text(m, files())
	case "identity":
		groups, err := os.Getgroups()
		s.text(m, fmt.Sprintln(os.Getuid(), os.Getgid(), groups, err))
	case "read":
		var path string
		_ = json.Unmarshal(m.Params.Arguments, &path)
		_, err := os.ReadFile(path)
		s.text(m, err)
	case "run":
		var script string
		_ = json.Unmarshal(m.Params.Arguments, &script)
		said, err := exec.CommandContext(context.Background(), "/bin/sh", "-c", script).CombinedOutput() //nolint:gosec // a test chooses the child's action
		s.text(m, fmt.Sprint(string(said), err))
	case "progress":
		for i := range 3 {
			s.write(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%s,"progress":%d}}`, m.Params.Meta.ProgressToken, i)
		}
		s.text(m, "done")
	case "log":
		s.write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"a secret of this client"}}`)
		s.write(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
		s.text(m, "done")
	case "update":
		s.write(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":%s}}`, m.Params.Arguments)
		s.text(m, "done")
	case "ask":
		s.text(m, string(s.ask()))
	case "hang":
		s.write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"hanging"}}`)
		<-cancelled
		fmt.Fprintln(os.Stderr, "cancelled hang")
	case "crash":
		os.Exit(7)
	case "big":
		s.text(m, strings.Repeat("x", 20<<20))
	case "garbage":
		s.write("this is not a message")
		s.write(`[{"jsonrpc":"2.0","id":1,"result":{}}]`)
		s.write(`{"jsonrpc":"2.0","id":%s,"ID":1,"result":{}}`, m.ID)
		s.write(`{"jsonrpc":"2.0","id":999999,"result":{}}`)
		s.text(m, "done")
	case "shout":
		fmt.Fprintln(os.Stderr, "a line of log")
		fmt.Fprintln(os.Stderr, strings.Repeat("y", 100<<10))
		s.text(m, "done")
	case "breed":
		s.text(m, breed())
	default:
		s.write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32602,"message":"unknown tool"}}`, m.ID)
	}
}

// ask asks the client for a model's answer, and returns the whole response.
func (s *server) ask() json.RawMessage {
	answer := make(chan json.RawMessage, 1)
	s.mu.Lock()
	s.asked++
	id := fmt.Sprintf("%q", fmt.Sprint("ask-", s.asked))
	s.waiting[id] = answer
	s.mu.Unlock()
	s.write(`{"jsonrpc":"2.0","id":%s,"method":"sampling/createMessage","params":{"maxTokens":12345678901234567890}}`, id)
	select {
	case m := <-answer:
		return m
	case <-time.After(10 * time.Second):
		return json.RawMessage("nobody answered")
	}
}

// files lists the open files of the process.
func files() string {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err.Error()
	}
	var list []string
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil {
			list = append(list, target)
		}
	}
	return strings.Join(list, "\n")
}

// breed starts a grandchild that would outlive the child, and returns its
// process id.
func breed() int {
	cmd := exec.CommandContext(context.Background(), "/bin/sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	return cmd.Process.Pid
}
