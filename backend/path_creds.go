package backend

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
)

// secretTokenType names the lease in Vault.
const secretTokenType = "mcp_token"

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
	var requested time.Duration
	setDuration(d, "ttl", &requested)
	ttl, maxTTL, warnings, err := b.leaseTTL(ctx, req.Storage, c, requested)
	if err != nil {
		return nil, err
	}
	m, err := b.mint(ctx, req.Storage, c.ID, kindLeased)
	if err != nil {
		return nil, err
	}
	m.ExpiresAt, m.IssuedBy = expiry(m.IssuedAt, ttl), req.DisplayName
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
	resp := b.Secret(secretTokenType).Response(
		m.answer(name, c.ID, b.now()),
		map[string]any{"client": name, "accessor": m.Accessor, "hash": m.Hash})
	resp.Secret.TTL, resp.Secret.MaxTTL, resp.Secret.Renewable = ttl, maxTTL, true
	resp.Warnings = warnings
	return resp, nil
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

// leaseTTL returns the life of a leased token, and how long renewals may stretch
// it in all.
func (b *mcpBackend) leaseTTL(ctx context.Context, s logical.Storage, c *clientEntry, requested time.Duration) (ttl, maxTTL time.Duration, warnings []string, err error) {
	conf, err := b.config(ctx, s)
	if err != nil {
		return 0, 0, nil, err
	}
	limits := []limit{
		{"the client's token_max_ttl", c.TokenMaxTTL},
		{"the mount's max_ttl", conf.MaxTTL},
		{"the mount's maximum lease TTL", b.System().MaxLeaseTTL()},
	}
	maxTTL, _ = capTTL(0, limits...)
	if ttl = firstTTL(requested, c.TokenTTL, conf.DefaultTTL); ttl == 0 {
		ttl = b.System().DefaultLeaseTTL()
	}
	ttl, warnings = capTTL(ttl, limits...)
	return ttl, maxTTL, warnings, nil
}

func (b *mcpBackend) secretToken() *framework.Secret {
	return &framework.Secret{
		Type: secretTokenType,
		Fields: map[string]*framework.FieldSchema{
			"token": {Type: framework.TypeString, Description: "The leased token."},
		},
		Renew: func(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
			return answer(b.renewLease(ctx, req, d))
		},
		Revoke: b.revokeLease,
	}
}

// leased returns what the lease remembers of its token.
func leased(secret *logical.Secret) (client, accessor, hash string, err error) {
	for field, target := range map[string]*string{"client": &client, "accessor": &accessor, "hash": &hash} {
		v, ok := secret.InternalData[field].(string)
		if !ok {
			return "", "", "", fmt.Errorf("the lease does not say its token's %s", field)
		}
		*target = v
	}
	if len(accessor) != accessorLength {
		return "", "", "", fmt.Errorf("the lease's accessor has %d characters instead of %d", len(accessor), accessorLength)
	}
	return client, accessor, hash, nil
}

// renewLease moves the token's expiry with its lease's. The pointer is written
// before Vault moves the lease: a token may outlive a lease whose renewal was
// lost, by less than one TTL, and Vault then revokes it when the lease ends.
func (b *mcpBackend) renewLease(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	name, accessor, hash, err := leased(req.Secret)
	if err != nil {
		return nil, err
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	c, err := b.clients.get(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	mount, err := b.mountEntry(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	defer b.pointers.lock(hash)()
	p, err := b.pointers.getLocked(ctx, req.Storage, hash)
	if err != nil {
		return nil, err
	}
	if p == nil || p.Accessor != accessor || c.confirm(p, hash, mount.Generation, b.now()) == nil {
		return nil, userErrorf("the token of this lease has ended and cannot be renewed: read creds/%s for a new one", name)
	}
	ttl, maxTTL, warnings, err := b.leaseTTL(ctx, req.Storage, c, req.Secret.Increment)
	if err != nil {
		return nil, err
	}
	if left := p.IssuedAt.Add(maxTTL).Sub(b.now()); ttl > left {
		ttl = left
	}
	next := *p
	next.ExpiresAt = expiry(b.now(), ttl)
	if err := b.pointers.put(ctx, req.Storage, hash, &next); err != nil {
		return nil, err
	}
	resp := &logical.Response{Secret: req.Secret, Warnings: warnings}
	resp.Secret.TTL, resp.Secret.MaxTTL = ttl, maxTTL
	return resp, nil
}

// revokeLease ends the token of a lease. What is gone already is no error, and
// nothing is one while the mount itself goes away: an error would make Vault try
// again for hours, and keep the mount from being disabled.
func (b *mcpBackend) revokeLease(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := durable(ctx)
	defer cancel()
	client, accessor, hash, err := leased(req.Secret)
	if err == nil {
		_, err = b.endLeased(ctx, req.Storage, client, accessor, hash)
	}
	if err != nil && b.System().Tainted() {
		b.Logger().Warn("a leased token was not removed while the mount is being disabled", "accessor", accessor, "error", err)
		return nil, nil
	}
	return nil, err
}
