package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const plugin = "vault-plugin-secrets-mcp"

// sources are the programs, and where they come from.
var sources = []struct{ program, path string }{
	{plugin, "./plugin/cmd/vault-plugin-secrets-mcp"},
	{"mcp-gateway", "./gateway/cmd/mcp-gateway"},
	{"mcp-bootstrap", "./bootstrap/cmd/mcp-bootstrap"},
}

// platform is a platform with its programs.
type platform struct{ os, arch, programs string }

func (p platform) String() string { return p.os + "/" + p.arch }

// programs builds the three programs: for Linux, linked statically. What a machine has set for Go does
// not count.
func (r *release) programs(ctx context.Context, name string) (platform, error) {
	system, arch, _ := strings.Cut(name, "/")
	p := platform{system, arch, filepath.Join(r.stage, system, arch)}
	if err := os.MkdirAll(p.programs, 0o755); err != nil {
		return p, err
	}
	const set = " -X vault-plugin-secrets-mcp/backend/version."
	ldflags := "-s -w" + set + "number=" + r.version + set + "commit=" + r.commit + set + "date=" + r.date.Format(time.RFC3339)
	for _, source := range sources {
		settings := []string{
			"CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOEXPERIMENT=none", "GOAMD64=v1", "GOARM64=v8.0", "GOWORK=off",
			"GOOS=" + p.os, "GOARCH=" + p.arch,
		}
		err := r.run(ctx, settings,
			"scripts/progress.sh", "Building "+source.program+" for "+name,
			"go", "build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", filepath.Join(p.programs, source.program), source.path)
		if err != nil {
			return p, err
		}
	}
	return p, nil
}

// manual lays out the pages of the manual, and what completes command lines: the same for every
// platform.
func (r *release) manual(ctx context.Context) error {
	return r.run(ctx, nil, "scripts/man.sh", r.share())
}

func (r *release) share() string { return filepath.Join(r.stage, "share") }

// run runs a command among the sources.
func (r *release) run(ctx context.Context, env []string, name string, args ...string) error {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir, command.Env = r.root, append(os.Environ(), env...)
	command.Stdout, command.Stderr = os.Stderr, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return nil
}

// output returns what a command prints.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = dir
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// copyTo copies a file.
func copyTo(to, from string, mode os.FileMode) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, content, mode)
}
