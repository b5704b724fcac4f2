package grants

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	lru "github.com/hashicorp/golang-lru/v2"

	"vault-plugin-secrets-mcp/backend/clock"
	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// Grant is Vault's answer about one token: its client, and the servers and tools that it
// may reach. It never has the token. A Grant is immutable once published; a change at
// Vault makes another one.
type Grant struct {
	Client    string    // name
	ClientID  string    // unchanging; another one if the client is created again
	Accessor  string    // names the token in logs
	ExpiresAt time.Time // this gateway's clock; zero: never

	*entitlements

	// The age of Vault's answer: see changes.go.
	index uint64
	sent  time.Time

	// stale is set by a change that concerns the grant: Vault must be asked
	// before its next use.
	stale atomic.Bool

	Leased bool // the token has a lease in Vault, which its holder replaces before its end

	entry *entry // where its live requests are kept; nil outside of a cache
}

// Stay identifies the time that a token spends in the cache. The grants of a token that
// replace each other have the same one. A token that returns after its end, or after it was
// evicted, has another one.
type Stay struct{ entry *entry }

// Stay returns the grant's stay in the cache.
func (g *Grant) Stay() Stay { return Stay{g.entry} }

// Anchor names that on which what the gateway keeps for the token hangs, in Vault: the
// person's token where it was leased in a sign-in, and so follows others and is followed by
// others; else the token itself. It is an accessor.
func (g *Grant) Anchor() string {
	if g.SignIn != nil {
		return g.SignIn.Accessor
	}
	return g.Accessor
}

// AllowsSource reports whether the token may be used from addr. A client
// without token_bound_cidrs may use it from anywhere. An address that is not
// known is in no range.
func (g *Grant) AllowsSource(addr netip.Addr) bool {
	if len(g.boundCIDRs) == 0 {
		return true
	}
	addr = addr.Unmap().WithZone("")
	for _, prefix := range g.boundCIDRs {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// UpstreamPolicies returns the Vault policies of the client's upstream credentials, and
// false if those of the gateway's file count.
func (g *Grant) UpstreamPolicies() (policies []string, set bool) {
	return g.upstreamPolicies, g.upstreamPolicies != nil
}

// NewerThan reports whether Vault has given this grant after the other one.
func (g *Grant) NewerThan(o *Grant) bool { return g.sent.After(o.sent) }

// SameUpstreamRights reports whether both grants have the same rights to upstream credentials,
// and the same person has signed in.
func (g *Grant) SameUpstreamRights(o *Grant) bool {
	return g.entitlements == o.entitlements || g.SignIn.samePerson(o.SignIn) &&
		slices.Equal(g.upstreamPolicies, o.upstreamPolicies) && (g.upstreamPolicies == nil) == (o.upstreamPolicies == nil) &&
		maps.Equal(g.metadata, o.metadata)
}

// SamePerson reports whether the tokens of both are of one person by the same name, or of
// nobody.
func (g *Grant) SamePerson(o *Grant) bool {
	return g.entitlements == o.entitlements || g.SignIn.samePerson(o.SignIn)
}

// Metadata returns the client's metadata. It is nil for a client without upstream policies:
// teams may write metadata, so only there may it decide about credentials.
func (g *Grant) Metadata() map[string]string { return g.metadata }

// Expired reports whether the token's end has come, by either clock.
func (g *Grant) Expired(now time.Time) bool {
	return !g.ExpiresAt.IsZero() && clock.Reached(now, g.ExpiresAt)
}

// NewGrant builds the grant of an active answer to a request that was sent at sent,
// without the policy: the Broker fetches that.
func NewGrant(l *vaultclient.Lookup, sent time.Time) (*Grant, error) {
	return newGrant(l, sent, entitlementsOf)
}

// newGrant builds it with entitlements as they are read. The expiry is counted from sent:
// it comes too early by the time that the answer travelled.
func newGrant(l *vaultclient.Lookup, sent time.Time, read func(*vaultclient.Lookup) (*entitlements, error)) (*Grant, error) {
	if !l.Active {
		return nil, ErrInactive
	}
	if l.Client == "" || l.ClientID == "" || l.Accessor == "" {
		return nil, fmt.Errorf("lookup: an active answer without client, client_id or accessor")
	}
	t, err := read(l)
	if err != nil {
		return nil, err
	}
	g := &Grant{
		Client:       l.Client,
		ClientID:     l.ClientID,
		Accessor:     l.Accessor,
		Leased:       l.Kind == vaultclient.KindLeased,
		entitlements: t,
		index:        l.Index,
		sent:         sent,
	}
	if err := g.setExpiry(l, sent); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *Grant) setExpiry(l *vaultclient.Lookup, sent time.Time) error {
	if l.ExpiresAt == "" {
		return nil
	}
	expires, err := time.Parse(time.RFC3339Nano, l.ExpiresAt)
	if err != nil {
		return fmt.Errorf("lookup: expires_at: %w", err)
	}
	if l.AnsweredAt.IsZero() {
		return fmt.Errorf("lookup: the answer has expires_at but no answered_at to count it from")
	}
	g.ExpiresAt = sent.Add(expires.Sub(l.AnsweredAt))
	return nil
}

// entitlementsKept is how many entitlements are kept to be shared. Grants keep theirs for
// as long as they need them.
const entitlementsKept = 1024

// entitlements is the part of an answer that many tokens have in common: the servers and
// tools that they may reach, and the epoch of the answer. A hundred thousand tokens may be those of clients
// that were set up alike, so their grants share it. It is immutable.
type entitlements struct {
	epoch   string // see changes.go
	dataKey string // id of the one that the tokens are sealed under; "": they are not

	policyDigest string           // "": no policy applies
	policy       *effectivePolicy // that of policyDigest; nil where there is none

	boundCIDRs []netip.Prefix

	rights    []policy.Rights // with allowed servers sorted
	role      string          // of the client; "": it has none
	rules     *sync.Map       // server name -> *policy.Rules; nil without rules
	rateLimit policy.RateLimit

	upstreamPolicies []string          // nil: unset
	metadata         map[string]string // only with upstreamPolicies

	// SignIn is that of the tokens, which follow one another; nil: they belong to none.
	SignIn *SignIn
}

// entitlementsOf reads them from an active answer. The policy is missing yet.
func entitlementsOf(l *vaultclient.Lookup) (*entitlements, error) {
	t := &entitlements{
		epoch:        intern(l.Epoch),
		dataKey:      intern(l.DataKey),
		policyDigest: intern(l.PolicyDigest),
		rights:       internRights(l.Sources()),
		rateLimit:    policy.RateLimit{Rate: l.RateLimit, Burst: l.RateBurst},
	}
	if l.UpstreamPolicies != nil {
		t.upstreamPolicies, t.metadata = internAll(l.UpstreamPolicies), l.Metadata
	}
	var err error
	if t.SignIn, err = signInOf(l); err != nil {
		return nil, err
	}
	t.role = policy.RoleOf(t.rights)
	if slices.ContainsFunc(t.rights, policy.Rights.HasRules) {
		t.rules = new(sync.Map)
	}
	return t, t.setBoundCIDRs(l.TokenBoundCIDRs)
}

// setBoundCIDRs takes ranges and single addresses, as Vault's own
// token_bound_cidrs does.
func (t *entitlements) setBoundCIDRs(ranges []string) error {
	for _, text := range ranges {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, addrErr := netip.ParseAddr(text)
			if addrErr != nil {
				return fmt.Errorf("lookup: token_bound_cidrs: %w", err)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		t.boundCIDRs = append(t.boundCIDRs, prefix.Masked())
	}
	return nil
}

// entitlementCache holds the entitlements of the latest answers, so that answers that say
// the same have the same ones.
type entitlementCache struct {
	policies *policies
	held     *lru.Cache[entitlementsKey, *entitlements]
}

func newEntitlementCache(p *policies) (*entitlementCache, error) {
	held, err := lru.New[entitlementsKey, *entitlements](entitlementsKept)
	if err != nil {
		return nil, err
	}
	return &entitlementCache{policies: p, held: held}, nil
}

// get returns the entitlements of an active answer, with their policy. The error is
// errOutdated where the engine does not know the policy any more.
func (s *entitlementCache) get(l *vaultclient.Lookup) (*entitlements, error) {
	k, err := entitlementsKeyOf(l)
	if err != nil {
		return nil, err
	}
	if held, ok := s.held.Get(k); ok {
		return held, nil
	}
	t, err := entitlementsOf(l)
	if err != nil {
		return nil, err
	}
	if t.policy, err = s.policies.get(t.policyDigest); err != nil {
		return nil, err
	}
	s.held.Add(k, t)
	return t, nil
}

// entitlementsKey is a hash of all that entitlements are made of.
type entitlementsKey [sha256.Size]byte

func entitlementsKeyOf(l *vaultclient.Lookup) (entitlementsKey, error) {
	parts := []any{
		l.Epoch, l.DataKey, l.PolicyDigest, l.Sources(), l.RateLimit, l.RateBurst, l.TokenBoundCIDRs,
	}
	if l.UpstreamPolicies != nil {
		parts = append(parts, l.UpstreamPolicies, l.Metadata)
	}
	if signIn := partsOf(l); signIn != [signInParts]string{} {
		parts = append(parts, "sign-in", signIn)
	}
	text, err := json.Marshal(parts)
	return sha256.Sum256(text), err
}

// intern returns one copy of a string for all entitlements that have it.
func intern(s string) string { return unique.Make(s).Value() }

// internAll does so for a list. Nil stays nil.
func internAll(list []string) []string {
	if list == nil {
		return nil
	}
	all := make([]string, len(list))
	for i, s := range list {
		all[i] = intern(s)
	}
	return all
}
