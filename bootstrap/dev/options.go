package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
)

// Options say what to run, and where.
type Options struct {
	// Dir gets everything that is written.
	Dir string
	// VaultAddress, GatewayAddress and AdminAddress are host:port on the loopback.
	VaultAddress   string
	GatewayAddress string
	AdminAddress   string
	// Vault, Plugin and Gateway are programs. Self is this one, which also
	// serves the demo servers.
	Vault   string
	Plugin  string
	Gateway string
	Self    string
	// KMS has tokens sealed under a key of KMSDouble, a program that stands in
	// for AWS KMS.
	KMS       bool
	KMSDouble string
	// HA has three Vaults on integrated storage instead of one in dev mode.
	HA bool
	// Agent runs a Vault Agent, which keeps a token of a second client in a file.
	Agent bool
	// Servers is a file with MCP servers to run behind the gateway, in any form
	// that apply takes.
	Servers string
	// Out gets the progress and, in the end, what to do with it all.
	Out io.Writer
}

// check finds what would go wrong before anything is started.
func (o *Options) check(ctx context.Context) error {
	type program struct {
		what string
		path *string
		hint string
	}
	programs := []program{
		{"Vault", &o.Vault, "name another with -vault-binary, or run `make vault`, which builds one"},
		{"the plugin", &o.Plugin, "run `make build`, or name it with -plugin"},
		{"the gateway", &o.Gateway, "run `make build`, or name it with -gateway"},
		{"mcp-bootstrap", &o.Self, "run `make build`"},
	}
	if o.KMS {
		programs = append(programs, program{"the double of AWS KMS", &o.KMSDouble, "run `make dev ARGS=-kms`, which builds it, or name it with -kms-double"})
	}
	for _, program := range programs {
		path, err := executable(*program.path)
		if err != nil {
			return fmt.Errorf("cannot run %s: %w: %s", program.what, err, program.hint)
		}
		*program.path = path
	}
	for _, listener := range []struct{ what, flag, address string }{
		{"Vault", "-vault-address", o.VaultAddress},
		{"the gateway", "-gateway-address", o.GatewayAddress},
		{"the gateway's health", "-admin-address", o.AdminAddress},
	} {
		if err := free(ctx, listener.what, listener.flag, listener.address); err != nil {
			return err
		}
	}
	return nil
}

var errNotExecutable = errors.New("it is not an executable file")

// executable returns the absolute path of a program that is there.
func executable(path string) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(absolute)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return "", fmt.Errorf("%s: %w", absolute, errNotExecutable)
	}
	return absolute, nil
}

// free is an error where an address is not on the loopback or is in use. What
// listens there speaks plain HTTP and hands out root tokens, so that nothing
// but the loopback will do.
func free(ctx context.Context, what, flag, address string) error {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil || parsed.Port() == 0 {
		return fmt.Errorf("%s %q is not an IP address with a port, such as 127.0.0.1:8200", flag, address)
	}
	if !parsed.Addr().IsLoopback() {
		return fmt.Errorf("%s %s is not on the loopback: this is for one machine, and nothing of it is encrypted", flag, address)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s cannot listen on %s, which is in use: stop what listens there (an earlier `mcp-bootstrap dev`?), "+
			"or choose another address with %s (make dev ARGS=\"%s 127.0.0.1:PORT\")", what, address, flag, flag)
	case err != nil:
		return fmt.Errorf("%s cannot listen on %s: %w: choose another address with %s", what, address, err, flag)
	}
	return listener.Close()
}
