package config

import (
	"fmt"
	"os"
	"slices"
)

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
	}
	var warnings []string
	for _, f := range files {
		if f.path == "" {
			continue
		}
		info, err := os.Stat(f.path)
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&others == 0 {
			continue // what cannot be read is told elsewhere, or comes later
		}
		warnings = append(warnings, fmt.Sprintf("%s: %s is open to every account of this machine (mode %04o): "+
			"chmod o= %s, and give it the gateway's account or group", f.setting, f.path, info.Mode().Perm(), f.path))
	}
	slices.Sort(warnings)
	return warnings
}
