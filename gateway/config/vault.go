package config

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-rootcerts"
)

// DefaultVaultAddress is that of Vault's own tools.
const DefaultVaultAddress = "https://127.0.0.1:8200"

// DefaultVaultTimeout is that of Vault's own tools.
const DefaultVaultTimeout = time.Minute

// Vault says where the engine is and how to log in.
type Vault struct {
	VaultClient
	// Mount, mount, is the engine's path in Vault. Default: mcp.
	Mount string
	// Auth is the block auth "method" { }, required.
	Auth Auth
}

// VaultClient has the settings of the connection to Vault: all that Vault's own API client
// has. Each has a variable that overrides the file: see vault_environment.go.
type VaultClient struct {
	// Address, address, is Vault's URL, or that of a Vault Agent or Proxy: http,
	// https, or unix for a socket. Default: https://127.0.0.1:8200.
	Address *url.URL
	// Namespace, namespace, is Vault Enterprise's.
	Namespace string

	// CACertFile, ca_cert_file, is the PEM file of the authorities to trust, and
	// CACertDir, ca_cert_dir, a folder of such files. CACertPEM is their content,
	// from the environment alone. The first that is set counts. Default: the
	// system's authorities.
	CACertFile string
	CACertDir  string
	CACertPEM  string
	// ClientCertFile and ClientKeyFile, client_cert_file and client_key_file, PEM:
	// the gateway's certificate for Vault.
	ClientCertFile string
	ClientKeyFile  string
	// ServerName, tls_server_name, is the name to expect in Vault's certificate,
	// where it is not the address's.
	ServerName string
	// SkipVerify, tls_skip_verify, takes any certificate for Vault's.
	SkipVerify bool

	// Timeout, timeout, bounds each request, unless the gateway has a shorter
	// bound for it. Default: 1m.
	Timeout time.Duration
	// MaxRetries, max_retries, is how often a login is repeated at once after an
	// answer of 5xx. Default: 0.
	MaxRetries int
	// RateLimit and RateBurst, rate_limit and rate_burst, bound the requests a
	// second, those that are held for changes aside. Default: 0, no bound.
	RateLimit float64
	RateBurst int
	// SRVLookup, srv_lookup, asks DNS for the SRV record of an address without a
	// port. Default: false.
	SRVLookup bool
	// DisableRedirects, disable_redirects, has a standby's redirect to the leader
	// be an error. Default: false.
	DisableRedirects bool
	// Proxy, proxy_address, is the URL of a proxy for requests to Vault. Nil: the
	// one that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name.
	Proxy *url.URL
}

// DefaultVaultClient has the defaults.
func DefaultVaultClient() VaultClient {
	address, err := parseVaultAddress(DefaultVaultAddress)
	if err != nil {
		panic(err) // a constant
	}
	return VaultClient{Address: address, Timeout: DefaultVaultTimeout}
}

func (d *decoder) vault(s *section) Vault {
	v := Vault{Mount: strings.Trim(s.str("mount", "mcp"), "/")}
	v.VaultClient = VaultClient{
		Address:          s.vaultAddress("address"),
		Namespace:        s.str("namespace", ""),
		CACertFile:       s.authorities("ca_cert_file"),
		CACertDir:        s.authoritiesDir("ca_cert_dir"),
		ServerName:       s.str("tls_server_name", ""),
		SkipVerify:       s.boolean("tls_skip_verify"),
		Timeout:          s.duration("timeout", DefaultVaultTimeout, minVaultTimeout, maxVaultTimeout),
		MaxRetries:       s.integer("max_retries", 0, 0, maxVaultRetries),
		RateLimit:        s.number("rate_limit", 0, 0, maxVaultRate),
		RateBurst:        s.integer("rate_burst", 0, 0, maxVaultRate),
		SRVLookup:        s.boolean("srv_lookup"),
		DisableRedirects: s.boolean("disable_redirects"),
		Proxy:            s.proxy("proxy_address"),
	}
	v.ClientCertFile, v.ClientKeyFile = s.keyPair("client_cert_file", "client_key_file")
	if v.CACertFile != "" && v.CACertDir != "" {
		s.bad("ca_cert_dir", "ca_cert_file is set too: give one of them")
	}
	switch {
	case v.RateLimit == 0 && v.RateBurst > 0:
		s.bad("rate_burst", "it belongs to a rate_limit: give both")
	case v.RateLimit > 0 && v.RateBurst == 0:
		v.RateBurst = max(1, int(v.RateLimit))
	}
	if v.Mount == "" || strings.ContainsAny(v.Mount, " ?#%") || strings.Contains(v.Mount, "..") {
		s.bad("mount", "%q is not the path of a mount: give the one that `vault secrets list` prints, for example \"mcp\"", v.Mount)
	}
	blocks := s.labelled("auth")
	if len(blocks) != 1 {
		d.problem(s.body.MissingItemRange(), "vault needs exactly one block auth \"METHOD\" { }, with approle, kubernetes, jwt or token_file for METHOD")
	}
	for _, block := range blocks {
		v.Auth = d.auth(d.section(block.Body, "auth"), block)
	}
	s.end()
	return v
}

// Bounds of the settings.
const (
	minVaultTimeout = 100 * time.Millisecond
	maxVaultTimeout = time.Hour
	maxVaultRetries = 100
	maxVaultRate    = 1_000_000
)

func (s *section) vaultAddress(name string) *url.URL {
	u, err := parseVaultAddress(s.str(name, DefaultVaultAddress))
	if err != nil {
		s.bad(name, "%v", err)
	}
	return u
}

// parseVaultAddress reads the URL of a Vault, or of a socket.
func parseVaultAddress(text string) (*url.URL, error) {
	socket, ok := strings.CutPrefix(text, "unix://")
	if !ok {
		u, err := parseURL(text)
		if err != nil {
			return nil, err
		}
		if strings.ContainsAny(text, " \t\r\n") {
			return nil, fmt.Errorf("%q is not a valid URL: it holds white space", text)
		}
		return u, nil
	}
	if !filepath.IsAbs(socket) || strings.ContainsAny(socket, "?#") {
		return nil, fmt.Errorf("%q is not the address of a socket: write it as \"unix:///run/vault.sock\"", text)
	}
	return &url.URL{Scheme: "unix", Path: socket}, nil
}

func (s *section) proxy(name string) *url.URL {
	text := s.str(name, "")
	if text == "" {
		return nil
	}
	u, err := parseProxy(text)
	if err != nil {
		s.bad(name, "%v", err)
	}
	return u
}

// parseProxy reads the URL of a proxy, which may hold a password: no error quotes it.
func parseProxy(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil, errors.New("it is not a valid URL of a proxy: write it as \"http://host:port\"")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return u, nil
	}
	return nil, fmt.Errorf("a proxy of the scheme %q cannot be used: http, https, socks5 and socks5h can", u.Scheme)
}

// authoritiesDir is a folder of files with certificates in PEM.
func (s *section) authoritiesDir(name string) string {
	path := s.str(name, "")
	if path != "" {
		if err := checkAuthoritiesDir(path); err != nil {
			s.bad(name, "%v", err)
		}
	}
	return path
}

// checkAuthoritiesDir is as strict as Vault's own client, which reads every file.
func checkAuthoritiesDir(path string) error {
	pool, err := rootcerts.LoadCAPath(path)
	if err != nil {
		return fmt.Errorf("each file in the folder %s must hold a certificate in PEM: %w", path, err)
	}
	if len(pool.Subjects()) == 0 { //nolint:staticcheck // it is not the system's pool
		return fmt.Errorf("the folder %s has no certificate in PEM", path)
	}
	return nil
}

// Warnings lists the settings of the connection to Vault that expose secrets.
func (v *VaultClient) Warnings() []string {
	var warnings []string
	if v.Address != nil && v.Address.Scheme == "http" && !onLoopback(v.Address.Hostname()) {
		warnings = append(warnings, fmt.Sprintf("vault: %s is plain HTTP to another machine: anybody on the network between them can read every token: "+
			"use https, in address or VAULT_ADDR", v.Address))
	}
	if v.SkipVerify {
		warnings = append(warnings, "vault: any server can pass for Vault, and read every token: "+
			"instead of tls_skip_verify or VAULT_SKIP_VERIFY, give the authority, in ca_cert_file or VAULT_CACERT")
	}
	return warnings
}

// onLoopback reports whether a host's name or address is this machine's own.
func onLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.Unmap().IsLoopback()
}

// inClear reports whether tokens come from other machines without TLS.
func (l *Listener) inClear() bool {
	host, _, err := net.SplitHostPort(l.Address)
	return err == nil && l.TLSCertFile == "" && !onLoopback(host)
}

// forbiddenHeader reports whether only Vault's client itself may set a header.
func forbiddenHeader(name string) bool {
	return strings.HasPrefix(http.CanonicalHeaderKey(name), "X-Vault-")
}
