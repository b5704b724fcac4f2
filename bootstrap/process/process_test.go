package process_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/process"
)

func start(t *testing.T, script string, keep func([]byte) bool) *process.Process {
	t.Helper()
	p, err := process.Start(process.Spec{
		Name: "the script",
		Path: "/bin/sh",
		Args: []string{"-c", script},
		Env:  []string{"GREETING=hello"},
		Log:  filepath.Join(t.TempDir(), "logs", "script.log"),
		Keep: keep,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// logged waits until the log has a text, and returns the rest of its line.
func logged(t *testing.T, p *process.Process, text string) string {
	t.Helper()
	var rest string
	err := p.Await(t.Context(), 10*time.Second, func(context.Context) error {
		content, err := os.ReadFile(p.Log())
		if err != nil {
			return err
		}
		_, after, found := strings.Cut(string(content), text)
		line, _, whole := strings.Cut(after, "\n")
		if !found || !whole {
			return fmt.Errorf("no %q in %q", text, content)
		}
		rest = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rest
}

func await(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("not ended within 10 s")
	}
}

func TestTheLogHoldsBothOutputsAndIsItsOwnersAlone(t *testing.T) {
	p := start(t, `echo "$GREETING out"; echo "$GREETING err" >&2`, nil)
	await(t, p.Done())
	content, err := os.ReadFile(p.Log())
	if err != nil {
		t.Fatal(err)
	}
	if got := string(content); got != "hello out\nhello err\n" {
		t.Errorf("log = %q", got)
	}
	info, err := os.Stat(p.Log())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the log's mode is %v", info.Mode())
	}
}

func TestLinesThatKeepRefusesNeverReachTheLog(t *testing.T) {
	p := start(t, `printf 'one\nsecret: x\nthr'; printf 'ee\nsecret: y'`, func(line []byte) bool {
		return !bytes.Contains(line, []byte("secret"))
	})
	await(t, p.Done())
	content, err := os.ReadFile(p.Log())
	if err != nil {
		t.Fatal(err)
	}
	if got := string(content); got != "one\nthree\n" {
		t.Errorf("log = %q", got)
	}
}

func TestStopAsksFirst(t *testing.T) {
	p := start(t, `trap 'echo stopping; exit 0' TERM; echo ready; while :; do sleep 0.01; done`, nil)
	logged(t, p, "ready")
	p.Stop(10 * time.Second)
	logged(t, p, "stopping")
}

func TestStopKillsWhatDoesNotListenAndWhateverItStarted(t *testing.T) {
	p := start(t, `trap '' TERM; sleep 1000 & echo "child $!"; wait; wait`, nil)
	child, err := strconv.Atoi(logged(t, p, "child "))
	if err != nil {
		t.Fatal(err)
	}
	p.Stop(50 * time.Millisecond)
	gone(t, child)
}

func TestAChildLeftBehindIsKilled(t *testing.T) {
	p := start(t, `sleep 1000 & echo "$!"`, nil)
	await(t, p.Done())
	content, err := os.ReadFile(p.Log())
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	gone(t, child)
}

// TestMain lets the test program stand for one that is killed.
func TestMain(m *testing.M) {
	log := os.Getenv("START_AND_WAIT")
	if log == "" {
		os.Exit(m.Run())
	}
	_, err := process.Start(process.Spec{
		Name: "the script",
		Path: "/bin/sh",
		Args: []string{"-c", `sleep 1000 & echo "pids $$ $!"; wait`},
		Log:  log,
	})
	if err != nil {
		panic(err)
	}
	select {}
}

func TestNothingOutlivesAProgramThatIsKilled(t *testing.T) {
	inner := filepath.Join(t.TempDir(), "inner")
	p, err := process.Start(process.Spec{
		Name: "the program",
		Path: os.Args[0],
		Env:  []string{"START_AND_WAIT=" + inner},
		Log:  filepath.Join(t.TempDir(), "outer"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	var script, child int
	err = p.Await(t.Context(), 10*time.Second, func(context.Context) error {
		content, err := os.ReadFile(inner)
		if err != nil {
			return err
		}
		_, err = fmt.Sscanf(string(content), "pids %d %d\n", &script, &child)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, script)
	gone(t, child)
}

func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if ended(pid) {
			return
		}
	}
	t.Fatalf("process %d is still there", pid)
}

// ended is true for a process that is gone, and for one that nobody reaps.
func ended(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && bytes.Contains(stat, []byte(") Z "))
}

func TestAProcessThatEndsWhileAwaitedIsAnErrorWithItsLastWords(t *testing.T) {
	p := start(t, `echo "cannot open the storage" >&2; exit 3`, nil)
	err := p.Await(t.Context(), 10*time.Second, func(context.Context) error { return errors.New("not yet") })
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"the script", "exit status 3", p.Log(), "cannot open the storage"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

func TestAProcessThatNeverGetsReadyIsAnErrorWithTheLastAnswer(t *testing.T) {
	p := start(t, `while :; do sleep 0.01; done`, nil)
	sealed := errors.New("sealed")
	err := p.Await(t.Context(), 50*time.Millisecond, func(context.Context) error { return sealed })
	if !errors.Is(err, sealed) || !strings.Contains(err.Error(), "was not ready within 50ms") {
		t.Errorf("err = %v", err)
	}
}

func TestAMissingProgramIsAnError(t *testing.T) {
	_, err := process.Start(process.Spec{Name: "Vault", Path: "/no/such/vault", Log: filepath.Join(t.TempDir(), "log")})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("err = %v", err)
	}
}

func TestAGroupStopsTheLastStartedFirst(t *testing.T) {
	var group process.Group
	for _, name := range []string{"first", "second", "third"} {
		_, err := group.Start(process.Spec{
			Name: name, Path: "/bin/sleep", Args: []string{"1000"}, Log: filepath.Join(t.TempDir(), name),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var order []string
	group.Stop(10*time.Second, func(p *process.Process) { order = append(order, p.Name()) })
	if got := strings.Join(order, " "); got != "third second first" {
		t.Errorf("stopped in the order %s", got)
	}
	group.Stop(time.Second, func(p *process.Process) { t.Errorf("%s was stopped twice", p.Name()) })
}

func TestAGroupReportsTheMemberThatEnds(t *testing.T) {
	var group process.Group
	defer group.Stop(10*time.Second, nil)
	for name, seconds := range map[string]string{"short": "0", "long": "1000"} {
		_, err := group.Start(process.Spec{
			Name: name, Path: "/bin/sleep", Args: []string{seconds}, Log: filepath.Join(t.TempDir(), name),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	select {
	case p := <-group.Ended():
		if p.Name() != "short" || p.Err() == nil {
			t.Errorf("%s ended: %v", p.Name(), p.Err())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was reported within 10 s")
	}
}
