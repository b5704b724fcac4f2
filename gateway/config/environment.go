package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

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
	c.Warnings = slices.Concat(c.Vault.Warnings(), c.exposed(), c.credentialWarnings(), c.signInWarnings())
	if c.Listener.inClear() {
		warn("listener: %s takes plain HTTP from other machines: anybody on the network between them can read clients' tokens: give tls_cert_file "+
			"and tls_key_file, or listen on the loopback behind a proxy on this machine that has TLS", c.Listener.Address)
	}
	if c.Audit.Syslog != nil && c.Audit.Syslog.inClear() {
		warn("syslog: audit lines go to %s without TLS: anybody on the network between them can read and change them: use socket_type = %q", c.Audit.Syslog.Address, SocketTLS)
	}
	for _, setting := range c.proxiesInClear() {
		warn("%s: the password goes to the proxy without TLS: anybody on the network between them can read it: use a proxy of https", setting)
	}
	if getenv(EnvVaultToken) != "" {
		warn("%s has no effect: the gateway logs in by the block auth alone", EnvVaultToken)
	}
	if getenv(EnvVaultWrapTTL) != "" {
		warn("%s has no effect: the gateway must read Vault's answers itself", EnvVaultWrapTTL)
	}
}

// others are the permissions of accounts that neither own a file nor are of its group.
const others = 0o006

// exposed are warnings about files with secrets that every account of the machine may
// read or replace.
func (c *Config) exposed() []string {
	files := []struct{ setting, path string }{
		{"auth: secret_id_file", c.Vault.Auth.SecretIDFile},
		{"auth: path", c.Vault.Auth.TokenFile},
		{"vault: client_key_file", c.Vault.ClientKeyFile},
		{"listener: tls_key_file", c.Listener.TLSKeyFile},
	}
	if c.Vault.Auth.Method == AuthJWT { // on Kubernetes, the platform writes it
		files = append(files, struct{ setting, path string }{"auth: jwt_file", c.Vault.Auth.JWTFile})
	}
	for name, upstream := range c.Upstreams {
		files = append(files, struct{ setting, path string }{fmt.Sprintf("upstream %q: client_key_file", name), upstream.ClientKeyFile})
		if upstream.Proxy != nil {
			files = append(files, struct{ setting, path string }{fmt.Sprintf("upstream %q: proxy: password_file", name), upstream.Proxy.PasswordFile})
		}
	}
	if c.UpstreamProxy != nil {
		files = append(files, struct{ setting, path string }{"upstream_proxy: password_file", c.UpstreamProxy.PasswordFile})
	}
	if c.Audit.Syslog != nil {
		files = append(files, struct{ setting, path string }{"syslog: client_key_file", c.Audit.Syslog.ClientKeyFile})
	}
	if c.SignIn != nil {
		for _, application := range c.SignIn.Applications {
			files = append(files, struct{ setting, path string }{fmt.Sprintf("application %q: secret_file", application.ID), application.SecretFile})
		}
	}
	var warnings []string
	for _, f := range files {
		if f.path == "" {
			continue
		}
		info, err := os.Stat(f.path)
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&others == 0 {
			continue // an unreadable file is reported elsewhere, or comes later
		}
		warnings = append(warnings, fmt.Sprintf("%s: %s is open to every account of this machine (mode %04o): "+
			"chmod o= %s, and give it the gateway's account or group", f.setting, f.path, info.Mode().Perm(), f.path))
	}
	slices.Sort(warnings)
	return warnings
}
