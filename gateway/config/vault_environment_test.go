package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"
)

// vaultFile is a file with a value for everything that a variable may override.
const vaultFile = `vault {
  address           = "https://file:8200"
  namespace         = "file"
  ca_cert_file      = "DIR/ca.pem"
  client_cert_file  = "DIR/tls.crt"
  client_key_file   = "DIR/tls.key"
  tls_server_name   = "file"
  tls_skip_verify   = true
  timeout           = "7s"
  max_retries       = 7
  rate_limit        = 7
  srv_lookup        = true
  disable_redirects = true
  proxy_address     = "http://file:3128"
  auth "approle" {
    role_id        = "role"
    secret_id_file = "DIR/secret_id"
  }
}
`

// TestEveryVariableOfVaultsClient walks all variables that Vault's own client knows:
// each overrides the file, and a mistake in it is told by its name, unless it is refused
// or has no effect, which is told too.
func TestEveryVariableOfVaultsClient(t *testing.T) {
	dir := folder(t)
	pem, err := os.ReadFile(dir + "/ca.pem")
	require.NoError(t, err)
	authorities := filepath.Join(dir, "authorities")
	require.NoError(t, os.Mkdir(authorities, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(authorities, "ca.pem"), pem, 0o600))
	empty := t.TempDir()
	const secret = "hunter2-hunter2" // never in an error

	address := func(want string) func(*require.Assertions, *Config) {
		return func(is *require.Assertions, c *Config) { is.Equal(want, c.Vault.Address.String()) }
	}
	tests := map[string]struct {
		with map[string]string // further variables
		good map[string]func(*require.Assertions, *Config)
		bad  []string
	}{
		api.EnvVaultAddress: {
			good: map[string]func(*require.Assertions, *Config){
				"http://127.0.0.1:1":       address("http://127.0.0.1:1"),
				"https://[::1]:8200/vault": address("https://[::1]:8200/vault"),
				"unix:///run/vault.sock":   address("unix:///run/vault.sock"),
			},
			bad: []string{"127.0.0.1:8200", "localhost:8200", "vault.example.com", "ftp://vault", "https://", "https://vault:8200 ", "unix://relative", "unix://", "https://vault/?x=1", "https://u:" + secret + "@vault"},
		},
		api.EnvVaultAgentAddr: {
			with: map[string]string{api.EnvVaultAddress: "https://vault:8200"},
			good: map[string]func(*require.Assertions, *Config){"http://127.0.0.1:8100": address("http://127.0.0.1:8100")},
			bad:  []string{"127.0.0.1:8100"},
		},
		api.EnvVaultNamespace: {good: map[string]func(*require.Assertions, *Config){
			"team/": func(is *require.Assertions, c *Config) { is.Equal("team/", c.Vault.Namespace) },
		}},
		api.EnvVaultCACert: {
			good: map[string]func(*require.Assertions, *Config){dir + "/ca.pem": func(is *require.Assertions, c *Config) {
				is.Equal(dir+"/ca.pem", c.Vault.CACertFile)
			}},
			bad: []string{"/nowhere/ca.pem", dir, dir + "/broken.pem"},
		},
		api.EnvVaultCACertBytes: {
			good: map[string]func(*require.Assertions, *Config){string(pem): func(is *require.Assertions, c *Config) {
				is.Equal(string(pem), c.Vault.CACertPEM)
				is.Empty(c.Vault.CACertFile, "the file's has no effect any more")
			}},
			bad: []string{secret, "-----BEGIN CERTIFICATE-----\\n" + secret},
		},
		api.EnvVaultCAPath: {
			good: map[string]func(*require.Assertions, *Config){authorities: func(is *require.Assertions, c *Config) {
				is.Equal(authorities, c.Vault.CACertDir)
				is.Empty(c.Vault.CACertFile, "the file's has no effect any more")
			}},
			bad: []string{"/nowhere", empty, dir},
		},
		api.EnvVaultClientCert: {
			with: map[string]string{api.EnvVaultClientKey: dir + "/tls.key"},
			good: map[string]func(*require.Assertions, *Config){dir + "/tls.crt": func(is *require.Assertions, c *Config) {
				is.Equal(dir+"/tls.crt", c.Vault.ClientCertFile)
				is.Equal(dir+"/tls.key", c.Vault.ClientKeyFile)
			}},
			bad: []string{"/nowhere/tls.crt", dir + "/broken.pem"},
		},
		api.EnvVaultClientKey: {
			good: nil,
			bad:  []string{dir + "/tls.key"}, // without its certificate
		},
		api.EnvVaultTLSServerName: {good: map[string]func(*require.Assertions, *Config){
			"vault.internal": func(is *require.Assertions, c *Config) { is.Equal("vault.internal", c.Vault.ServerName) },
		}},
		api.EnvVaultSkipVerify: {
			good: map[string]func(*require.Assertions, *Config){
				"false": func(is *require.Assertions, c *Config) {
					is.False(c.Vault.SkipVerify)
					is.Empty(c.Warnings)
				},
				"1": func(is *require.Assertions, c *Config) {
					is.True(c.Vault.SkipVerify)
					is.Contains(c.Warnings[0], "VAULT_SKIP_VERIFY")
				},
			},
			bad: []string{"yes", "on"},
		},
		api.EnvVaultClientTimeout: {
			good: map[string]func(*require.Assertions, *Config){
				"90":  func(is *require.Assertions, c *Config) { is.Equal(90*time.Second, c.Vault.Timeout) },
				"15s": func(is *require.Assertions, c *Config) { is.Equal(15*time.Second, c.Vault.Timeout) },
				"0":   func(is *require.Assertions, c *Config) { is.Equal(7*time.Second, c.Vault.Timeout) },
			},
			bad: []string{"soon", "-5s", "1ns", "1000h"},
		},
		api.EnvVaultMaxRetries: {
			good: map[string]func(*require.Assertions, *Config){
				"0": func(is *require.Assertions, c *Config) { is.Zero(c.Vault.MaxRetries) },
				"5": func(is *require.Assertions, c *Config) { is.Equal(5, c.Vault.MaxRetries) },
			},
			bad: []string{"-1", "many", "1.5", "4294967296"},
		},
		api.EnvRateLimit: {
			good: map[string]func(*require.Assertions, *Config){
				"100:200": func(is *require.Assertions, c *Config) {
					is.InDelta(100, c.Vault.RateLimit, 0)
					is.Equal(200, c.Vault.RateBurst)
				},
				"0.5": func(is *require.Assertions, c *Config) { is.Equal(1, c.Vault.RateBurst) },
			},
			bad: []string{"fast", "10:", "10:0", "0", "-1", "NaN", "Inf", "10:20x"},
		},
		api.EnvVaultSRVLookup: {
			good: map[string]func(*require.Assertions, *Config){"false": func(is *require.Assertions, c *Config) { is.False(c.Vault.SRVLookup) }},
			bad:  []string{"dns"},
		},
		api.EnvVaultDisableRedirects: {
			good: map[string]func(*require.Assertions, *Config){"false": func(is *require.Assertions, c *Config) { is.False(c.Vault.DisableRedirects) }},
			bad:  []string{"never"},
		},
		api.EnvHTTPProxy: {
			good: map[string]func(*require.Assertions, *Config){"http://u:" + secret + "@proxy:3128": func(is *require.Assertions, c *Config) {
				is.Equal("http://proxy:3128", c.Vault.ProxyName(), "without the password")
			}},
			bad: []string{"proxy:3128", "ftp://u:" + secret + "@proxy", "http://%zz:" + secret},
		},
		api.EnvVaultProxyAddr: {
			with: map[string]string{api.EnvHTTPProxy: "http://other:1"},
			good: map[string]func(*require.Assertions, *Config){"socks5://proxy:1080": func(is *require.Assertions, c *Config) {
				is.Equal("socks5://proxy:1080", c.Vault.ProxyName())
			}},
			bad: []string{"proxy"},
		},
		api.EnvVaultHeaders: {
			good: map[string]func(*require.Assertions, *Config){`{"X-Team":"mcp"}`: func(*require.Assertions, *Config) {}},
			bad: []string{
				secret, `["X-Team"]`, `{"X-Team":1}`, `{"X-Vault-Token":"` + secret + `"}`, `{"x-vault-token":"` + secret + `"}`,
				`{"X Team":"` + secret + `"}`, `{"X-Team":"` + secret + `\n"}`,
			},
		},
		api.EnvVaultWrapTTL: {good: map[string]func(*require.Assertions, *Config){
			"60s": func(is *require.Assertions, c *Config) {
				is.Contains(c.Warnings[len(c.Warnings)-1], "VAULT_WRAP_TTL has no effect")
			},
		}},
		api.EnvVaultToken: {good: map[string]func(*require.Assertions, *Config){
			secret: func(is *require.Assertions, c *Config) {
				is.Contains(c.Warnings[len(c.Warnings)-1], "VAULT_TOKEN has no effect")
				is.NotContains(c.Warnings[len(c.Warnings)-1], secret)
			},
		}},
		api.EnvVaultMFA: {bad: []string{secret}},
	}
	for name, test := range tests {
		environment := func(value string) func(string) string {
			return func(asked string) string {
				if asked == name {
					return value
				}
				return test.with[asked]
			}
		}
		for value, check := range test.good {
			t.Run(name+" is honoured", func(t *testing.T) {
				c, err := parse(t, vaultFile, environment(value))
				require.NoError(t, err, value)
				check(require.New(t), c)
			})
		}
		for _, value := range test.bad {
			t.Run(name+" is refused", func(t *testing.T) {
				_, err := parse(t, vaultFile, environment(value))
				require.ErrorContains(t, err, name+": ", value)
				require.NotContains(t, err.Error(), secret)
			})
		}
	}
}

// TestProxiesThatEveryProgramTakesAreCheckedToo: HTTPS_PROXY and its kin.
func TestProxiesThatEveryProgramTakesAreCheckedToo(t *testing.T) {
	for name, bad := range map[string]bool{"HTTPS_PROXY": true, "https_proxy": true, "HTTP_PROXY": false} {
		_, err := parse(t, strings.Replace(minimal, "vault {", "vault {\n address = \"https://vault.example.com\"", 1), func(asked string) string {
			if asked == name {
				return "http://u:hunter2@%zz"
			}
			return ""
		})
		if !bad {
			require.NoError(t, err, "Vault's address is https")
			continue
		}
		require.ErrorContains(t, err, name+": it is not a valid URL")
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestSettingsOfVaultsClientInTheFile(t *testing.T) {
	c, err := parse(t, vaultFile, noEnvironment)
	require.NoError(t, err)
	require.Equal(t, "http://file:3128", c.Vault.ProxyName())
	require.Equal(t, 7, c.Vault.RateBurst, "it follows the rate")
	require.Len(t, c.Warnings, 1, "tls_skip_verify is warned of")

	c, err = parse(t, minimal, noEnvironment)
	require.NoError(t, err)
	require.Equal(t, DefaultVaultClient(), c.Vault.VaultClient)
	require.Empty(t, c.Warnings)

	for name, test := range map[string]struct{ lines, want string }{
		"two kinds of authorities":    {"ca_cert_file = \"DIR/ca.pem\"\n ca_cert_dir = \"DIR\"", "ca_cert_file is set too"},
		"a folder with other files":   {"ca_cert_dir = \"DIR\"", "each file in the folder"},
		"a certificate without a key": {"client_cert_file = \"DIR/tls.crt\"", "give both or none"},
		"a timeout of nothing":        {"timeout = \"0s\"", "out of range"},
		"a burst of no rate":          {"rate_burst = 3", "rate_limit"},
		"a proxy without a scheme":    {"proxy_address = \"proxy:3128\"", "proxy_address: "},
		"a socket by its path alone":  {"address = \"/run/vault.sock\"", "is not a valid URL"},
		"an address without a scheme": {"address = \"vault:8200\"", "is not a valid URL"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, "vault {\n "+test.lines+"\n auth \"token_file\" { path = \"/x\" }\n}\n", noEnvironment)
			require.ErrorContains(t, err, "gateway.hcl:")
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestWhatTravelsInClearIsWarnedOf(t *testing.T) {
	const tls = "tls_cert_file = \"DIR/tls.crt\"\n tls_key_file = \"DIR/tls.key\"\n"
	for name, test := range map[string]struct {
		vault, listener, lines string
		want                   []string
	}{
		"everything on this machine":        {"http://127.0.0.1:8200", "127.0.0.1:8080", "", nil},
		"by its name":                       {"http://localhost:8200", "localhost:8080", "", nil},
		"over IPv6":                         {"http://[::1]:8200", "[::1]:8080", "", nil},
		"a socket":                          {"unix:///run/vault.sock", "127.0.0.1:8080", "", nil},
		"TLS on both sides":                 {"https://vault.example.com", "0.0.0.0:8443", tls, nil},
		"Vault on another machine":          {"http://vault.example.com:8200", "127.0.0.1:8080", "", []string{"vault: http://vault.example.com:8200 is plain HTTP"}},
		"Vault at another machine's number": {"http://10.1.2.3:8200", "127.0.0.1:8080", "", []string{"is plain HTTP"}},
		"clients on other machines":         {"https://vault.example.com", "0.0.0.0:8080", "", []string{"listener: 0.0.0.0:8080 takes plain HTTP"}},
		"all interfaces":                    {"https://vault.example.com", ":8080", "", []string{"listener: :8080 takes plain HTTP"}},
		"both":                              {"http://vault:8200", "[::]:8080", "", []string{"vault: ", "listener: "}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := parse(t, "vault {\n address = \""+test.vault+"\"\n auth \"token_file\" { path = \"/x\" }\n}\nlistener {\n address = \""+
				test.listener+"\"\n "+test.lines+"}\n", noEnvironment)
			require.NoError(t, err)
			require.Len(t, c.Warnings, len(test.want), c.Warnings)
			for i, want := range test.want {
				require.Contains(t, c.Warnings[i], want)
			}
		})
	}
}
