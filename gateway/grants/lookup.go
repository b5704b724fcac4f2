package grants

import (
	"encoding/json"
	"fmt"
	"time"
)

// Lookup is the engine's answer about one token, in its wire form: what of it the
// gateway needs.
type Lookup struct {
	Active bool `json:"active"`

	// Epoch and Index say how new the answer is: every change with a higher
	// index, in the same epoch, may be missing from it.
	Epoch string `json:"epoch"`
	Index uint64 `json:"index"`

	// AnsweredAt is Vault's clock. Only differences to it are used, so that
	// clocks that disagree do no harm.
	AnsweredAt time.Time `json:"answered_at"`

	Client    string `json:"client"`
	ClientID  string `json:"client_id"`
	Accessor  string `json:"accessor"`
	ExpiresAt string `json:"expires_at"` // "": never

	AllowedServers  []string `json:"allowed_servers"`
	AllowedTools    []string `json:"allowed_tools"` // null: unset
	DeniedTools     []string `json:"denied_tools"`
	TokenBoundCIDRs []string `json:"token_bound_cidrs"`
	PolicyDigest    string   `json:"policy_digest"`
	DataKey         string   `json:"data_key"` // "": the token is not sealed
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
// sent, without the policy: that is the broker's to fetch.
func (l *Lookup) Grant(sent time.Time) (*Grant, error) {
	return l.grant(sent, (*Lookup).terms)
}

// grant builds it with terms from elsewhere. Its expiry is counted from sent, which
// errs to the early side by the time that the answer travelled.
func (l *Lookup) grant(sent time.Time, termsOf func(*Lookup) (*terms, error)) (*Grant, error) {
	if !l.Active {
		return nil, ErrInactive
	}
	if l.Client == "" || l.ClientID == "" || l.Accessor == "" {
		return nil, fmt.Errorf("lookup: an active answer without client, client_id or accessor")
	}
	t, err := termsOf(l)
	if err != nil {
		return nil, err
	}
	g := &Grant{
		Client:   l.Client,
		ClientID: l.ClientID,
		Accessor: l.Accessor,
		terms:    t,
		index:    l.Index,
		sent:     sent,
	}
	if err := g.setExpiry(l, sent); err != nil {
		return nil, err
	}
	return g, nil
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
