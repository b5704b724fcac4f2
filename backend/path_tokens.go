package backend

import (
	"context"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/backend/check"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/token"
)

func (b *mcpBackend) pathClientTokens() []*framework.Path {
	return build(
		path{
			pattern: "clients/" + segment("name") + "/tokens/?$",
			fields:  fields{"name": nameField},
			about:   "client-tokens",
			ops: operations{
				logical.ListOperation: {
					do: b.listClientTokens,
					answers: fields{
						"keys":     {Type: framework.TypeStringSlice, Description: "The accessors."},
						"key_info": {Type: framework.TypeMap, Description: "By accessor, last_used: the day of the token's last use."},
					},
				},
			},
			synopsis: "List the accessors of a client's tokens.",
			help: `
The client's own tokens come first, the current one at the head, and then the
leased ones. Tokens that have expired are listed until tidy removes them.`,
		},
		path{
			pattern: "clients/" + segment("name") + "/tokens/" + segment("accessor"),
			fields:  fields{"name": nameField, "accessor": accessorField},
			about:   "client-token",
			ops: operations{
				logical.ReadOperation: {
					do: b.readClientToken, summary: "Read about a token, without the token itself.",
					answers: merge(tokenFields("issued_by", "issued_by_entity", "issued_by_alias", "issued_by_role", "data_key", "state"), signInFields(), fields{"last_used": lastUsedField}),
				},
				logical.DeleteOperation: {do: b.deleteClientToken, summary: "End one token of a client at once.", verb: "revoke"},
			},
			synopsis: "Read or end one token of a client by its accessor.",
			help: `
A caller with rights on clients/NAME/* can end the client's tokens here without knowing
them. It is not an error if the token has ended already. A read of a token of a sign-in also
has its resource, and the person who has signed in.`,
		},
	)
}

func (b *mcpBackend) listClientTokens(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	c, err := b.clients.get(ctx, req.Storage, d.Get("name").(string))
	if err != nil || c == nil {
		return nil, err
	}
	accessors := make([]string, 0, len(c.Tokens))
	for _, t := range c.Tokens {
		accessors = append(accessors, t.Accessor)
	}
	leased, err := req.Storage.List(ctx, leaseKey(c.ID, ""))
	if err != nil {
		return nil, err
	}
	for _, suffix := range leased {
		accessors = append(accessors, c.ID+suffix)
	}
	used, err := b.usageOf(ctx, req.Storage, c.ID)
	if err != nil {
		return nil, err
	}
	info := make(map[string]any, len(accessors))
	for _, accessor := range accessors {
		info[accessor] = map[string]any{"last_used": used.tokenLastUsed(accessor)}
	}
	return logical.ListResponseWithInfo(accessors, info), nil
}

func (b *mcpBackend) readClientToken(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, accessor := d.Get("name").(string), d.Get("accessor").(string)
	at, err := b.locate(ctx, req.Storage, accessor)
	if err != nil || at == nil || at.client != name {
		return nil, err
	}
	c, err := b.clients.get(ctx, req.Storage, name)
	if err != nil || c == nil {
		return nil, err
	}
	p, err := b.pointers.get(ctx, req.Storage, at.hash)
	if err != nil {
		return nil, err
	}
	m, err := b.mountEntry(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	var info *tokenInfo
	switch own := c.byAccessor(accessor); {
	case own != nil:
		info = &own.tokenInfo
	case p != nil && p.Accessor == accessor:
		info = &p.tokenInfo
	default:
		return nil, nil
	}
	used, err := b.usageOf(ctx, req.Storage, c.ID)
	if err != nil {
		return nil, err
	}
	data := with(with(tokenData(name, c.ID, info, b.now()), info.issuerData()), map[string]any{
		"data_key":  info.DataKey,
		"state":     c.state(p, at.hash, info, m.Generation, b.now()),
		"last_used": used.tokenLastUsed(accessor),
	})
	if info.SignIn != nil {
		info.SignIn.addTo(data)
	}
	return &logical.Response{Data: nullUnset(data)}, nil
}

func (b *mcpBackend) deleteClientToken(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	return b.revokeByAccessor(ctx, req.Storage, d.Get("accessor").(string), d.Get("name").(string))
}

func (b *mcpBackend) pathRenew() []*framework.Path {
	return build(path{
		pattern: "renew",
		fields: fields{
			"token":    tokenField,
			"accessor": accessorField,
			"increment": {
				Type:        framework.TypeDurationSecond,
				Description: "How long the token lives from now on. Default: the client's token_ttl, else the mount's default_ttl; required if both are 0.",
			},
		},
		about: "token",
		ops: operations{
			logical.UpdateOperation: {do: b.renew, verb: "renew", answers: tokenFields()},
		},
		synopsis: "Move the expiry of a client's own token.",
		help: `
Give the token or its accessor. Counted from its issue, the token's life stays below
token_max_ttl and the mount's max_ttl. A token that expires never becomes one that
does not: if neither the client nor the mount has a TTL, give the increment. A token
in its grace period cannot be renewed; a leased one is renewed through its lease.`,
	})
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
func (b *mcpBackend) renewed(t *clientToken, ttl time.Duration, c *clientEntry, conf *check.Config) (time.Time, []string) {
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
	ttl, warnings := capTTL(ttl, limit{"the rest of the token's longest life", left})
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
	return b.findAccessor(ctx, s, accessor.(string))
}

// notAToken explains why secret cannot be a token of any mount, in words that do not
// repeat it, or nil if it may be one.
func notAToken(field, secret string) error {
	err := token.Malformed(secret)
	if err == nil {
		return nil
	}
	return userErrorf("field %s: %s%s", field, err, schemeHint(secret))
}

// schemeHint is advice about a token that was copied together with the scheme of
// its Authorization header, and "" about any other.
func schemeHint(secret string) string {
	scheme, _, found := strings.Cut(secret, " ")
	scheme = strings.TrimSuffix(scheme, ":")
	if !found || !strings.EqualFold(scheme, "Bearer") && !strings.EqualFold(scheme, "Authorization") {
		return ""
	}
	return `; give the token alone, without "Bearer" in front`
}

// notAnAccessor explains why text cannot be an accessor, or nil if it may be one. It
// does not repeat text, which may be a token.
func notAnAccessor(text string) error {
	if len(text) == accessorLength && token.IsID(text) {
		return nil
	}
	return userErrorf("field accessor: an accessor has %d letters and digits, and this has not; clients/NAME/tokens lists those of a client. To name a token by itself, use the path or the field for tokens", accessorLength)
}

// accessorGivenAsToken is the error for a caller who gave an accessor instead of a token. It
// returns nil if secret is not the accessor of any token.
func (b *mcpBackend) accessorGivenAsToken(ctx context.Context, s logical.Storage, secret, instead string) error {
	at, err := b.locate(ctx, s, secret)
	if err != nil || at == nil {
		return err
	}
	return userErrorf("field token: this is the accessor of a token of the client %q, not the token: %s", at.client, instead)
}
