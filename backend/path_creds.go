package backend

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/feed"
)

func (b *mcpBackend) pathCreds() []*framework.Path {
	lease := operation{do: b.creds, runs: onActive, answers: merge(tokenFields("token"), signInFields())}
	read, write := lease, lease
	read.verb, write.verb = "generate", "request"
	return build(path{
		pattern: "creds/" + segment("name"),
		fields: merge(signInRequestFields(), fields{
			"name": nameField,
			"ttl": {
				Type:        framework.TypeDurationSecond,
				Description: "How long the token lives unless renewed. Default: the client's token_ttl, else the mount's default_ttl, else its default lease TTL. With a resource at most 15 minutes.",
				Query:       true,
			},
		}),
		about:    "credentials",
		ops:      operations{logical.ReadOperation: read, logical.UpdateOperation: write},
		synopsis: "Lease a short-lived token of a client.",
		help: `
Every read makes a new token under a lease of its own, which Vault Agent, the
Secrets Operator and CI renew and revoke like any other lease. The token expires
with its lease; revoking the lease ends it at once, and so does the end of the
Vault token that asked for it.

Vault keeps the answer of a lease, and so the token, in the lease's own entry,
protected by Vault's barrier alone; a client's own token is stored as an HMAC only.

A write with resource, application and login is a sign-in's, for a client with
sign_in=true. Its token is good at that resource alone, lives for 15 minutes at most and
is not renewed. Who signs in is not in the request: it is the alias that the entity of
the Vault token that asks has at the login. sign-ins/ lists it.`,
	})
}

func (b *mcpBackend) creds(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	ctx, cancel := durable(ctx)
	defer cancel()
	c, err := b.requireClient(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if c.Disabled {
		return nil, userErrorf("the client %q is disabled: write clients/%s with disabled=false first", name, name)
	}
	asked, err := b.signInRequest(ctx, req, d, name, c)
	if err != nil {
		return nil, err
	}
	src := &tokenSource{}
	if err := b.readySeal(ctx, req.Storage, src, &c.clientSettings); err != nil {
		return nil, asked.later(err)
	}
	defer src.done()
	terms, err := b.leaseTerms(ctx, req.Storage, c)
	if err != nil {
		return nil, err
	}
	var requested time.Duration
	setDuration(d, "ttl", &requested)
	if asked != nil {
		terms.endsWithSignIn()
	}
	ttl, warnings := capTTL(firstTTL(requested, terms.ttl), terms.limits...)
	m, err := b.mint(ctx, req.Storage, c.ID, kindLeased)
	if err != nil {
		return nil, err
	}
	m.ExpiresAt, m.issuer = expiry(m.IssuedAt, ttl), b.issuerOf(req)
	if src.key != nil {
		if err := b.seal(m, name, src); err != nil {
			return nil, asked.later(err)
		}
	}
	if err := b.storeLeased(ctx, req.Storage, m, name, c, asked); err != nil {
		return nil, err
	}
	answer := m.answer(name, c.ID, b.now())
	if ofBatchToken(req) {
		warnings = append(warnings, withoutEnd(answer))
	}
	if asked != nil {
		asked.info.addTo(answer)
	}
	resp := b.Secret(secretTokenType).Response(answer, leaseData(name, m, ttl))
	resp.Secret.TTL, resp.Secret.MaxTTL, resp.Secret.Renewable = ttl, terms.longest(), asked == nil
	resp.Warnings = warnings
	return resp, nil
}

// storeLeased stores a leased token. If it is of a sign-in, it first stores the used assertion
// and the row of the sign-in.
func (b *mcpBackend) storeLeased(ctx context.Context, s logical.Storage, m *minted, name string, c *clientEntry, asked *signInRequest) error {
	if asked != nil {
		m.SignIn = &asked.info
		if err := b.use(ctx, s, asked.assertion); err != nil {
			return err
		}
		if err := b.noteSignIn(ctx, s, asked, name, c.ID, m.ExpiresAt); err != nil {
			return err
		}
	}
	if err := putJSON(ctx, s, leaseKey(c.ID, m.Accessor[idLength:]), leaseEntry{Hash: m.Hash, IssuedAt: m.IssuedAt}); err != nil {
		return err
	}
	return b.putPointer(ctx, s, m, m.pointer(name, c))
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

// leaseEntry leads from a leased token's accessor to its pointer.
type leaseEntry struct {
	Hash     string    `json:"hash"`
	IssuedAt time.Time `json:"issued_at"`
}

// leaseKey is the storage key of a leased token's entry. All those of one client
// are in one folder, so that listing them touches no other client's.
func leaseKey(clientID, suffix string) string { return leasePrefix + clientID + "/" + suffix }

// secretTokenType names the lease in Vault.
const secretTokenType = "mcp_token"

func (b *mcpBackend) secretToken() *framework.Secret {
	return &framework.Secret{
		Type: secretTokenType,
		Fields: fields{
			"token": {Type: framework.TypeString, Description: "The leased token."},
		},
		Renew:  b.renewLease,
		Revoke: b.revokeLease,
	}
}

// leaseTerms are the bounds of a leased token's life.
type leaseTerms struct {
	ttl    time.Duration // if the request does not say
	limits []limit       // all of them hold, renewals included
}

// endsWithSignIn has the terms be those of a token with a resource.
func (t *leaseTerms) endsWithSignIn() {
	t.ttl = min(t.ttl, signInTokenTTL)
	t.limits = append(t.limits, limit{"the longest life of a token with a resource", signInTokenTTL})
}

// longest is how far renewals may stretch a lease in all.
func (t *leaseTerms) longest() time.Duration {
	longest, _ := capTTL(0, t.limits...)
	return longest
}

// reached returns the limits that a lease of that age has used up.
func (t *leaseTerms) reached(age time.Duration) *limit {
	for i := range t.limits {
		// Vault counts in whole seconds, and refuses a renewal for less.
		if l := &t.limits[i]; l.max > 0 && l.max-age < time.Second {
			return l
		}
	}
	return nil
}

func (b *mcpBackend) leaseTerms(ctx context.Context, s logical.Storage, c *clientEntry) (*leaseTerms, error) {
	conf, err := b.config(ctx, s)
	if err != nil {
		return nil, err
	}
	return &leaseTerms{
		ttl: firstTTL(c.TokenTTL, conf.DefaultTTL, b.System().DefaultLeaseTTL()),
		limits: []limit{
			{"the client's token_max_ttl", c.TokenMaxTTL},
			{"the mount's max_ttl", conf.MaxTTL},
			{"the mount's maximum lease TTL", b.System().MaxLeaseTTL()},
		},
	}, nil
}

// leaseData returns the data about the token that Vault keeps in its lease.
func leaseData(client string, m *minted, ttl time.Duration) map[string]any {
	return map[string]any{"client": client, "accessor": m.Accessor, "hash": m.Hash, "ttl": seconds(ttl)}
}

// leased reads the data about the token back from its lease.
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

// renewalTTL returns how long a renewal asks the lease to live from now on: the
// increment, else the TTL that the lease was issued with. A lease that an earlier
// version issued does not remember that one; Vault remembers the last one granted.
func renewalTTL(secret *logical.Secret) time.Duration {
	own, err := check.Duration(secret.InternalData["ttl"])
	if err != nil {
		own = 0
	}
	return firstTTL(secret.Increment, own, secret.TTL)
}

// renewLease moves the token's expiry with its lease's. The pointer is written
// before Vault moves the lease: a token may outlive a lease whose renewal was
// lost, by less than one TTL, and Vault then revokes it when the lease ends.
//
// A refused renewal changes nothing: the token lives to the end of its lease. The refusal is
// a Go error, since Vault would print an error response as Go formats a struct.
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
	if p == nil || p.Accessor != accessor || !c.confirmsOnceEnabled(p, hash, mount.Generation, b.now()) {
		return nil, userErrorf("the token of this lease has ended and cannot be renewed: read creds/%s for a new one", name)
	}
	if p.SignIn != nil {
		return nil, userErrorf("the token of this lease is for one resource and is not renewed: write creds/%s for a new one", name)
	}
	if c.Disabled {
		return nil, userErrorf("the client %q is disabled, so the lease is not renewed: once clients/%s is written with disabled=false, the token is accepted again, until %s", name, name, formatTime(p.ExpiresAt))
	}
	terms, err := b.leaseTerms(ctx, req.Storage, c)
	if err != nil {
		return nil, err
	}
	age := b.now().Sub(p.IssuedAt)
	if l := terms.reached(age); l != nil {
		return nil, userErrorf("the lease is %s old and cannot be renewed, since %s is %s: the token lives until %s, read creds/%s for a new one", age.Round(time.Second), l.name, l.max, formatTime(p.ExpiresAt), name)
	}
	ttl, warnings := capTTL(renewalTTL(req.Secret), limit{"the rest of the token's longest life", terms.longest() - age})
	if err := b.movePointer(ctx, req.Storage, hash, p, expiry(b.now(), ttl)); err != nil {
		return nil, err
	}
	resp := &logical.Response{Secret: req.Secret, Warnings: warnings}
	resp.Secret.TTL, resp.Secret.MaxTTL = ttl, terms.longest()
	return resp, nil
}

// movePointer moves the expiry of a leased token, whose stripe the caller holds.
// An earlier end is announced to gateways, since they remember the later one.
func (b *mcpBackend) movePointer(ctx context.Context, s logical.Storage, hash string, p *pointer, expires time.Time) error {
	next := *p
	next.ExpiresAt = expires
	var events []feed.Event
	if expires.Before(p.ExpiresAt) {
		events = []feed.Event{{Type: feed.Token, Operation: feed.Update, Client: p.Client, ClientID: p.ClientID, Accessor: p.Accessor}}
	}
	return b.feed.Around(ctx, s, events, func() error { return b.pointers.put(ctx, s, hash, &next) })
}

// revokeLease ends the token of a lease. A token that has already ended is not an error. While
// the mount itself is removed, nothing is an error: Vault would try again for hours, and
// could not disable the mount.
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
