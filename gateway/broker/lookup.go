package broker

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
	"unique"
)

// Lookup is the engine's answer about one token, in its wire form.
type Lookup struct {
	Active bool `json:"active"`

	// Epoch and Index say how new the answer is: every change with a higher
	// index, in the same epoch, may be missing from it.
	Epoch string `json:"epoch"`
	Index uint64 `json:"index"`

	// AnsweredAt is Vault's clock. Only differences to it are used, so that
	// clocks that disagree do no harm.
	AnsweredAt time.Time `json:"answered_at"`

	Client        string `json:"client"`
	ClientID      string `json:"client_id"`
	ClientVersion string `json:"client_version"`
	Accessor      string `json:"accessor"`
	Kind          string `json:"kind"`
	ExpiresAt     string `json:"expires_at"` // "": never

	AllowedServers  []string          `json:"allowed_servers"`
	AllowedTools    []string          `json:"allowed_tools"` // null: unset
	DeniedTools     []string          `json:"denied_tools"`
	TokenBoundCIDRs []string          `json:"token_bound_cidrs"`
	PolicyDigest    string            `json:"policy_digest"`
	DataKey         string            `json:"data_key"` // "": the token is not sealed
	Metadata        map[string]string `json:"metadata"`
}

// parseLookup reads the data of an answer. What is missing is an error, never a
// guess: an answer that cannot be understood is no answer.
func parseLookup(data []byte) (*Lookup, error) {
	var answer struct {
		Active *bool `json:"active"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, fmt.Errorf("lookup: the answer is not what the engine's API promises: %w", err)
	}
	if answer.Active == nil {
		return nil, fmt.Errorf("lookup: the answer has no field \"active\": is the mount one of this engine?")
	}
	var l Lookup
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("lookup: the answer is not what the engine's API promises: %w", err)
	}
	return &l, nil
}

// Grant builds the grant of an active answer to a request that was sent at
// sent. Its expiry is counted from there, which errs to the early side by the
// time that the answer travelled.
func (l *Lookup) Grant(sent time.Time) (*Grant, error) {
	if !l.Active {
		return nil, ErrInactive
	}
	if l.Client == "" || l.ClientID == "" || l.Accessor == "" {
		return nil, fmt.Errorf("lookup: an active answer without client, client_id or accessor")
	}
	g := &Grant{
		Client:        l.Client,
		ClientID:      l.ClientID,
		ClientVersion: l.ClientVersion,
		Accessor:      l.Accessor,
		Kind:          intern(l.Kind),
		PolicyDigest:  intern(l.PolicyDigest),
		DataKey:       intern(l.DataKey),
		allServers:    slices.Contains(l.AllowedServers, allServers),
		allowedTools:  internAll(l.AllowedTools),
		deniedTools:   internAll(l.DeniedTools),
		epoch:         intern(l.Epoch),
		index:         l.Index,
		sent:          sent,
	}
	if l.AllowedTools != nil || len(l.DeniedTools) > 0 {
		g.tools = new(sync.Map)
	}
	if len(l.Metadata) > 0 {
		g.Metadata = l.Metadata
	}
	if !g.allServers {
		g.allowedServers = internAll(l.AllowedServers)
		slices.Sort(g.allowedServers)
	}
	if err := g.setExpiry(l, sent); err != nil {
		return nil, err
	}
	if err := g.setBoundCIDRs(l.TokenBoundCIDRs); err != nil {
		return nil, err
	}
	return g, nil
}

// intern returns one copy of a string for all grants that have it: there may be
// a hundred thousand.
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

func (g *Grant) setExpiry(l *Lookup, sent time.Time) error {
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

// setBoundCIDRs takes ranges and single addresses, as Vault's own
// token_bound_cidrs does.
func (g *Grant) setBoundCIDRs(ranges []string) error {
	for _, text := range ranges {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, addrErr := netip.ParseAddr(text)
			if addrErr != nil {
				return fmt.Errorf("lookup: token_bound_cidrs: %w", err)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		g.boundCIDRs = append(g.boundCIDRs, prefix.Masked())
	}
	return nil
}
