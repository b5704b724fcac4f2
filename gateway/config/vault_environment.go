package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http/httpproxy"
)

// The variables of Vault's own client. They override the block vault.
const (
	EnvVaultAddress          = "VAULT_ADDR"              // address
	EnvVaultAgentAddress     = "VAULT_AGENT_ADDR"        // address
	EnvVaultNamespace        = "VAULT_NAMESPACE"         // namespace
	EnvVaultCACert           = "VAULT_CACERT"            // ca_cert_file
	EnvVaultCACertBytes      = "VAULT_CACERT_BYTES"      // PEM
	EnvVaultCAPath           = "VAULT_CAPATH"            // ca_cert_dir
	EnvVaultClientCert       = "VAULT_CLIENT_CERT"       // client_cert_file
	EnvVaultClientKey        = "VAULT_CLIENT_KEY"        // client_key_file
	EnvVaultServerName       = "VAULT_TLS_SERVER_NAME"   // tls_server_name
	EnvVaultSkipVerify       = "VAULT_SKIP_VERIFY"       // tls_skip_verify
	EnvVaultClientTimeout    = "VAULT_CLIENT_TIMEOUT"    // timeout
	EnvVaultMaxRetries       = "VAULT_MAX_RETRIES"       // max_retries
	EnvVaultRateLimit        = "VAULT_RATE_LIMIT"        // rate_limit, rate_burst
	EnvVaultSRVLookup        = "VAULT_SRV_LOOKUP"        // srv_lookup
	EnvVaultDisableRedirects = "VAULT_DISABLE_REDIRECTS" // disable_redirects
	EnvVaultHTTPProxy        = "VAULT_HTTP_PROXY"        // proxy_address
	EnvVaultProxyAddress     = "VAULT_PROXY_ADDR"        // proxy_address
	EnvVaultHeaders          = "VAULT_HEADERS"           // sent with each request
	EnvVaultWrapTTL          = "VAULT_WRAP_TTL"          // no effect
	EnvVaultToken            = "VAULT_TOKEN"             // no effect at the gateway
	EnvVaultMFA              = "VAULT_MFA"               // refused by the gateway
)

// Mistake is a mistake in a variable of the environment. It never quotes a value that
// may be a secret.
type Mistake struct {
	Name string
	Err  error
}

func (m *Mistake) Error() string { return m.Name + ": " + m.Err.Error() }

// vaultVariable is one variable that changes how Vault is reached.
type vaultVariable struct {
	name string
	set  func(v *VaultClient, value string) error
}

// vaultVariables are in an order in which a later one overrides an earlier one, as in
// Vault's own client.
var vaultVariables = []vaultVariable{
	{EnvVaultAddress, setVaultAddress},
	{EnvVaultAgentAddress, setVaultAddress},
	{EnvVaultNamespace, func(v *VaultClient, value string) error { v.Namespace = value; return nil }},
	{EnvVaultServerName, func(v *VaultClient, value string) error { v.ServerName = value; return nil }},
	{EnvVaultSkipVerify, func(v *VaultClient, value string) error { return setBool(&v.SkipVerify, value) }},
	{EnvVaultSRVLookup, func(v *VaultClient, value string) error { return setBool(&v.SRVLookup, value) }},
	{EnvVaultDisableRedirects, func(v *VaultClient, value string) error { return setBool(&v.DisableRedirects, value) }},
	{EnvVaultClientTimeout, setVaultTimeout},
	{EnvVaultMaxRetries, setVaultRetries},
	{EnvVaultRateLimit, setVaultRate},
	{EnvVaultHTTPProxy, setVaultProxy},
	{EnvVaultProxyAddress, setVaultProxy},
	{EnvVaultHeaders, func(_ *VaultClient, value string) error { return checkVaultHeaders(value) }},
}

// Environment overrides v with the variables of Vault's own client. It returns all
// mistakes in them.
func (v *VaultClient) Environment(getenv func(string) string) []*Mistake {
	var mistakes []*Mistake
	note := func(name string, err error) {
		if err != nil {
			mistakes = append(mistakes, &Mistake{name, err})
		}
	}
	for _, variable := range vaultVariables {
		if value := getenv(variable.name); value != "" {
			note(variable.name, variable.set(v, value))
		}
	}
	v.environmentAuthorities(getenv, note)
	v.environmentPair(getenv, note)
	v.checkProxies(getenv, note)
	return mistakes
}

// environmentAuthorities: any of the three variables replaces all authorities of the
// file.
func (v *VaultClient) environmentAuthorities(getenv func(string) string, note func(string, error)) {
	file, pem, dir := getenv(EnvVaultCACert), getenv(EnvVaultCACertBytes), getenv(EnvVaultCAPath)
	if file == "" && pem == "" && dir == "" {
		return
	}
	v.CACertFile, v.CACertPEM, v.CACertDir = file, pem, dir
	if file != "" {
		note(EnvVaultCACert, checkAuthorities(file))
	}
	if pem != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(pem)) {
		note(EnvVaultCACertBytes, errors.New("it has no certificate in PEM: give the content of the file, with its line feeds"))
	}
	if dir != "" {
		note(EnvVaultCAPath, checkAuthoritiesDir(dir))
	}
}

// environmentPair: both together replace those of the file.
func (v *VaultClient) environmentPair(getenv func(string) string, note func(string, error)) {
	cert, key := getenv(EnvVaultClientCert), getenv(EnvVaultClientKey)
	switch {
	case cert == "" && key == "":
		return
	case key == "":
		note(EnvVaultClientCert, errors.New("it goes together with "+EnvVaultClientKey+": set both or none"))
	case cert == "":
		note(EnvVaultClientKey, errors.New("it goes together with "+EnvVaultClientCert+": set both or none"))
	default:
		certErr, keyErr := checkReadable(cert), checkReadable(key)
		note(EnvVaultClientCert, certErr)
		note(EnvVaultClientKey, keyErr)
		if certErr == nil && keyErr == nil {
			if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
				note(EnvVaultClientCert, fmt.Errorf("it and %s are not a pair in PEM: %w", EnvVaultClientKey, err))
			}
		}
	}
	v.ClientCertFile, v.ClientKeyFile = cert, key
}

// checkProxies finds a mistake in the variables that every program takes a proxy from:
// Go's programs take one that they cannot read for none.
func (v *VaultClient) checkProxies(getenv func(string) string, note func(string, error)) {
	if v.Proxy != nil || v.Address == nil || v.Address.Scheme == "unix" || onLoopback(v.Address.Hostname()) {
		return
	}
	names := []string{"HTTP_PROXY", "http_proxy"}
	if v.Address.Scheme == "https" {
		names = []string{"HTTPS_PROXY", "https_proxy"}
	}
	for _, name := range names {
		if value := getenv(name); value != "" {
			if !strings.Contains(value, "://") {
				value = "http://" + value
			}
			_, err := parseProxy(value)
			note(name, err)
			return
		}
	}
}

func setVaultAddress(v *VaultClient, value string) error {
	address, err := parseVaultAddress(value)
	v.Address = address
	return err
}

func setBool(to *bool, value string) error {
	parsed, err := strconv.ParseBool(value)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", value)
	}
	*to = parsed
	return nil
}

func setVaultTimeout(v *VaultClient, value string) error {
	timeout, err := parseutil.ParseDurationSecond(value)
	if err != nil {
		return fmt.Errorf("%q is not a valid duration: write for example \"30s\", or \"30\" for seconds", value)
	}
	if timeout == 0 {
		return nil // so it is for Vault's own client
	}
	if timeout < minVaultTimeout || timeout > maxVaultTimeout {
		return fmt.Errorf("%s is out of range: %s to %s", timeout, minVaultTimeout, maxVaultTimeout)
	}
	v.Timeout = timeout
	return nil
}

func setVaultRetries(v *VaultClient, value string) error {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n > maxVaultRetries {
		return fmt.Errorf("%q is not a number from 0 to %d", value, maxVaultRetries)
	}
	v.MaxRetries = int(n)
	return nil
}

func setVaultRate(v *VaultClient, value string) error {
	rateText, burstText, hasBurst := strings.Cut(value, ":")
	limit, err := strconv.ParseFloat(rateText, 64)
	burst := max(1, int(min(limit, maxVaultRate)))
	if hasBurst && err == nil {
		burst, err = strconv.Atoi(burstText)
	}
	if err != nil || !(limit > 0 && limit <= maxVaultRate) || burst < 1 || burst > maxVaultRate {
		return fmt.Errorf("%q is not a valid rate: write requests a second, or \"RATE:BURST\", for example \"100:200\"", value)
	}
	v.RateLimit, v.RateBurst = limit, burst
	return nil
}

func setVaultProxy(v *VaultClient, value string) error {
	proxy, err := parseProxy(value)
	v.Proxy = proxy
	return err
}

// checkVaultHeaders checks VAULT_HEADERS, which Vault's client reads itself.
func checkVaultHeaders(value string) error {
	var headers map[string]any
	if json.Unmarshal([]byte(value), &headers) != nil {
		return errors.New(`it is not a JSON object of texts: write it as {"Name": "value"}`)
	}
	for name, value := range headers {
		text, ok := value.(string)
		switch {
		case !ok:
			return fmt.Errorf("the value of %q is not a text in quotes", name)
		case forbiddenHeader(name):
			return fmt.Errorf("%q begins with X-Vault-, which is for Vault's client alone: take it out", name)
		case !httpguts.ValidHeaderFieldName(name), !httpguts.ValidHeaderFieldValue(text):
			return fmt.Errorf("%q and its value cannot be sent as a header", name)
		}
	}
	return nil
}

// ProxyFunc names the proxy of requests to a URL; nil where there is none.
func (v *VaultClient) ProxyFunc() func(*url.URL) (*url.URL, error) {
	if v.Address.Scheme == "unix" {
		return func(*url.URL) (*url.URL, error) { return nil, nil }
	}
	if v.Proxy != nil {
		return func(*url.URL) (*url.URL, error) { return v.Proxy, nil }
	}
	return httpproxy.FromEnvironment().ProxyFunc()
}

// ProxyName is the proxy that requests to Vault take, without its password; "" where
// there is none.
func (v *VaultClient) ProxyName() string {
	proxy, err := v.ProxyFunc()(v.Address)
	if err != nil || proxy == nil {
		return ""
	}
	return proxy.Scheme + "://" + proxy.Host
}
