package config

import (
	"net"

	"github.com/hashicorp/hcl/v2"
)

// Environment variables that go over the file.
const (
	EnvVaultAddress   = "VAULT_ADDR"         // vault { address }
	EnvVaultNamespace = "VAULT_NAMESPACE"    // vault { namespace }
	EnvVaultCACert    = "VAULT_CACERT"       // vault { ca_cert_file }
	EnvListen         = "MCP_GATEWAY_LISTEN" // listener { address }
)

// override puts the environment over the file.
func (d *decoder) override(c *Config, getenv func(string) string) {
	if text := getenv(EnvVaultAddress); text != "" {
		address, err := parseURL(text)
		d.environment(EnvVaultAddress, err)
		c.Vault.Address = address
	}
	if text := getenv(EnvVaultNamespace); text != "" {
		c.Vault.Namespace = text
	}
	if text := getenv(EnvVaultCACert); text != "" {
		d.environment(EnvVaultCACert, checkAuthorities(text))
		c.Vault.CACertFile = text
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
