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
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Options are the parts to run, and their places.
type Options struct {
	// Dir gets everything that is written.
	Dir string
	// VaultAddress, GatewayAddress and AdminAddress are host:port on the loopback. A
	// name, such as localhost, becomes its IP address.
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
	// Keep puts Vault's storage into Dir. The next start continues with it.
	Keep bool
	// HA has three Vaults on integrated storage instead of one in dev mode.
	HA bool
	// Agent runs a Vault Agent, which keeps a token of a second client in a file.
	Agent bool
	// Upstream adds two servers with credentials that the gateway leases from Vault as the
	// client that uses them.
	Upstream bool
	// SignIn lets people sign in with a browser, at a demo identity provider.
	SignIn bool
	// Servers is a file with MCP servers to run behind the gateway, in any form
	// that apply takes.
	Servers string
	// Out gets the progress and, in the end, the summary.
	Out io.Writer
}

// check finds all problems at once, before anything is started.
func (o *Options) check(ctx context.Context) error {
	var wrong []error
	if o.Keep && (o.HA || o.KMS) {
		wrong = append(wrong, errKeepAlone)
	}
	wrong = append(wrong, o.checkPrograms(), o.checkAddresses(ctx))
	return errors.Join(wrong...)
}

func (o *Options) checkPrograms() error {
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
	var wrong []error
	for _, program := range programs {
		path, err := executable(*program.path)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("cannot run %s: %w: %s", program.what, err, program.hint))
			continue
		}
		*program.path = path
	}
	return errors.Join(wrong...)
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

// checkAddresses requires addresses of the loopback that are not in use. Only the
// loopback is safe: the servers there speak plain HTTP and hand out root tokens.
func (o *Options) checkAddresses(ctx context.Context) error {
	var (
		wrong []error
		taken []string // flags with another port, as they may be typed
		first = map[string]string{}
	)
	for _, l := range []struct {
		what, flag string
		address    *string
	}{
		{"Vault", "-vault-address", &o.VaultAddress},
		{"the gateway", "-gateway-address", &o.GatewayAddress},
		{"the gateway's health", "-admin-address", &o.AdminAddress},
	} {
		address, err := loopback(ctx, l.flag, *l.address)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		*l.address = address
		if other := first[address]; other != "" {
			wrong = append(wrong, fmt.Errorf("%s %s is the address of %s, too: each needs its own", l.flag, address, other))
			continue
		}
		first[address] = l.flag
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err == nil {
			err = listener.Close()
		} else {
			taken = append(taken, l.flag+" 127.0.0.1:PORT")
		}
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			wrong = append(wrong, fmt.Errorf("%s cannot listen on %s, which is in use", l.what, address))
		case err != nil:
			wrong = append(wrong, fmt.Errorf("%s cannot listen on %s: %w", l.what, address, err))
		}
	}
	if len(taken) > 0 {
		wrong = append(wrong, fmt.Errorf("stop the program that listens there (an earlier `mcp-bootstrap dev`?), or choose other addresses: make dev ARGS=%q", strings.Join(taken, " ")))
	}
	return errors.Join(wrong...)
}

// loopback is an address of the loopback, with the IP address in place of a name.
func loopback(ctx context.Context, flag, address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	number, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || number == 0 || host == "" {
		return "", fmt.Errorf("%s %q is not an address with a port, such as 127.0.0.1:8200", flag, address)
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		if ip, err = resolve(ctx, host); err != nil {
			return "", fmt.Errorf("%s %s: the name has no address: %w", flag, address, err)
		}
	}
	if !ip.IsLoopback() {
		return "", fmt.Errorf("%s %s is not on the loopback: this is for one machine, and nothing of it is encrypted", flag, address)
	}
	return netip.AddrPortFrom(ip, uint16(number)).String(), nil
}

// resolveTimeout bounds the search for a name.
const resolveTimeout = 5 * time.Second

// resolve is the IP address of a name, of several one of IPv4.
func resolve(ctx context.Context, name string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return netip.Addr{}, err
	}
	for i, ip := range all {
		if all[i] = ip.Unmap(); all[i].Is4() {
			return all[i], nil
		}
	}
	return all[0], nil
}
