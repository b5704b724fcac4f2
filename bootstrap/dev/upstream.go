package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/backend/credential"
	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/demo"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

// With Options.Upstream, two demo servers are called with credentials that the gateway leases
// from Vault as the client: an account and its key, of the KV engine, and a certificate that
// the PKI engine issues. Every build of Vault has both engines.

// The servers, one for each transport.
const (
	whoamiHTTP  = "whoami-http"
	whoamiStdio = "whoami-stdio"
)

// The credentials in Vault. Their mounts are none that a user would have.
const (
	demoKV   = "demo-kv"
	demoPKI  = "demo-pki"
	demoRole = "client"
	issuer   = demoPKI + "/issue/" + demoRole
	// certificateName stands before the alias in the certificate, which makes a URI of it.
	// Vault compares that with the entity; a common name could not hold the colon of an alias.
	certificateName = "urn:mcp-demo:"
)

// upstreamRules are the rules of the child tokens. Each reads the one account of its client;
// PKI compares the name in a certificate itself.
const upstreamRules = `path "` + demoKV + `/data/{{identity.entity.aliases.TOKEN_ACCESSOR.name}}" {
  capabilities = ["read"]
}

path "` + issuer + `" {
  capabilities = ["update"]
}
`

// upstreamBlock is the gateway's. Vault's side of it is set up with every start, so that one
// may register servers with credentials of one's own.
const upstreamBlock = `upstream_credentials {
  token_role = "` + provision.UpstreamRole + `"
  policies   = ["` + policies.UpstreamName + `"]
}
`

// upstreamNames are the servers that are called with leased credentials.
func (s *system) upstreamNames() []string {
	if !s.Upstream {
		return nil
	}
	return []string{whoamiHTTP, whoamiStdio}
}

// startWhoami runs the one that speaks HTTP. The gateway starts the other.
func (s *system) startWhoami(ctx context.Context) error {
	return s.startDemo(ctx, whoamiHTTP, "whoami", &s.whoamiURL)
}

// provisionChildren makes Vault's side of upstream credentials: the token role, and the policy
// of the child tokens. Additions of a user in an earlier run stay.
func (s *system) provisionChildren(ctx context.Context, vault *api.Client) error {
	accessor, err := provision.TokenAccessor(ctx, vault)
	if err != nil {
		return err
	}
	rules, err := vault.Sys().GetPolicyWithContext(ctx, policies.UpstreamName)
	if err != nil {
		return fmt.Errorf("cannot read the policy %s: %w", policies.UpstreamName, connect.Explain(err))
	}
	if rules == "" {
		rules = policies.Upstream(accessor, "")
	}
	if s.Upstream && !strings.Contains(rules, `"`+issuer+`"`) {
		rules += "\n" + strings.ReplaceAll(upstreamRules, "TOKEN_ACCESSOR", accessor)
	}
	role, err := vault.Logical().ReadWithContext(ctx, provision.UpstreamRolePath)
	if err != nil {
		return fmt.Errorf("cannot read the token role %s: %w", provision.UpstreamRole, connect.Explain(err))
	}
	var allowed []string
	if role != nil {
		names, _ := role.Data["allowed_policies"].([]any)
		for _, name := range names {
			allowed = append(allowed, fmt.Sprint(name))
		}
	}
	return errors.Join(
		provision.Upstream(ctx, vault, provision.AliasPrefix, allowed),
		provision.Policy(ctx, vault, policies.UpstreamName, rules),
	)
}

// makeCredentials creates the credentials of the two servers, unless they exist.
func (s *system) makeCredentials(ctx context.Context) error {
	vault, err := s.vaultClient()
	if err != nil {
		return err
	}
	mounts, err := vault.Sys().ListMountsWithContext(ctx)
	if err != nil {
		return fmt.Errorf("cannot list Vault's mounts: %w", connect.Explain(err))
	}
	if mounts[demoKV+"/"] == nil {
		if err := mountEngine(ctx, vault, demoKV, "kv", map[string]string{"version": "2"}); err != nil {
			return err
		}
	}
	if mounts[demoPKI+"/"] == nil {
		if err := mountEngine(ctx, vault, demoPKI, "pki", nil); err != nil {
			return err
		}
	}
	return errors.Join(s.makeAccounts(ctx, vault), makeIssuer(ctx, vault))
}

// makeAccounts writes an account of each client that runs here.
func (s *system) makeAccounts(ctx context.Context, vault *api.Client) error {
	clients := []string{client}
	if s.Agent {
		clients = append(clients, agentClient)
	}
	for _, name := range clients {
		path := demoKV + "/data/" + provision.ClientAlias(provision.AliasPrefix, name)
		err := whileUpgrading(ctx, func() error {
			there, err := vault.Logical().ReadWithContext(ctx, path)
			if err != nil || there != nil {
				return connect.Explain(err)
			}
			return writeTo(ctx, vault, path, map[string]any{
				"data": map[string]any{"account": "account-of-" + name, "key": rand.Text()},
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// makeIssuer makes an authority, and a role under which each client gets a certificate of its
// own name alone. With a lease, a certificate is revoked when that ends.
func makeIssuer(ctx context.Context, vault *api.Client) error {
	accessor, err := provision.TokenAccessor(ctx, vault)
	if err != nil {
		return err
	}
	issuers, err := vault.Logical().ListWithContext(ctx, demoPKI+"/issuers")
	if err != nil {
		return fmt.Errorf("cannot list %s/issuers: %w", demoPKI, connect.Explain(err))
	}
	if issuers == nil {
		err := writeTo(ctx, vault, demoPKI+"/root/generate/internal", map[string]any{"common_name": "MCP demo", "key_type": "ec", "ttl": "720h"})
		if err != nil {
			return err
		}
	}
	return writeTo(ctx, vault, demoPKI+"/roles/"+demoRole, map[string]any{
		"allowed_uri_sans":          certificateName + "{{identity.entity.aliases." + accessor + ".name}}",
		"allowed_uri_sans_template": true, "require_cn": false, "server_flag": false,
		"generate_lease": true, "key_type": "ec", "key_bits": 256, "ttl": "1h", "max_ttl": "1h",
	})
}

func mountEngine(ctx context.Context, vault *api.Client, path, engine string, options map[string]string) error {
	err := vault.Sys().MountWithContext(ctx, path, &api.MountInput{
		Type: engine, Description: "Made by mcp-bootstrap dev -upstream", Options: options,
	})
	if err != nil {
		return fmt.Errorf("cannot mount the engine %s at %s: %w", engine, path, connect.Explain(err))
	}
	return nil
}

func writeTo(ctx context.Context, vault *api.Client, path string, data map[string]any) error {
	if _, err := vault.Logical().WriteWithContext(ctx, path, data); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, connect.Explain(err))
	}
	return nil
}

// upgradePause is the time between attempts at a mount that is not ready.
const upgradePause = 50 * time.Millisecond

// whileUpgrading repeats a write to a mount of KV that was just made: until it has its second
// version, it refuses everything.
func whileUpgrading(ctx context.Context, write func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := write()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(upgradePause):
		}
	}
}

// registerUpstream registers the two servers.
func (s *system) registerUpstream(write func(path string, data map[string]any) (*api.Secret, error)) error {
	leased := map[string]any{
		"user": demoKV + "/data/{{client.alias}}",
		"cert": map[string]any{
			"path": issuer, "method": credential.MethodWrite,
			"data": map[string]any{"uri_sans": certificateName + "{{client.alias}}"},
		},
	}
	_, err := write("servers/"+whoamiHTTP, map[string]any{
		"transport": "http", "url": s.whoamiURL, "description": "Tells as whom it was called, over HTTP",
		"credentials": leased,
		"headers": map[string]any{
			"Authorization":        "Basic {{user.data.account|basic:user.data.key}}",
			demo.CertificateHeader: "{{cert.certificate|urlencode}}",
		},
	})
	if err != nil {
		return err
	}
	_, err = write("servers/"+whoamiStdio, map[string]any{
		"transport": "stdio", "command": s.Self, "args": []string{"demo", "whoami", "-stdio"},
		"description": "Tells as whom it was called, over standard input and output",
		"credentials": leased,
		"env": map[string]any{
			demo.AccountVariable: "{{user.data.account}}", demo.KeyVariable: "{{user.data.key}}",
			demo.CertificateVariable: "{{file.client.pem}}",
		},
		"files": map[string]any{"client.pem": "{{cert.certificate}}\n{{cert.private_key}}\n"},
	})
	return err
}
