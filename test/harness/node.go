package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

// Node is one server of a Vault.
type Node struct {
	vault   *Vault
	name    string
	address string // host:port
	place   *Place // nil: the loopback
	spec    process.Spec
	process *process.Process
}

// Address is the node's URL.
func (n *Node) Address() string {
	if n.place != nil {
		return "https://" + n.address
	}
	return "http://" + n.address
}

// Client returns a new client with the root token, for this node.
func (n *Node) Client() *api.Client {
	n.vault.h.t.Helper()
	authority := ""
	if n.place != nil {
		authority = n.place.Authority
	}
	return client(n.vault.h.t, n.Address(), n.vault.RootToken, authority)
}

// Running reports whether the node was started and has not ended.
func (n *Node) Running() bool { return n.process != nil && n.process.Running() }

// Signal sends a signal to the node's process. One that stops it has done so when Signal returns.
func (n *Node) Signal(signal os.Signal) {
	n.vault.h.t.Helper()
	err := n.process.Signal(signal)
	if err == nil && signal == syscall.SIGSTOP {
		err = n.vault.h.awaitStopped(n.Pid())
	}
	if err != nil {
		n.vault.h.t.Error(err)
	}
}

// awaitStopped waits until every thread of a process has stopped. Each stops when it runs next, and
// on a busy machine the others answer requests until then.
func (h *Harness) awaitStopped(pid int) error {
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	for {
		running := false
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(stats) == 0 {
			return errors.Join(err, fmt.Errorf("there is no process %d in /proc", pid))
		}
		for _, path := range stats {
			content, err := os.ReadFile(path)
			_, rest, _ := bytes.Cut(content, []byte(") "))
			running = running || err == nil && !bytes.HasPrefix(rest, []byte("T"))
		}
		if !running {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d does not stop: %w", pid, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// Stop ends the node as an operator would. A Vault in dev mode loses all data.
func (n *Node) Stop() { n.process.Stop(20 * time.Second) }

// Kill ends the node, and the plugin with it, as a power cut would.
func (n *Node) Kill() { n.process.Kill() }

// Start starts a node of a cluster that was stopped or killed, and returns once
// it is unsealed and knows the leader.
func (n *Node) Start() {
	n.vault.h.t.Helper()
	ctx := context.WithoutCancel(n.vault.h.t.Context())
	if err := n.startUnsealed(ctx); err != nil {
		n.vault.h.t.Fatal(err)
	}
}

// start runs the server, and returns once it listens.
func (n *Node) start(ctx context.Context) error {
	p, err := n.vault.h.group.Start(n.spec)
	if err != nil {
		return err
	}
	n.process = p
	return p.Await(ctx, patience, func(ctx context.Context) error {
		connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.address)
		if err != nil {
			return err
		}
		return connection.Close()
	})
}

// Pid is the node's process id.
func (n *Node) Pid() int { return n.process.Pid() }

// PluginPid is the process id of the plugin that this node started.
func (n *Node) PluginPid() int {
	n.vault.h.t.Helper()
	pids, err := n.pluginPids()
	if err != nil || len(pids) == 0 {
		n.vault.h.t.Fatalf("the plugin does not run: %v", err)
	}
	return pids[0]
}

// KillPlugin ends every process of the plugin that this node started, with
// SIGKILL, and returns how many there were. Vault starts a new one when it needs it.
func (n *Node) KillPlugin() int {
	n.vault.h.t.Helper()
	pids, err := n.pluginPids()
	if err != nil {
		n.vault.h.t.Fatal(err)
	}
	killed := 0
	for _, pid := range pids {
		if p, err := os.FindProcess(pid); err == nil && p.Kill() == nil {
			killed++
		}
	}
	return killed
}

// SignalPlugin sends a signal to every process of the plugin that this node
// started.
func (n *Node) SignalPlugin(signal os.Signal) {
	n.vault.h.t.Helper()
	pids, err := n.pluginPids()
	if err == nil && len(pids) == 0 {
		err = errors.New("no plugin runs")
	}
	for _, pid := range pids {
		if p, findErr := os.FindProcess(pid); findErr == nil {
			err = errors.Join(err, p.Signal(signal))
		}
		if err == nil && signal == syscall.SIGSTOP {
			err = n.vault.h.awaitStopped(pid)
		}
	}
	if err != nil {
		n.vault.h.t.Fatal(err)
	}
}

// pluginPids finds the plugin among the processes of the node's group.
func (n *Node) pluginPids() ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		return nil, errors.Join(err, errors.New("there is no /proc to find the plugin in"))
	}
	var pids []int
	for _, path := range stats {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// pid (name) state ppid pgrp …
		_, after, _ := bytes.Cut(content, []byte(") "))
		fields := bytes.Fields(after)
		if len(fields) < 3 || string(fields[2]) != strconv.Itoa(n.process.Pid()) {
			continue
		}
		exe, err := os.Readlink(filepath.Join(filepath.Dir(path), "exe"))
		if err != nil || filepath.Base(exe) != provision.PluginName {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
