package backend

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
)

func (b *mcpBackend) pathCreds() []*framework.Path {
	operation := func(verb string) *framework.PathOperation {
		return &framework.PathOperation{
			Callback:     b.creds,
			Summary:      "Lease a short-lived token of a client.",
			DisplayAttrs: &framework.DisplayAttributes{OperationVerb: verb, OperationSuffix: "credentials"},
			Responses: responses(pick(tokenResponseFields,
				"token", "accessor", "client", "client_id", "kind", "issued_at", "expires_at", "ttl")),
			ForwardPerformanceStandby:   true,
			ForwardPerformanceSecondary: true,
		}
	}
	return []*framework.Path{describe(&framework.Path{
		Pattern: "creds/(?P<name>[^/]+)",
		Fields: map[string]*framework.FieldSchema{
			"name": nameField,
			"ttl": {
				Type:        framework.TypeDurationSecond,
				Description: "How long the token lives unless renewed. Default: the client's token_ttl, else the mount's default_ttl, else its default lease TTL.",
				Query:       true,
			},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation:   operation("generate"),
			logical.UpdateOperation: operation("request"),
		},
		HelpSynopsis: "Lease a short-lived token of a client.",
		HelpDescription: `
Every read makes a new token under a lease of its own, which Vault Agent, the
Secrets Operator and CI renew and revoke as they do any other. The token expires
with its lease; revoking the lease ends it at once, and so does the end of the
Vault token that asked for it.

Vault keeps the answer of a lease, and so the token, in the lease's own entry,
protected by Vault's barrier alone; a client's own token is stored as an HMAC only.`,
	})}
}

func (b *mcpBackend) creds(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	ctx, cancel := durable(ctx)
	defer cancel()
	c, err := b.clients.get(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	switch {
	case c == nil:
		return nil, noSuchClient(name)
	case c.Disabled:
		return nil, userErrorf("the client %q is disabled: write clients/%s with disabled=false first", name, name)
	}
	src, err := b.leaseSource(ctx, req, c)
	if err != nil {
		return nil, err
	}
	defer src.done()
	terms, err := b.leaseTerms(ctx, req.Storage, c)
	if err != nil {
		return nil, err
	}
	var requested time.Duration
	setDuration(d, "ttl", &requested)
	ttl, warnings := capTTL(firstTTL(requested, terms.ttl), terms.limits...)
	m, err := b.mint(ctx, req.Storage, c.ID, kindLeased)
	if err != nil {
		return nil, err
	}
	m.ExpiresAt, m.issuer = expiry(m.IssuedAt, ttl), b.issuerOf(req)
	if src.key != nil {
		if err := b.seal(m, name, src); err != nil {
			return nil, err
		}
	}
	if err := putJSON(ctx, req.Storage, leaseKey(c.ID, m.Accessor[idLength:]), leaseEntry{Hash: m.Hash, IssuedAt: m.IssuedAt}); err != nil {
		return nil, err
	}
	if err := b.putPointer(ctx, req.Storage, m, m.pointer(name, c)); err != nil {
		return nil, err
	}
	answer := m.answer(name, c.ID, b.now())
	if ofBatchToken(req) {
		warnings = append(warnings, withoutEnd(answer))
	}
	resp := b.Secret(secretTokenType).Response(answer, leaseData(name, m, ttl))
	resp.Secret.TTL, resp.Secret.MaxTTL, resp.Secret.Renewable = ttl, terms.longest(), true
	resp.Warnings = warnings
	return resp, nil
}

// ofBatchToken reports whether a batch token makes the request: the only kind of
// Vault token that has no accessor.
func ofBatchToken(req *logical.Request) bool { return req.ClientTokenAccessor == "" }

// withoutEnd removes the token's end from the answer, and returns a warning about it. A lease
// of a batch token ends with that token at the latest. Only Vault knows when, and tells it to
// the caller alone, as lease_duration.
func withoutEnd(answer map[string]any) string {
	delete(answer, "expires_at")
	delete(answer, "ttl")
	return "a batch token asks, with which the lease ends at the latest: lease_duration says when the token expires, and nothing can stretch it further"
}

// leaseSource is the source of a leased token of the client.
func (b *mcpBackend) leaseSource(ctx context.Context, req *logical.Request, c *clientEntry) (*tokenSource, error) {
	src := &tokenSource{answered: true}
	conf, err := b.config(ctx, req.Storage)
	if err == nil && sealOf(&c.clientSettings, conf) == check.SealKMS {
		err = b.sealWith(ctx, req.Storage, src)
	}
	if err != nil {
		return nil, err
	}
	return src, nil
}
