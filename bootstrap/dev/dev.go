// Package dev runs the whole system on one machine: a Vault in dev mode with the
// plugin, two demo MCP servers, a client that may use one of them, and a
// gateway. It is for trying and for development: no connection is encrypted, and
// Vault forgets everything when it ends, unless an option keeps it. Other options add a
// cluster of Vaults, sealed tokens, a Vault Agent, servers with credentials that are leased
// from Vault, people who sign in with a browser, and the user's own MCP servers.
package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/apply"
	"vault-plugin-secrets-mcp/bootstrap/process"
)

// The names under which things are registered.
const (
	mount       = "mcp"
	calculator  = "calculator"
	notesServer = "notes"
	client      = "cursor-local"
)

// clientPath is the path at the gateway that stands in the client's configuration.
const clientPath = "/mcp"

// Bounds of starting and stopping one process.
const (
	startTimeout = 60 * time.Second
	stopGrace    = 10 * time.Second
)

// system has the running processes, and facts about them.
type system struct {
	Options
	progress
	group process.Group

	rootToken     string // Vault's
	clientToken   string // cursor-local's
	sameToken     bool   // it is that of the last run
	kept          kept   // with Options.Keep
	calculatorURL string
	whoamiURL     string            // with Options.Upstream
	people        signInPeople      // with Options.SignIn
	kms           map[string]string // how to reach the double of AWS KMS, if there is one
	cluster       *cluster          // nil: Vault is one server in dev mode
	own           []apply.Server    // those of Options.Servers
	programs      []string          // the programs of those that are commands
	ownNotes      []string          // about parts of their file without a meaning here
}

// Run starts everything, prints the summary, and returns when the context ends, or with
// an error when a process ends. It then stops everything that it has started.
func Run(ctx context.Context, opts Options) (err error) {
	s := &system{Options: opts, progress: progress{opts.Out}}
	if err := s.check(ctx); err != nil {
		return err
	}
	if err := s.loadServers(); err != nil {
		return err
	}
	unlock, err := s.prepareDir()
	if err != nil {
		return err
	}
	defer unlock()
	clearEnvironment()

	defer func() {
		s.group.Stop(stopGrace, func(p *process.Process) { fmt.Fprintf(s.out, "Stopping %s\n", p.Name()) })
		if s.cluster != nil {
			s.cluster.stop()
		}
		s.removeSecrets()
		if ctx.Err() != nil {
			err = nil // to be stopped is how this ends
			fmt.Fprintln(s.out, "Stopped.")
		}
	}()
	if err := s.start(ctx); err != nil {
		return err
	}
	if err := s.summarize(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		fmt.Fprintln(s.out)
		return nil
	case p := <-s.group.Ended():
		return p.Err()
	}
}

// start brings everything up, in the order in which one needs the other.
func (s *system) start(ctx context.Context) error {
	type step struct {
		name string
		work func(context.Context) error
	}
	start := step{"Starting Vault on " + s.VaultAddress, s.startVault}
	if s.HA {
		start = step{fmt.Sprintf("Starting %d Vaults, behind %s", nodeCount, s.VaultAddress), s.startCluster}
	}
	if s.Keep {
		start.work = s.startKeptVault
	}
	steps := []step{
		start,
		{"Setting up the engine, its policies and the gateway's login", s.provision},
		{"Starting the demo server " + calculator, s.startCalculator},
		{"Registering the servers and a client", s.register},
		{"Starting the gateway on " + s.GatewayAddress, s.startGateway},
	}
	if s.KMS {
		steps = slices.Insert(steps, len(steps)-2,
			step{"Starting a double of AWS KMS, which is not AWS's", s.startKMS},
			step{"Having tokens sealed", s.sealTokens})
	}
	if s.Upstream {
		steps = slices.Insert(steps, len(steps)-2,
			step{"Starting the demo server " + whoamiHTTP, s.startWhoami},
			step{"Setting up the credentials that are leased for it and " + whoamiStdio, s.makeCredentials})
	}
	if s.SignIn {
		steps = slices.Insert(steps, len(steps)-2,
			step{"Starting a demo identity provider", s.startIdP},
			step{"Setting up the sign-in of its people", s.provisionSignIn})
	}
	if s.Agent {
		steps = append(steps, step{"Starting Vault Agent, for the client " + agentClient, s.startAgent})
	}
	if names := s.ownCommands(); len(names) > 0 {
		steps = append(steps, step{"Starting your servers that are programs: " + strings.Join(names, ", "), s.tryCommands})
	}
	for _, step := range steps {
		if err := s.step(step.name, func() error { return step.work(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// prepareDir makes the folder, and takes it: two systems in one folder would
// overwrite each other's files.
func (s *system) prepareDir() (unlock func(), err error) {
	if s.Dir, err = filepath.Abs(s.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder: %w", err)
	}
	// Vault refuses a plugin folder that is reached through a symbolic link.
	if s.Dir, err = filepath.EvalSymlinks(s.Dir); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(s.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot take the folder: %w", err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("another `mcp-bootstrap dev` uses the folder %s: stop it, or choose another with -dir", s.Dir)
	}
	if err == nil {
		err = os.RemoveAll(s.path("logs")) // those of the last time
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return func() { _ = lock.Close() }, nil
}

// path is that of a file in the folder.
func (s *system) path(name string) string { return filepath.Join(s.Dir, name) }

// log is the path of a process's log.
func (s *system) log(name string) string { return filepath.Join(s.Dir, "logs", name+".log") }

// clearEnvironment drops the settings that Vault, its client and the gateway take
// from the environment over those they are given: the shell's may well be meant
// for another Vault.
func clearEnvironment() {
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		for _, prefix := range []string{"VAULT_", "BAO_", "MCP_"} {
			if strings.HasPrefix(name, prefix) {
				_ = os.Unsetenv(name)
			}
		}
	}
}
