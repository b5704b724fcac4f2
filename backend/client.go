package backend

import (
	"fmt"
	"slices"
	"time"

	"vault-plugin-secrets-mcp/backend/check"
)

// maxClientTokens is how many tokens of its own a client has at most: the
// current one and its predecessors that are still in their grace period.
const maxClientTokens = 8

// tokenKind says where a token came from.
type tokenKind string

const (
	kindIssued tokenKind = "issued" // made by the engine for the client
	kindCustom tokenKind = "custom" // brought by its owner
	kindLeased tokenKind = "leased" // made by the engine under a Vault lease
)

// tokenInfo is what is known of one token, besides the token.
type tokenInfo struct {
	Accessor  string    `json:"accessor"`
	Kind      tokenKind `json:"kind"`
	IssuedAt  time.Time `json:"issued_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: never
	IssuedBy  string    `json:"issued_by,omitempty"`

	// DataKey is the id of the data key that the token is sealed under, "" for one
	// that is not sealed. Presented otherwise, the token is not active.
	DataKey string `json:"data_key,omitempty"`

	// MountGeneration is the mount's at the time of issue: revoke-all raises it.
	MountGeneration uint64 `json:"mount_generation,omitempty"`
}

func (t *tokenInfo) expired(now time.Time) bool {
	return !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt)
}

// live tells whether the token may be used, now or once its client is enabled.
func (t *tokenInfo) live(mountGeneration uint64, now time.Time) bool {
	return t.MountGeneration == mountGeneration && !t.expired(now)
}

// ttl returns what is left of the token's life, rounded up to seconds so that
// only an expired token has none; 0 for one that does not expire.
func (t *tokenInfo) ttl(now time.Time) time.Duration {
	if t.ExpiresAt.IsZero() {
		return 0
	}
	left := t.ExpiresAt.Sub(now)
	return (left + time.Second - 1).Truncate(time.Second)
}

// clientToken is one of the client's own tokens, in the client entry.
type clientToken struct {
	tokenInfo
	Hash string `json:"hash"`

	// Replaced: a rotation has made another one the current token. It stays so
	// when that one ends first.
	Replaced bool `json:"replaced,omitempty"`
}

// pointer leads from a token's HMAC to the client that must confirm it.
type pointer struct {
	tokenInfo
	Client     string `json:"client"`
	ClientID   string `json:"client_id"`
	Generation uint64 `json:"generation"`
}

// clientEntry is a client: the authority over its tokens and their only commit
// point. It is never changed in place; see clone.
type clientEntry struct {
	ID         string `json:"id"` // never changes, never used again
	Generation uint64 `json:"generation"`
	Version    uint64 `json:"version"` // rises with every write
	RotationID string `json:"rotation_id,omitempty"`

	// Tokens holds the current token first, if there is one (see current), and
	// then its predecessors, the newest first. It is empty once the client was
	// revoked.
	Tokens []clientToken `json:"tokens,omitempty"`

	clientSettings

	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// clientSettings is what a caller may set.
type clientSettings struct {
	check.Client
}

// clone returns a copy whose token list may be changed. Settings are replaced
// whole, never changed inside, and so are shared.
func (c *clientEntry) clone() *clientEntry {
	copied := *c
	copied.Tokens = slices.Clone(c.Tokens)
	return &copied
}

// own returns the client's own token with that HMAC, live or not, or nil.
func (c *clientEntry) own(hash string) *clientToken {
	for i := range c.Tokens {
		if c.Tokens[i].Hash == hash {
			return &c.Tokens[i]
		}
	}
	return nil
}

// current returns the client's current token, or nil where that has ended: a
// predecessor in its grace period never becomes the current token again.
func (c *clientEntry) current() *clientToken {
	if len(c.Tokens) == 0 || c.Tokens[0].Replaced {
		return nil
	}
	return &c.Tokens[0]
}

// byAccessor returns the client's own token with that accessor, or nil.
func (c *clientEntry) byAccessor(accessor string) *clientToken {
	for i := range c.Tokens {
		if c.Tokens[i].Accessor == accessor {
			return &c.Tokens[i]
		}
	}
	return nil
}

// confirm tells whether the token behind p is active now, and if so what is
// known of it. c may be nil: a client that does not exist confirms nothing.
func (c *clientEntry) confirm(p *pointer, hash string, mountGeneration uint64, now time.Time) *tokenInfo {
	if c == nil || c.Disabled || c.ID != p.ClientID {
		return nil
	}
	info := &p.tokenInfo
	if p.Kind == kindLeased {
		if p.Generation != c.Generation {
			return nil
		}
	} else {
		t := c.own(hash)
		if t == nil {
			return nil
		}
		info = &t.tokenInfo
	}
	if !info.live(mountGeneration, now) {
		return nil
	}
	return info
}

// confirmsOnceEnabled tells whether the token behind p is active now, or would be
// if the client were not disabled.
func (c *clientEntry) confirmsOnceEnabled(p *pointer, hash string, mountGeneration uint64, now time.Time) bool {
	if c == nil {
		return false
	}
	enabled := *c
	enabled.Disabled = false
	return enabled.confirm(p, hash, mountGeneration, now) != nil
}

// rotation is how a client's current token is replaced.
type rotation struct {
	token clientToken
	grace time.Duration // 0: every earlier token ends at once
	id    string        // the same id again replaces the token it issued before
}

// rotate makes r.token the current one, and returns the tokens that are no
// longer listed. With the id of the last rotation it replaces that rotation's
// token, which its caller cannot have received, and leaves the predecessors as
// they are. Expired tokens and those that revoke-all ended are dropped.
func (c *clientEntry) rotate(r rotation, mountGeneration uint64, now time.Time) (dropped []clientToken, err error) {
	repeated := r.id != "" && r.id == c.RotationID && c.current() != nil
	kept := []clientToken{r.token}
	for _, t := range c.Tokens {
		if repeated && !t.Replaced || t.expired(now) || t.MountGeneration != mountGeneration || (r.grace == 0 && !repeated) {
			dropped = append(dropped, t)
			continue
		}
		if end := now.Add(r.grace); !t.Replaced && (t.ExpiresAt.IsZero() || end.Before(t.ExpiresAt)) {
			t.ExpiresAt = end
		}
		t.Replaced = true
		kept = append(kept, t)
	}
	if len(kept) > maxClientTokens {
		return nil, userErrorf("the client has %d earlier tokens in their grace period, which is the most it can have: wait until %s, when the next of them ends, or pass grace_period=0 to end them all at once",
			len(kept)-1, formatTime(earliestEnd(kept[1:])))
	}
	c.Tokens, c.RotationID = kept, r.id
	return dropped, nil
}

func earliestEnd(tokens []clientToken) time.Time {
	end := tokens[0].ExpiresAt
	for _, t := range tokens[1:] {
		if t.ExpiresAt.Before(end) {
			end = t.ExpiresAt
		}
	}
	return end
}

// endAll takes every token from the client: its own by emptying the list, the
// leased ones by a new generation.
func (c *clientEntry) endAll() (dropped []clientToken) {
	dropped = c.Tokens
	c.Tokens, c.RotationID = nil, ""
	c.Generation++
	return dropped
}

// touch marks c as written at now.
func (c *clientEntry) touch(now time.Time) {
	c.Version++
	c.UpdatedAt = now
}

// versionString is what a gateway compares to know that a client has changed.
func (c *clientEntry) versionString() string {
	return fmt.Sprintf("%s.%d", c.ID, c.Version)
}

// formatTime returns t as Vault writes times, and "" for the zero time.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
