package backend

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *mcpBackend) pathRenew() []*framework.Path {
	return []*framework.Path{describe(&framework.Path{
		Pattern: "renew",
		Fields: map[string]*framework.FieldSchema{
			"token":    tokenField,
			"accessor": accessorField,
			"increment": {
				Type:        framework.TypeDurationSecond,
				Description: "How long the token shall live from now. Default: the client's token_ttl, else the mount's default_ttl; required where both are 0.",
			},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.UpdateOperation: &framework.PathOperation{
				Callback:     b.renew,
				Summary:      "Move the expiry of a client's own token.",
				DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "renew", OperationSuffix: "token"},
				Responses: responses(pick(tokenResponseFields,
					"accessor", "client", "client_id", "kind", "issued_at", "expires_at", "ttl")),
				ForwardPerformanceStandby:   true,
				ForwardPerformanceSecondary: true,
			},
		},
		HelpSynopsis: "Move the expiry of a client's own token.",
		HelpDescription: `
The token is named by itself or by its accessor. Its life, from its issue on,
stays below token_max_ttl and the mount's max_ttl. A token that expires never
becomes one that does not: where neither the client nor the mount says for how long,
the increment must. A token in its grace period
cannot be renewed, and a leased one only through its lease.`,
	})}
}

func (b *mcpBackend) renew(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := durable(ctx)
	defer cancel()
	f, err := b.named(ctx, req.Storage, d)
	if err != nil {
		return nil, err
	}
	switch {
	case f == nil:
		return nil, userErrorf("there is no such token, or it has ended: rotate-client issues a new one")
	case f.info.Kind == kindLeased:
		return nil, userErrorf("the token is leased: renew its lease (vault lease renew), and its expiry moves along")
	}
	defer b.clients.lock(f.name)()
	held, err := b.clients.getLocked(ctx, req.Storage, f.name)
	if err != nil {
		return nil, err
	}
	if held == nil || held.current() == nil || held.current().Accessor != f.info.Accessor {
		return nil, userErrorf("the token is not the client's current one: it has been replaced and lives until its grace period ends")
	}
	conf, err := b.config(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	next := held.clone()
	current := next.current()
	var increment time.Duration
	setDuration(d, "increment", &increment)
	ttl := firstTTL(increment, held.TokenTTL, conf.DefaultTTL)
	if ttl == 0 && !current.ExpiresAt.IsZero() {
		return nil, userErrorf("field increment is missing: neither the client's token_ttl nor the mount's default_ttl says how long the token shall live from now on")
	}
	expires, warnings := b.renewed(current, ttl, held, conf)
	if !expires.Equal(current.ExpiresAt) {
		current.ExpiresAt = expires
		if err := b.commit(ctx, req.Storage, &clientChange{
			name: f.name, next: next, events: tokenEvents("update", f.name, held.ID, next.Tokens[:1]),
		}); err != nil {
			return nil, err
		}
	}
	return &logical.Response{Data: tokenData(f.name, held.ID, &current.tokenInfo, b.now()), Warnings: warnings}, nil
}

// renewed returns when the token ends if it is renewed for ttl, which is 0 only for
// one that does not expire.
func (b *mcpBackend) renewed(t *clientToken, ttl time.Duration, c *clientEntry, conf *config) (time.Time, []string) {
	if t.ExpiresAt.IsZero() {
		return t.ExpiresAt, []string{"the token does not expire: there is nothing to renew"}
	}
	now := b.now()
	longest, _ := capTTL(0, limit{"", c.TokenMaxTTL}, limit{"", conf.MaxTTL})
	var left time.Duration
	if longest > 0 {
		left = t.IssuedAt.Add(longest).Sub(now)
		if left <= 0 {
			return t.ExpiresAt, []string{"the token has reached its longest life and was not renewed: rotate-client issues a new one"}
		}
	}
	ttl, warnings := capTTL(ttl, limit{"what is left of the token's longest life", left})
	return expiry(now, ttl), warnings
}

// named returns the active token that the request names by token or accessor.
func (b *mcpBackend) named(ctx context.Context, s logical.Storage, d *framework.FieldData) (*activeToken, error) {
	secret, byToken := d.GetOk("token")
	accessor, byAccessor := d.GetOk("accessor")
	switch {
	case byToken == byAccessor:
		return nil, userErrorf("fields token and accessor: give one of them")
	case byToken:
		if err := notAToken("token", secret.(string)); err != nil {
			return nil, err
		}
		f, err := b.find(ctx, s, secret.(string))
		if err == nil && f == nil {
			err = b.accessorGivenAsToken(ctx, s, secret.(string), "give it as accessor")
		}
		return f, err
	}
	if err := notAnAccessor(accessor.(string)); err != nil {
		return nil, err
	}
	at, err := b.locate(ctx, s, accessor.(string))
	if err != nil || at == nil {
		return nil, err
	}
	return b.findHash(ctx, s, at.hash)
}
