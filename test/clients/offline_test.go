package clients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// offline is an environment in which programs reach the loopback only. Those that
// run on Node are held there by loopback.cjs; the others, which are told of a
// proxy, find one that refuses. Either way the test hears of it and fails.
type offline struct {
	guard string // loopback.cjs
	log   string // what the guard has refused
	proxy *httptest.Server

	mu    sync.Mutex
	asked []string // what the proxy has refused
}

func newOffline(t *testing.T) *offline {
	t.Helper()
	guard, err := filepath.Abs("loopback.cjs")
	require.NoError(t, err)
	o := &offline{guard: guard, log: filepath.Join(t.TempDir(), "stray")}
	o.proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.asked = append(o.asked, r.Method+" "+r.Host)
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(func() {
		o.proxy.Close()
		stray, err := os.ReadFile(o.log)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if len(stray) > 0 || len(o.asked) > 0 {
			t.Errorf("programs wanted to leave the loopback:\n%s%q", stray, o.asked)
		}
	})
	return o
}

// environment is what a program gets, with a home of its own. It turns off what the
// programs would otherwise report to their makers.
func (o *offline) environment(home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LANG=C.UTF-8", "TERM=dumb", "NO_COLOR=1", "CI=1",
		fmt.Sprintf("NODE_OPTIONS=--require=%q", o.guard), "LOOPBACK_LOG=" + o.log,
		"HTTP_PROXY=" + o.proxy.URL, "HTTPS_PROXY=" + o.proxy.URL, "NO_PROXY=127.0.0.1,localhost",
		"DO_NOT_TRACK=1", "NO_UPDATE_NOTIFIER=1",
		"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1", "DISABLE_AUTOUPDATER=1",
		"GEMINI_TELEMETRY_ENABLED=false",
	}
}

// command is a program in that environment, in a folder of its own. It ends with the
// test, and what it has started with it.
func (o *offline) command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = o.environment(cmd.Dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd
}

// patience bounds how long a client may take for one thing.
const patience = time.Minute

// output runs a program to its end, and returns what it printed to standard output.
// The error holds everything that it printed.
func output(cmd *exec.Cmd) (string, error) {
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%w\n%s%s", err, out.String(), problems.String())
	}
	return out.String(), nil
}
