// Package vaultclient makes clients for Vault. They honour every setting of Vault's own
// API client, and read certificates again after they were replaced on disk.
//
// Vault's own client reads some variables with each request, and others only if it makes
// its HTTP transport itself. Here all settings come from one checked struct, except
// VAULT_HEADERS, which Vault's client adds by itself.
package vaultclient

import (
	"fmt"
	"net/http"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/gateway/config"
)

// Options are not in the settings.
type Options struct {
	// IdleConns bounds the idle connections.
	IdleConns int
	// Limit makes the client itself enforce the settings' rate limit.
	Limit bool
	// Log gets a line when the client has read certificates again.
	Log hclog.Logger
}

// New returns a client without a token.
func New(settings config.VaultClient, options Options) (*api.Client, error) {
	transport, err := newTransport(settings, options)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	usual := api.DefaultConfig()
	if usual.Error != nil { // a variable that only Vault's client knows
		return nil, fmt.Errorf("vault: %w", usual.Error)
	}
	address := *settings.Address
	if address.Scheme == "unix" {
		// The transport dials the socket and ignores the host.
		address.Scheme, address.Host, address.Path = "http", "localhost", ""
	}
	wanted := &api.Config{
		Address: address.String(),
		HttpClient: &http.Client{
			Transport: transport,
			// The API client itself follows the redirect to the active node.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		MaxRetries:       settings.MaxRetries,
		Backoff:          usual.Backoff,
		Timeout:          settings.Timeout,
		SRVLookup:        settings.SRVLookup,
		DisableRedirects: settings.DisableRedirects,
	}
	if options.Limit && settings.RateLimit > 0 {
		wanted.Limiter = rate.NewLimiter(rate.Limit(settings.RateLimit), settings.RateBurst)
	}
	client, err := api.NewClient(wanted)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	client.ClearToken()
	client.ClearNamespace()
	if settings.Namespace != "" {
		client.SetNamespace(settings.Namespace)
	}
	client.SetWrappingLookupFunc(wrapNothing)
	return client, nil
}

// wrapNothing replaces the default, which reads VAULT_WRAP_TTL with every request. The
// gateway could not read a wrapped answer.
func wrapNothing(string, string) string { return "" }
