// Package chromium drives Debian's Chromium, without a display, for tests. A window has
// cookies of its own, as another person's browser or a private window has. No page runs a
// script in it: nothing that a test does needs one.
package chromium

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/npm"
)

// patience is how long a test waits for the browser.
const patience = 30 * time.Second

// folder is where the npm packages are pinned.
const folder = "test/browser"

// Program returns the browser's program. Where the machine lacks a part, it skips the
// test, or fails it if TEST_FIELD is "required".
func Program(t testing.TB) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(here(t), "..", "..", "..", "scripts", "field.sh"), "missing", "browser")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	if missing := strings.TrimSpace(string(out)); missing != "" {
		if os.Getenv("TEST_FIELD") == "required" {
			t.Fatalf("missing on this machine:\n%s", missing)
		}
		t.Skipf("missing on this machine:\n%s", missing)
	}
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// Modules are the npm packages that drive it.
func Modules(t testing.TB) npm.Modules {
	t.Helper()
	return npm.InstallFrom(t, folder)
}

// here is the folder of this file.
func here(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("it is not known where the repository is")
	}
	return filepath.Dir(file)
}

// Browser is a running browser.
type Browser struct {
	mu      sync.Mutex
	input   io.WriteCloser
	answers *bufio.Reader
	log     string // the driver's log file
}

// Start starts a browser, which ends with the test. Hosts are names that it looks for at
// addresses of the test's own.
func Start(t testing.TB, hosts map[string]string) *Browser {
	t.Helper()
	program, modules := Program(t), Modules(t)
	options, err := json.Marshal(map[string]any{"hosts": hosts, "patience": patience.Milliseconds()})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(modules.Node, filepath.Join(here(t), "driver.cjs"), modules.Dir, program, string(options))
	b := &Browser{log: filepath.Join(t.TempDir(), "driver.log")}
	log, err := os.Create(b.log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	b.input, b.answers = input, bufio.NewReader(output)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The driver ends the browser at the end of its input.
		_ = input.Close()
		timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		_, _ = io.Copy(io.Discard, output)
		defer log.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the browser ended with %v: %s", err, b.told())
		}
	})
	return b
}

// told returns the driver's log.
func (b *Browser) told() string {
	text, err := os.ReadFile(b.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// object is a command's arguments.
type object = map[string]any

// do has the driver carry out a command.
func (b *Browser) do(t testing.TB, command string, arguments object, result any) {
	t.Helper()
	if err := b.try(command, arguments, result); err != nil {
		t.Fatalf("the browser cannot %s %v: %v", command, arguments, err)
	}
}

func (b *Browser) try(command string, arguments object, result any) error {
	arguments["do"] = command
	line, err := json.Marshal(arguments)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := b.input.Write(append(line, '\n')); err != nil {
		return err
	}
	line, err = b.answers.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%w: %s", err, b.told())
	}
	var answer struct {
		Result json.RawMessage `json:"result"`
		Error  string          `json:"error"`
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer.Result, result)
}

// Window is a browser's window with cookies of its own.
type Window struct {
	b  *Browser
	id int
}

// Window opens one. The header, which may be nil, is added to its requests.
func (b *Browser) Window(t testing.TB, header map[string]string) *Window {
	t.Helper()
	w := &Window{b: b}
	b.do(t, "window", object{"header": header}, &w.id)
	return w
}

// Forget deletes the window's cookies.
func (w *Window) Forget(t testing.TB) {
	t.Helper()
	w.b.do(t, "forget", object{"window": w.id}, nil)
}

// Tab is a tab of a window.
type Tab struct {
	b  *Browser
	t  testing.TB
	id int
}

// Tab opens one. The test fails where its page has a fault, such as something that the
// page's own policy blocks.
func (w *Window) Tab(t testing.TB) *Tab {
	t.Helper()
	tab := &Tab{b: w.b, t: t}
	w.b.do(t, "tab", object{"window": w.id}, &tab.id)
	return tab
}

// Open goes to an address.
func (p *Tab) Open(url string) *Tab {
	p.t.Helper()
	p.b.do(p.t, "open", object{"tab": p.id, "url": url}, nil)
	return p
}

// Fill types into the field with this label.
func (p *Tab) Fill(label, text string) *Tab {
	p.t.Helper()
	p.b.do(p.t, "fill", object{"tab": p.id, "label": label, "text": text}, nil)
	return p
}

// Choose selects the radio button with this label.
func (p *Tab) Choose(label string) *Tab {
	p.t.Helper()
	p.b.do(p.t, "choose", object{"tab": p.id, "label": label}, nil)
	return p
}

// Press clicks on the button with this name.
func (p *Tab) Press(button string) *Tab {
	p.t.Helper()
	p.b.do(p.t, "press", object{"tab": p.id, "name": button}, nil)
	return p
}

// Seen is the content of a tab.
type Seen struct {
	URL     string `json:"url"`
	Heading string `json:"heading"`
	Text    string `json:"text"`
	// Visits are the addresses that the tab went to, in their order; also links that
	// another program opens.
	Visits []string `json:"visits"`
	// Trouble has the browser's complaints about the pages.
	Trouble []string `json:"trouble"`
}

// See returns the tab's present content. Trouble fails the test.
func (p *Tab) See() Seen {
	p.t.Helper()
	var seen Seen
	p.b.do(p.t, "see", object{"tab": p.id}, &seen)
	if len(seen.Trouble) > 0 {
		p.t.Fatalf("the page %s has faults: %s", seen.URL, strings.Join(seen.Trouble, "; "))
	}
	return seen
}

// Await waits until a check of the tab's content returns no error.
func (p *Tab) Await(check func(Seen) error) Seen {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		seen := p.See()
		err := check(seen)
		if err == nil {
			return seen
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%v; the tab shows %s: %q", err, seen.URL, seen.Text)
		}
		select {
		case <-p.t.Context().Done():
			p.t.Fatal(p.t.Context().Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Heading waits until the page has this heading.
func (p *Tab) Heading(want string) Seen {
	p.t.Helper()
	return p.Await(func(seen Seen) error {
		if seen.Heading != want {
			return fmt.Errorf("the heading is %q, not %q", seen.Heading, want)
		}
		return nil
	})
}

// Visited waits until the tab has gone to an address that begins so, and returns it.
func (p *Tab) Visited(prefix string) string {
	p.t.Helper()
	var found string
	p.Await(func(seen Seen) error {
		for _, at := range seen.Visits {
			if strings.HasPrefix(at, prefix) {
				found = at
				return nil
			}
		}
		return fmt.Errorf("the tab has not gone to %s; it went to %q", prefix, seen.Visits)
	})
	return found
}
