package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

const manyWatchers = 1000

// A thousand held requests cost the plugin's process less than 20 MB, and no CPU
// while nothing changes. The plugin is one without the race detector, which has a
// cost of its own.
func TestAThousandWatchersCostLittle(t *testing.T) {
	h := harness.New(t)
	program := usePlainPlugin(t, h)
	h.Write(harness.Mount+"/config", harness.Map{"max_watchers": manyWatchers, "max_wait": "30s"})
	h.CreateClient("c", harness.Map{"allowed_servers": "a"})
	plugin, vault := processOf(t, program), parentOf(t, processOf(t, program))
	warmUp(t, h)
	head := h.Read(harness.Mount + "/changes")
	before, vaultBefore := residentMB(t, plugin), residentMB(t, vault)

	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	t.Cleanup(func() { cancel(); all.Wait() })
	answers := make(chan time.Time, manyWatchers)
	client := h.Vault.Client()
	client.SetClientTimeout(time.Minute)
	for range manyWatchers {
		all.Go(func() {
			answer, err := client.Logical().ReadWithDataWithContext(ctx, harness.Mount+"/changes", url.Values{
				"wait": {"30s"}, "epoch": {head["epoch"].(string)}, "index": {string(head["index"].(json.Number))},
			})
			if err != nil || len(answer.Data["changes"].([]any)) != 1 {
				t.Errorf("%v %v", answer, err)
			}
			answers <- time.Now()
		})
	}
	h.Eventually("all watchers are held", func() error {
		if used := cpuWithin(t, plugin, time.Second); used > 20*time.Millisecond {
			return fmt.Errorf("the plugin was busy for %s of a second", used)
		}
		return nil
	})
	if len(answers) > 0 {
		t.Fatalf("%d watchers were not held", len(answers))
	}

	used := cpuWithin(t, plugin, 5*time.Second)
	cost := residentMB(t, plugin) - before
	t.Logf("%d watchers cost the plugin %.1f MB and %.1f %% of one CPU, and Vault %.1f MB",
		manyWatchers, cost, 100*used.Seconds()/5, residentMB(t, vault)-vaultBefore)
	if cost > 20 {
		t.Errorf("the watchers cost %.1f MB", cost)
	}
	if used > 250*time.Millisecond {
		t.Errorf("the watchers cost %s of 5s of CPU", used)
	}

	revoked := time.Now()
	h.Write(harness.Mount+"/revoke-client/c", nil)
	var delays []time.Duration
	for range manyWatchers {
		delays = append(delays, (<-answers).Sub(revoked))
	}
	slices.Sort(delays)
	t.Logf("a revocation reached half of them after %s, and all after %s",
		delays[manyWatchers/2].Round(time.Millisecond), delays[manyWatchers-1].Round(time.Millisecond))
}

// warmUp has the plugin answer a thousand requests, so that the memory for requests of
// any kind is allocated already.
func warmUp(t *testing.T, h *harness.Harness) {
	t.Helper()
	client := h.Vault.Client()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 50 {
				if _, err := client.Logical().ReadWithContext(t.Context(), harness.Mount+"/changes"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// usePlainPlugin mounts the engine again, built without the race detector, and
// returns the program's path.
func usePlainPlugin(t *testing.T, h *harness.Harness) string {
	t.Helper()
	program := filepath.Join(h.Dir, "plugins", "plain")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "vault-plugin-secrets-mcp/plugin/cmd/vault-plugin-secrets-mcp")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	sum, err := provision.Checksum(program)
	if err != nil {
		t.Fatal(err)
	}
	// Under a name of its own: of two programs of one name, Vault may go on with
	// the process that it has.
	const name = "plain"
	sys := h.Vault.Client().Sys()
	for _, step := range []func() error{
		func() error { return sys.UnmountWithContext(t.Context(), harness.Mount) },
		func() error {
			return sys.RegisterPluginWithContext(t.Context(), &api.RegisterPluginInput{
				Name: name, Type: api.PluginTypeSecrets, Command: filepath.Base(program), SHA256: sum,
			})
		},
		func() error { return sys.MountWithContext(t.Context(), harness.Mount, &api.MountInput{Type: name}) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return program
}

// processOf is the id of the process that runs a program.
func processOf(t *testing.T, program string) int {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if exe, err := os.Readlink(link); err == nil && exe == program {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("nobody runs %s", program)
	return 0
}

// stat is the fields of /proc/PID/stat that follow the program's name.
func stat(t *testing.T, pid int) [][]byte {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Fields(content[bytes.LastIndexByte(content, ')')+1:])
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	return number(t, string(stat(t, pid)[1]))
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// residentMB is the resident memory of a process.
func residentMB(t *testing.T, pid int) float64 {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(content), "VmRSS:")
	return float64(number(t, strings.Fields(after)[0])) / 1024
}

// cpuWithin is how much CPU a process uses in some time.
func cpuWithin(t *testing.T, pid int, d time.Duration) time.Duration {
	t.Helper()
	used := func() time.Duration {
		const tick = 10 * time.Millisecond // of Linux, for all programs
		fields := stat(t, pid)
		return time.Duration(number(t, string(fields[11]))+number(t, string(fields[12]))) * tick
	}
	before := used()
	<-time.After(d)
	return used() - before
}
