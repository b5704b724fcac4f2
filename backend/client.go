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

// tokenInfo is everything that is known about a token, except the token.
type tokenInfo struct {
	Accessor  string    `json:"accessor"`
	Kind      tokenKind `json:"kind"`
	IssuedAt  time.Time `json:"issued_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"` // zero: never

	issuer

	// DataKey is the id of the data key that the token is sealed under, "" for one
	// that is not sealed. In any other form the token is not active.
	DataKey string `json:"data_key,omitempty"`

	// MountGeneration is the mount's at the time of issue: revoke-all raises it.
	MountGeneration uint64 `json:"mount_generation,omitempty"`

	// SignIn is the sign-in that has got the token, nil for a token without a resource.
	SignIn *signInInfo `json:"sign_in,omitempty"`
}

func (t *tokenInfo) expired(now time.Time) bool {
	return !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt)
}

// live reports whether the token may be used, now or once its client is enabled.
func (t *tokenInfo) live(mountGeneration uint64, now time.Time) bool {
	return t.MountGeneration == mountGeneration && !t.expired(now)
}

// ttl returns the rest of the token's life, rounded up to seconds so that
// only an expired token has 0; also 0 for a token that does not expire.
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

	// Replaced: a rotation has made another token the current one. This stays true even
	// if that other token ends first.
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

	// SignInGeneration rises when sign_in is taken from the client, which ends the tokens of
	// its sign-ins.
	SignInGeneration uint64 `json:"sign_in_generation,omitempty"`

	// Tokens holds the current token first, if there is one (see current), and
	// then its predecessors, the newest first. It is empty once the client was
	// revoked.
	Tokens []clientToken `json:"tokens,omitempty"`

	clientSettings

	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// clientSettings has the fields that a caller may set.
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

// current returns the client's current token, or nil if that has ended: a
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

// confirm returns the facts about the token behind p if it is active now, else nil.
// c may be nil: a client that does not exist confirms nothing.
func (c *clientEntry) confirm(p *pointer, hash string, mountGeneration uint64, now time.Time) *tokenInfo {
	if c == nil || c.Disabled || c.ID != p.ClientID {
		return nil
	}
	info := &p.tokenInfo
	if p.Kind == kindLeased {
		if !c.confirmsLeased(p) {
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

// confirmsLeased reports whether the client's generation, and that of its sign-ins for a token
// with a resource, are those with which the leased token was issued.
func (c *clientEntry) confirmsLeased(p *pointer) bool {
	signIns := p.SignIn == nil || p.SignIn.Generation == c.SignInGeneration
	return signIns && p.Generation == c.Generation
}

// confirmsOnceEnabled reports whether the token behind p is active now, or would be
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
	token  clientToken
	grace  time.Duration // 0: every earlier token ends at once
	endAll bool          // the request asks for grace 0 itself, as after a leak
	id     string        // the same id again, soon, replaces the token it issued before
}

// rotationIDLife is how long a rotation's id counts: long enough for a caller who lost the
// answer to try again. After that the same id belongs to another rotation, as for a job
// that uses one id every night.
const rotationIDLife = 10 * time.Minute

// repeated returns the token of the rotation that r repeats, which r replaces since its
// caller cannot have received it; nil if r repeats no rotation.
func (c *clientEntry) repeated(r *rotation, now time.Time) *clientToken {
	current := c.current()
	if r.id == "" || r.id != c.RotationID || current == nil || now.Sub(current.IssuedAt) >= rotationIDLife {
		return nil
	}
	return current
}

// rotate makes r.token the current one, and returns the tokens that are no
// longer listed. With the id of the last rotation it replaces that rotation's
// token, and leaves the predecessors as they are, unless all are to end. Expired
// tokens and those that revoke-all ended are dropped.
func (c *clientEntry) rotate(r rotation, mountGeneration uint64, now time.Time) (dropped []clientToken, err error) {
	repeated := c.repeated(&r, now)
	endAll := r.endAll || r.grace == 0 && repeated == nil
	kept := []clientToken{r.token}
	for i := range c.Tokens {
		t := c.Tokens[i]
		if endAll || &c.Tokens[i] == repeated || !t.live(mountGeneration, now) {
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
		return nil, c.tooManyTokens(mountGeneration, now)
	}
	c.Tokens, c.RotationID = kept, r.id
	return dropped, nil
}

// tooManyTokens says when the client can get another token: when the first of its
// predecessors ends. The current token does not count, since the rotation that would
// replace it is refused.
func (c *clientEntry) tooManyTokens(mountGeneration uint64, now time.Time) error {
	earlier := slices.DeleteFunc(slices.Clone(c.Tokens[1:]), func(t clientToken) bool { return !t.live(mountGeneration, now) })
	first := slices.MinFunc(earlier, func(a, b clientToken) int { return a.ExpiresAt.Compare(b.ExpiresAt) })
	return userErrorf("the client has its current token and %d earlier ones in their grace period, which is the most it can have: wait until %s, when the first of them ends, or end it now (revoke-accessor accessor=%s), or write rotate-client with grace_period=0, which ends all of them and the current one",
		len(earlier), formatTime(first.ExpiresAt), first.Accessor)
}

// endAll ends every token of the client: its own by emptying the list, the leased ones by a
// new generation.
func (c *clientEntry) endAll() (dropped []clientToken) {
	dropped = c.Tokens
	c.Tokens, c.RotationID = nil, ""
	c.Generation++
	return dropped
}

// markWritten notes that c is written at now.
func (c *clientEntry) markWritten(now time.Time) {
	c.Version++
	c.UpdatedAt = now
}

// versionString is the text that a gateway compares to see whether a client has
// changed.
func (c *clientEntry) versionString() string {
	return fmt.Sprintf("%s.%d", c.ID, c.Version)
}

// remove takes the token with that accessor out of the client's list.
func (c *clientEntry) remove(accessor string) (dropped []clientToken) {
	c.Tokens = slices.DeleteFunc(c.Tokens, func(t clientToken) bool {
		if t.Accessor != accessor {
			return false
		}
		dropped = append(dropped, t)
		return true
	})
	return dropped
}

func (c *clientEntry) hasExpired(now time.Time) bool {
	for i := range c.Tokens {
		if c.Tokens[i].expired(now) {
			return true
		}
	}
	return false
}

// state returns the state of a token, in a word.
func (c *clientEntry) state(p *pointer, hash string, info *tokenInfo, mountGeneration uint64, now time.Time) string {
	switch {
	case info.expired(now):
		return "expired"
	case p == nil || !c.confirmsOnceEnabled(p, hash, mountGeneration, now):
		return "revoked"
	case c.Disabled:
		return "disabled"
	case info.Kind != kindLeased && c.own(hash).Replaced:
		return "grace"
	default:
		return "active"
	}
}
