package dev

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestDevPrintsCommandsThatWorkAsTheyArePrinted(t *testing.T) {
	d := newDev(t)
	statuses, out := d.runPrinted(t)
	if statuses != "200 403 401" {
		t.Errorf("the calls were answered %s:\n%s", statuses, out)
	}
	if !strings.Contains(out, `"result":5`) {
		t.Errorf("2 + 3 is not in the answer:\n%s", out)
	}
}

func TestDevKeepsItsTokensToItself(t *testing.T) {
	d := newDev(t)
	root, client := d.tokens(t)
	output := d.output(t)
	if got := strings.Count(output, client); got != 1 {
		t.Errorf("the client's token is printed %d times", got)
	}
	if strings.Contains(output, root) {
		t.Error("the root token is printed")
	}
	for line := range d.children(t) {
		if strings.Contains(line, root) || strings.Contains(line, client) {
			t.Errorf("a token is in a command line")
		}
	}
	err := filepath.WalkDir(d.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}

	d.interrupt(t)
	logs, err := filepath.Glob(filepath.Join(d.dir, "logs", "*"))
	if err != nil || len(logs) < 4 {
		t.Errorf("logs %v, %v", logs, err)
	}
	for _, path := range logs {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(content, []byte(root)) || bytes.Contains(content, []byte(client)) {
			t.Errorf("a token is in %s", path)
		}
	}
}

func TestDevStopsEverythingOnCtrlCAndStartsAgain(t *testing.T) {
	first := newDev(t)
	first.interrupt(t)
	if output := first.output(t); !strings.HasSuffix(output, "Stopped.\n") {
		t.Errorf("its last words:\n%s", output)
	}
	first.assertNothingLeft(t)

	second := startDev(t, first.dir, first.addresses)
	second.awaitReady(t)
	second.interrupt(t)
	second.assertNothingLeft(t)
}

func TestDevCanBeStoppedWhileItStarts(t *testing.T) {
	for _, step := range []string{"Starting Vault on", "Setting up the engine", "Starting the demo server", "Starting the gateway", "Starting 3 Vaults", "Starting Vault Agent", "Setting up the credentials", "Setting up the sign-in"} {
		t.Run(step, func(t *testing.T) {
			var options []string
			switch step {
			case "Starting 3 Vaults":
				options = []string{"-ha"}
			case "Starting Vault Agent":
				options = []string{"-agent"}
			case "Setting up the credentials":
				options = []string{"-upstream"}
			case "Setting up the sign-in":
				options = []string{"-sign-in"}
			}
			d := startDev(t, filepath.Join(t.TempDir(), "dev"), freeAddresses(t), options...)
			d.awaitOutput(t, step)
			d.interrupt(t)
			if output := d.output(t); !strings.HasSuffix(output, "Stopped.\n") {
				t.Errorf("its last words:\n%s", output)
			}
			d.assertNothingLeft(t)
		})
	}
}

func TestDevSaysWhatIsInItsWay(t *testing.T) {
	first := newDev(t)

	samePorts := startDev(t, filepath.Join(t.TempDir(), "dev"), first.addresses)
	samePorts.awaitEnd(t)
	if output := samePorts.output(t); !strings.Contains(output, first.addresses[0]+", which is in use") {
		t.Errorf("the same ports:\n%s", output)
	}
	sameFolder := startDev(t, first.dir, freeAddresses(t))
	sameFolder.awaitEnd(t)
	if output := sameFolder.output(t); !strings.Contains(output, "uses the folder "+first.dir) {
		t.Errorf("the same folder:\n%s", output)
	}
	first.tokens(t) // what the first one wrote is still there
}

func TestDevEndsWhenAPartOfItDoes(t *testing.T) {
	for part, name := range map[string]string{
		"mcp-gateway": "the gateway", "demo calculator": "the demo server calculator", "server -dev": "Vault",
	} {
		t.Run(name, func(t *testing.T) {
			d := newDev(t)
			killed := false
			for line, pid := range d.children(t) {
				if strings.Contains(line, part) {
					if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
					killed = true
				}
			}
			if !killed {
				t.Fatalf("%s is not among the children: %v", part, d.children(t))
			}
			d.awaitEnd(t)
			if want := fmt.Sprintf("%s ended by itself (signal: killed)", name); !strings.Contains(d.output(t), want) {
				t.Errorf("%q is missing in:\n%s", want, d.output(t))
			}
			d.assertNothingLeft(t)
		})
	}
}
