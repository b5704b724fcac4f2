package dev

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/test/harness"
)

// devSystem is a run of `mcp-bootstrap dev`.
type devSystem struct {
	*process.Process
	args      []string
	dir       string
	addresses []string
}

func startDev(t *testing.T, dir string, addresses []string, more ...string) *devSystem {
	t.Helper()
	programs := harness.FindPrograms(t)
	d := &devSystem{dir: dir, addresses: addresses, args: append([]string{
		"dev", "-dir=" + dir, "-vault-binary=" + programs.Vault,
		"-vault-address=" + addresses[0], "-gateway-address=" + addresses[1], "-admin-address=" + addresses[2],
	}, more...)}
	p, err := process.Start(process.Spec{
		Name: "mcp-bootstrap dev",
		Path: programs.Bootstrap,
		Args: d.args,
		Env:  harness.RaceEnv(),
		Log:  filepath.Join(t.TempDir(), "output"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop(30 * time.Second)
		if t.Failed() {
			d.tellLogs(t)
		}
	})
	d.Process = p
	return d
}

// tellLogs prints the gateway's side of a test that has failed.
func (d *devSystem) tellLogs(t *testing.T) {
	t.Helper()
	for _, name := range []string{"gateway.log", "audit.log"} {
		if content, err := os.ReadFile(filepath.Join(d.dir, "logs", name)); err == nil {
			t.Logf("%s:\n%s", name, content)
		}
	}
}

func newDev(t *testing.T) *devSystem {
	t.Helper()
	// A name that a shell must have quoted, wherever it is printed.
	d := startDev(t, filepath.Join(t.TempDir(), "it's a dev"), freeAddresses(t))
	d.awaitReady(t)
	return d
}

// freeAddresses are those of Vault, the gateway and its health.
func freeAddresses(t *testing.T) []string {
	t.Helper()
	return []string{harness.FreeAddress(t), harness.FreeAddress(t), harness.FreeAddress(t)}
}

func (d *devSystem) awaitReady(t *testing.T) {
	t.Helper()
	d.awaitOutput(t, "Ctrl-C stops everything.")
}

func (d *devSystem) awaitOutput(t *testing.T, text string) {
	t.Helper()
	err := d.Await(t.Context(), 2*time.Minute, func(context.Context) error {
		if !strings.Contains(d.output(t), text) {
			return fmt.Errorf("it has not printed %q yet", text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (d *devSystem) output(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(d.Log())
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// interrupt does what Ctrl-C does, and waits for the end.
func (d *devSystem) interrupt(t *testing.T) {
	t.Helper()
	if err := d.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	d.awaitEnd(t)
}

func (d *devSystem) awaitEnd(t *testing.T) {
	t.Helper()
	select {
	case <-d.Done():
	case <-time.After(time.Minute):
		t.Fatalf("it runs a minute after it was asked to end:\n%s", d.output(t))
	}
}

// assertNothingLeft fails where an address is still in use or a secret lies about.
func (d *devSystem) assertNothingLeft(t *testing.T) {
	t.Helper()
	for _, address := range d.addresses {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Errorf("still in use: %v", err)
			continue
		}
		_ = listener.Close()
	}
	for _, name := range []string{"env", "headers", "whoami-headers", "role_id", "secret_id", "kms.env"} {
		if _, err := os.Stat(filepath.Join(d.dir, name)); err == nil {
			t.Errorf("%s is left behind", name)
		}
	}
}

// children are the processes that dev started, by their command lines.
func (d *devSystem) children(t *testing.T) map[string]int {
	t.Helper()
	return childrenOf(t, d.Pid())
}

// childrenOf are the processes that a process has started, by their command lines.
func childrenOf(t *testing.T, parent int) map[string]int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Fatalf("there is no /proc to find the children in: %v", err)
	}
	children := map[string]int{}
	for _, path := range stats {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		pid, after, _ := strings.Cut(string(content), " (")
		_, after, _ = strings.Cut(after, ") ")
		fields := strings.Fields(after)
		if len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if err != nil {
			continue
		}
		id, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		children[string(bytes.ReplaceAll(line, []byte{0}, []byte(" ")))] = id
	}
	return children
}

// tokens reads the two tokens out of the file to be sourced.
func (d *devSystem) tokens(t *testing.T) (root, client string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(d.dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		switch value = strings.Trim(value, "'"); name {
		case "VAULT_TOKEN":
			root = value
		case "MCP_TOKEN":
			client = value
		}
	}
	if root == "" || client == "" {
		t.Fatalf("no tokens in %s", content)
	}
	return root, client
}

// warm has the gateway ask Vault about the client's token. The commands that are
// run then ask once, and Vault may be slow when everything has just been started.
func (d *devSystem) warm(t *testing.T) {
	t.Helper()
	_, token := d.tokens(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.addresses[1]+"/mcp", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	err = d.Await(t.Context(), time.Minute, func(context.Context) error {
		response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
		if err != nil {
			return err
		}
		_ = response.Body.Close()
		if response.StatusCode == http.StatusServiceUnavailable {
			return fmt.Errorf("a request with the client's token is answered %d", response.StatusCode)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// runPrinted runs the commands that dev has printed. It returns the statuses of
// the answers, and all of the output.
func (d *devSystem) runPrinted(t *testing.T) (statuses, output string) {
	t.Helper()
	d.warm(t)
	_, after, _ := strings.Cut(d.output(t), "in this folder:\n")
	script, _, found := strings.Cut(after, "\nLogs")
	if !found {
		t.Fatalf("no commands in:\n%s", d.output(t))
	}
	shell := exec.CommandContext(t.Context(), "bash", "-e", "-c", script)
	shell.Dir = t.TempDir()
	out, err := shell.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}
	var answers []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "HTTP/1.1 ") {
			answers = append(answers, strings.Fields(line)[1])
		}
	}
	return strings.Join(answers, " "), string(out)
}
