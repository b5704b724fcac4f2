// Package vaultclient makes clients for Vault that honour every setting of Vault's own
// API client, and read certificates again when they were replaced on disk.
//
// Vault's own client reads some variables when a request is made, and others only where
// it makes its HTTP transport itself. Here everything comes from one checked struct,
// except VAULT_HEADERS, which Vault's client adds by itself.
package vaultclient

import (
	"fmt"
	"net/http"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/gateway/config"
)

// Options are those that the settings do not have.
type Options struct {
	// IdleConns is how many connections without a request are kept.
	IdleConns int
	// Limit has the client itself hold the settings' rate limit.
	Limit bool
	// Log gets a line when certificates were read again.
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
		// The transport dials the socket, whatever the host is.
		address.Scheme, address.Host, address.Path = "http", "localhost", ""
	}
	wanted := &api.Config{
		Address: address.String(),
		HttpClient: &http.Client{
			Transport: transport,
			// The API client follows the one redirect to the active node itself.
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

// wrapNothing stands for the default, which reads VAULT_WRAP_TTL with every request:
// an answer that is wrapped cannot be read. Requests to wrap are made by the body.
func wrapNothing(string, string) string { return "" }
