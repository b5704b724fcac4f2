package grants

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"unique"

	lru "github.com/hashicorp/golang-lru/v2"
)

// termsKept is how many terms are kept to be shared. Grants keep theirs for as long
// as they need them.
const termsKept = 1024

// terms is what a lookup says that many tokens have in common: what they may reach,
// and the history that the answer is part of. There may be a hundred thousand tokens,
// of clients that were set up alike, so their grants share it. It is immutable.
type terms struct {
	epoch   string // see view.go
	dataKey string // id of the one that the tokens are sealed under; "": they are not

	policyDigest string           // "": no policy applies
	policy       *effectivePolicy // that of policyDigest; nil where there is none

	allServers     bool
	allowedServers []string // sorted
	boundCIDRs     []netip.Prefix

	allowedTools []string // nil: unset
	deniedTools  []string
	tools        *sync.Map // server name -> *policy.Tools; nil without rules
}

// terms reads them from an active answer. The policy is missing yet.
func (l *Lookup) terms() (*terms, error) {
	t := &terms{
		epoch:        intern(l.Epoch),
		dataKey:      intern(l.DataKey),
		policyDigest: intern(l.PolicyDigest),
		allServers:   slices.Contains(l.AllowedServers, allServers),
		allowedTools: internAll(l.AllowedTools),
		deniedTools:  internAll(l.DeniedTools),
	}
	if l.AllowedTools != nil || len(l.DeniedTools) > 0 {
		t.tools = new(sync.Map)
	}
	if !t.allServers {
		t.allowedServers = internAll(l.AllowedServers)
		slices.Sort(t.allowedServers)
	}
	return t, t.setBoundCIDRs(l.TokenBoundCIDRs)
}

// setBoundCIDRs takes ranges and single addresses, as Vault's own
// token_bound_cidrs does.
func (t *terms) setBoundCIDRs(ranges []string) error {
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

// sharedTerms holds the terms of the latest answers, so that answers that say the
// same have the same ones.
type sharedTerms struct {
	policies *policies
	held     *lru.Cache[termsKey, *terms]
}

func newSharedTerms(p *policies) (*sharedTerms, error) {
	held, err := lru.New[termsKey, *terms](termsKept)
	if err != nil {
		return nil, err
	}
	return &sharedTerms{policies: p, held: held}, nil
}

// of returns the terms of an active answer, with their policy. The error is
// errOutdated where the engine does not know the policy any more.
func (s *sharedTerms) of(l *Lookup) (*terms, error) {
	k, err := l.termsKey()
	if err != nil {
		return nil, err
	}
	if held, ok := s.held.Get(k); ok {
		return held, nil
	}
	t, err := l.terms()
	if err != nil {
		return nil, err
	}
	if t.policy, err = s.policies.get(t.policyDigest); err != nil {
		return nil, err
	}
	s.held.Add(k, t)
	return t, nil
}

// termsKey is a hash of all that terms are made of.
type termsKey [sha256.Size]byte

func (l *Lookup) termsKey() (termsKey, error) {
	text, err := json.Marshal([]any{
		l.Epoch, l.DataKey, l.PolicyDigest, l.AllowedServers, l.AllowedTools, l.DeniedTools, l.TokenBoundCIDRs,
	})
	return sha256.Sum256(text), err
}

// intern returns one copy of a string for all terms that have it.
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
