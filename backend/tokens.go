package backend

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/feed"
	"vault-plugin-secrets-mcp/backend/token"
)

// accessorLength is the length of an accessor: the client's id, so that the
// accessor alone leads to its client, and as many random characters again.
const accessorLength = 2 * idLength

// minted is a token that has been made but not yet committed.
type minted struct {
	clientToken
	secret string
	sealed string // the form that its holder gets; "" for secret itself
	hidden bool   // it came encrypted, and is not answered in clear
	unlock func() // of a custom token's stripe; nil otherwise
}

// answer returns the answer of the request that made the token, with the token in the
// form in which its holder sends it.
func (m *minted) answer(client, clientID string, now time.Time) map[string]any {
	data := tokenData(client, clientID, &m.tokenInfo, now)
	switch {
	case m.sealed != "":
		data["token"] = m.sealed
	case !m.hidden:
		data["token"] = m.secret
	}
	return data
}

// release unlocks a custom token's stripe. Only the first call counts.
func (m *minted) release() {
	if m.unlock != nil {
		m.unlock()
		m.unlock = nil
	}
}

// pointer returns the pointer for a token of that client.
func (m *minted) pointer(name string, c *clientEntry) *pointer {
	return &pointer{tokenInfo: m.tokenInfo, Client: name, ClientID: c.ID, Generation: c.Generation}
}

// mint makes an issued or leased token for the client with that id.
func (b *mcpBackend) mint(ctx context.Context, s logical.Storage, clientID string, kind tokenKind) (*minted, error) {
	secret, err := token.New(b.opts.Random)
	if err != nil {
		return nil, err
	}
	hash, err := b.hashToken(ctx, s, secret)
	if err != nil {
		return nil, err
	}
	info, err := b.newTokenInfo(ctx, s, clientID, kind)
	if err != nil {
		return nil, err
	}
	return &minted{clientToken: clientToken{tokenInfo: *info, Hash: hash}, secret: secret}, nil
}

func (b *mcpBackend) newTokenInfo(ctx context.Context, s logical.Storage, clientID string, kind tokenKind) (*tokenInfo, error) {
	mount, err := b.mountEntry(ctx, s)
	if err != nil {
		return nil, err
	}
	suffix, err := token.RandomID(b.opts.Random, accessorLength-idLength)
	if err != nil {
		return nil, err
	}
	return &tokenInfo{
		Accessor: clientID + suffix, Kind: kind, IssuedAt: b.now(), MountGeneration: mount.Generation,
	}, nil
}

// tokenSource has the parts of a new token: the custom token if the request has one, and the
// key to seal it with. It already has everything from KMS, so that no lock is held while KMS
// is asked.
type tokenSource struct {
	custom     string // the custom token
	field      string // where it was given; "" if the engine makes the token
	encrypted  bool   // it came encrypted, and is not answered in clear
	allowReuse bool

	answered bool              // the request answers the token
	key      *token.SealingKey // nil: the token is not sealed
	release  func()            // of the lock that keeps key's data key
}

// given reports whether the request brings the token.
func (t *tokenSource) given() bool { return t.field != "" }

// done releases what the source holds. Only the first call counts.
func (t *tokenSource) done() {
	if t.release != nil {
		t.release()
		t.release = nil
	}
}

// tokenSource prepares a token for the named client, whose settings are next, in a request
// that answers it. It must be called before any lock is taken. If the token will be sealed,
// the source keeps the data keys from being removed until done. issue says that the engine
// issues a token where the request brings none.
func (b *mcpBackend) tokenSource(ctx context.Context, req *logical.Request, d *framework.FieldData, name string, next *clientSettings, issue bool) (*tokenSource, error) {
	ctx, cancel := askingKMS(ctx)
	defer cancel()
	src, err := b.customSource(ctx, req, d, name)
	if err != nil || !issue && !src.given() {
		return src, err
	}
	return src, b.readySeal(ctx, req.Storage, src, next)
}

// readySeal prepares the source of a token that the request answers: if the tokens of a client
// with these settings are sealed, it gets the key.
func (b *mcpBackend) readySeal(ctx context.Context, s logical.Storage, src *tokenSource, settings *clientSettings) error {
	src.answered = true
	conf, err := b.config(ctx, s)
	if err != nil || sealOf(settings, conf) != check.SealKMS {
		return err
	}
	return b.sealWith(ctx, s, src)
}

// putPointer writes the token's pointer. A custom token's stripe is held by
// adopt already.
func (b *mcpBackend) putPointer(ctx context.Context, s logical.Storage, m *minted, p *pointer) error {
	if m.unlock == nil {
		defer b.pointers.lock(m.Hash)()
	}
	return b.pointers.put(ctx, s, m.Hash, p)
}

// sweep removes the pointers of tokens that no client entry lists any more. A
// failure is only logged: the pointers admit nothing, and tidy removes them.
func (b *mcpBackend) sweep(ctx context.Context, s logical.Storage, tokens []clientToken) {
	for _, t := range tokens {
		if err := b.deletePointer(ctx, s, t.Hash, t.Accessor); err != nil {
			b.Logger().Warn("an ended token's entry stays until the next tidy", "accessor", t.Accessor, "error", err)
		}
	}
}

// deletePointer removes the pointer if it is still that accessor's: a custom
// token may have been adopted again since.
func (b *mcpBackend) deletePointer(ctx context.Context, s logical.Storage, hash, accessor string) error {
	defer b.pointers.lock(hash)()
	p, err := b.pointers.getLocked(ctx, s, hash)
	if err != nil || p == nil || p.Accessor != accessor {
		return err
	}
	return b.pointers.delete(ctx, s, hash)
}

// tokenEvents announces the end or the change of tokens of a client.
func tokenEvents(op feed.Operation, name, clientID string, tokens []clientToken) []feed.Event {
	events := make([]feed.Event, 0, len(tokens))
	for _, t := range tokens {
		events = append(events, feed.Event{Type: feed.Token, Operation: op, Client: name, ClientID: clientID, Accessor: t.Accessor})
	}
	return events
}

// limit is a bound on a token's life, and who set it. Zero means no bound.
type limit struct {
	name string
	max  time.Duration
}

// capTTL returns ttl under the lowest of the limits, with a warning that says
// which one cut it. A ttl of 0 (does not expire) is cut to the lowest limit too.
func capTTL(ttl time.Duration, limits ...limit) (capped time.Duration, warnings []string) {
	capped = ttl
	var by limit
	for _, l := range limits {
		if l.max > 0 && (capped == 0 || l.max < capped) {
			capped, by = l.max, l
		}
	}
	if by.max > 0 && ttl > 0 {
		warnings = []string{fmt.Sprintf("the requested TTL of %s is above %s and was cut to %s", ttl, by.name, capped)}
	}
	return capped, warnings
}

// firstTTL returns the first that is set.
func firstTTL(ttls ...time.Duration) time.Duration {
	for _, ttl := range ttls {
		if ttl > 0 {
			return ttl
		}
	}
	return 0
}

// expiry returns when a token issued at now with that ttl ends; zero for never.
func expiry(now time.Time, ttl time.Duration) time.Time {
	if ttl == 0 {
		return time.Time{}
	}
	return now.Add(ttl)
}
