package config

import (
	"errors"
	"fmt"
	"net"

	"github.com/hashicorp/hcl/v2"
)

// EnvListen overrides the address in listener { }. Those that override vault { } are in
// vault_environment.go.
const EnvListen = "MCP_GATEWAY_LISTEN"

// override puts the environment over the file.
func (d *decoder) override(c *Config, getenv func(string) string) {
	for _, mistake := range c.Vault.Environment(getenv) {
		d.environment(mistake.Name, mistake.Err)
	}
	if getenv(EnvVaultMFA) != "" {
		d.environment(EnvVaultMFA, errors.New("the gateway logs in without a person, so it has no second factor to show: unset it"))
	}
	if text := getenv(EnvListen); text != "" {
		d.environment(EnvListen, checkHostPort(text))
		c.Listener.Address = text
	}
	if _, port, err := net.SplitHostPort(c.Admin.Address); err == nil && port != "0" && c.Admin.Address == c.Listener.Address {
		d.environment("admin address", errSameAddress)
	}
}

// environment notes a problem that is not the file's.
func (d *decoder) environment(name string, err error) {
	if err != nil {
		d.problems = append(d.problems, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: name, Detail: err.Error()})
	}
}

// warn fills in the warnings, once everything is known to be valid.
func (c *Config) warn(getenv func(string) string) {
	warn := func(format string, args ...any) { c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...)) }
	c.Warnings = append(c.Vault.Warnings(), c.exposed()...)
	if c.Listener.inClear() {
		warn("listener: %s takes plain HTTP from other machines: whoever is on the way reads clients' tokens: give tls_cert_file "+
			"and tls_key_file, or listen on the loopback behind a proxy on this machine that has TLS", c.Listener.Address)
	}
	if getenv(EnvVaultToken) != "" {
		warn("%s has no effect: the gateway logs in by the block auth alone", EnvVaultToken)
	}
	if getenv(EnvVaultWrapTTL) != "" {
		warn("%s has no effect: the gateway must read Vault's answers itself", EnvVaultWrapTTL)
	}
}
