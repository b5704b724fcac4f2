package isolation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"golang.org/x/sys/unix"
)

// spyVariable, in its environment, makes the test's program the spy: a server that
// looks around, and that does things that servers should not do.
const spyVariable = "TEST_SPY"

func TestMain(m *testing.M) {
	if os.Getenv(spyVariable) == "" {
		os.Exit(m.Run())
	}
	if err := newSpy().Run(context.Background(), &mcp.StdioTransport{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	syscall.Exit(0) // the end of main would wait for a second, for the race detector
}

// sight is the spy's view of its own process.
type sight struct {
	PID, Parent, UID, GID int
	Groups                []int
	Environment           []string
	Files                 []string // the targets of its file descriptors
	Folder                string
}

// words are the arguments of a tool, and its answer.
type words struct {
	Text string `json:"text"`
}

type number struct {
	PID int `json:"pid"`
}

func newSpy() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "spy", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "look"}, func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, sight, error) {
		seen, err := look()
		return nil, seen, err
	})
	mcp.AddTool(server, &mcp.Tool{Name: "read"}, func(_ context.Context, _ *mcp.CallToolRequest, in words) (*mcp.CallToolResult, words, error) {
		return nil, words{read(in.Text)}, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "attach"}, func(_ context.Context, _ *mcp.CallToolRequest, in number) (*mcp.CallToolResult, words, error) {
		return nil, words{attach(in.PID)}, nil
	})
	var mu sync.Mutex
	kept := ""
	mcp.AddTool(server, &mcp.Tool{Name: "keep"}, func(_ context.Context, _ *mcp.CallToolRequest, in words) (*mcp.CallToolResult, words, error) {
		mu.Lock()
		defer mu.Unlock()
		before := kept
		kept = in.Text
		return nil, words{before}, nil
	})
	// Clients are told of a tool that is added.
	mcp.AddTool(server, &mcp.Tool{Name: "say"}, func(_ context.Context, _ *mcp.CallToolRequest, in words) (*mcp.CallToolResult, any, error) {
		mcp.AddTool(server, &mcp.Tool{Name: in.Text}, func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, any, error) {
			return nil, nil, nil
		})
		return nil, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "breed"}, func(_ context.Context, _ *mcp.CallToolRequest, in words) (*mcp.CallToolResult, number, error) {
		child := exec.Command("sleep", in.Text)
		err := child.Start()
		if err != nil {
			return nil, number{}, err
		}
		return nil, number{child.Process.Pid}, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "end"}, func(context.Context, *mcp.CallToolRequest, any) (*mcp.CallToolResult, any, error) {
		os.Exit(7)
		return nil, nil, nil
	})
	return server
}

func look() (sight, error) {
	s := sight{PID: os.Getpid(), Parent: os.Getppid(), UID: os.Getuid(), GID: os.Getgid(), Environment: os.Environ()}
	var err error
	if s.Groups, err = os.Getgroups(); err != nil {
		return s, err
	}
	if s.Folder, err = os.Getwd(); err != nil {
		return s, err
	}
	descriptors, err := os.ReadDir("/proc/self/fd")
	for _, d := range descriptors {
		if to, linkErr := os.Readlink(filepath.Join("/proc/self/fd", d.Name())); linkErr == nil {
			s.Files = append(s.Files, to)
		}
	}
	return s, err
}

// read reads a file or a folder, and returns the error or the content.
func read(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if entries, err := file.ReadDir(-1); err == nil {
		names := ""
		for _, e := range entries {
			to, err := os.Readlink(filepath.Join(path, e.Name()))
			names += e.Name() + " " + to + " " + fmt.Sprint(err) + "\n"
		}
		return names
	}
	content := make([]byte, 1<<16)
	n, err := file.Read(content)
	if err != nil {
		return err.Error()
	}
	return string(content[:n])
}

// attach tries to trace a process, as a debugger does, and returns why it cannot.
func attach(pid int) string {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceAttach(pid); err != nil {
		return err.Error()
	}
	_, waitErr := unix.Wait4(pid, nil, syscall.WALL, nil)
	return fmt.Sprintf("attached: %v", errors.Join(waitErr, unix.PtraceDetach(pid)))
}
