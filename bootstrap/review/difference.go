package review

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// maxReview bounds an earlier review, in bytes.
const maxReview = 256 << 20

// Difference has the changes since an earlier review.
type Difference struct {
	Since time.Time `json:"since"` // when the earlier one was made
	// Gained and Lost are pairs that are allowed now and were not, and the other way round.
	Gained []Change `json:"gained"`
	Lost   []Change `json:"lost"`
	// Changed are pairs that are allowed in both, with other rules for their tools, prompts
	// and resources: the texts of these rules are in the fields of the decisions.
	Changed []Change `json:"changed"`

	NewClients  []string `json:"new_clients"`
	GoneClients []string `json:"gone_clients"`
	NewServers  []string `json:"new_servers"`
	GoneServers []string `json:"gone_servers"`
}

// Change is a pair with its decisions; "" where it was not there.
type Change struct {
	Client string `json:"client"`
	Server string `json:"server"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// Parse reads a review in its JSON form.
func Parse(from io.Reader) (*Review, error) {
	limited := &io.LimitedReader{R: from, N: maxReview + 1}
	data, err := io.ReadAll(limited)
	if err != nil {
		return nil, err
	}
	if len(data) > maxReview {
		return nil, fmt.Errorf("is larger than %d MB", maxReview>>20)
	}
	r := &Review{}
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("is not a review in JSON, as -format=json writes one: %w", err)
	}
	switch r.Schema {
	case schema:
		return r, nil
	case 0:
		return nil, errors.New("is not a review in JSON, as -format=json writes one: it has no schema")
	}
	return nil, fmt.Errorf("has the schema %d, and this mcp-bootstrap reads schema %d: take the one that has written it, or a newer one", r.Schema, schema)
}

// Compare adds the changes since an earlier review of the same mount.
func (r *Review) Compare(earlier *Review) error {
	if r.Cluster != earlier.Cluster || r.Mount != earlier.Mount {
		return fmt.Errorf("is a review of the mount %q of the cluster %q, and this one is of %q of %q", earlier.Mount, earlier.Cluster, r.Mount, r.Cluster)
	}
	d := &Difference{Since: earlier.At, Gained: []Change{}, Lost: []Change{}, Changed: []Change{}}
	before, now := pairsOf(earlier), pairsOf(r)
	for i := range r.Pairs {
		p := &r.Pairs[i]
		was := before[pairKey(p)]
		change := Change{Client: p.Client, Server: p.Server, After: p.Decision}
		if was != nil {
			change.Before = was.Decision
		}
		switch wasAllowed := was != nil && was.Allowed; {
		case p.Allowed && !wasAllowed:
			d.Gained = append(d.Gained, change)
		case wasAllowed && !p.Allowed:
			d.Lost = append(d.Lost, change)
		case wasAllowed && !slices.Equal(sortedLimits(was.Limits), sortedLimits(p.Limits)):
			change.Before, change.After = was.rules(), p.rules()
			d.Changed = append(d.Changed, change)
		}
	}
	for i := range earlier.Pairs { // of clients and servers that are gone
		if p := &earlier.Pairs[i]; p.Allowed && now[pairKey(p)] == nil {
			d.Lost = append(d.Lost, Change{Client: p.Client, Server: p.Server, Before: p.Decision})
		}
	}
	slices.SortFunc(d.Lost, func(a, b Change) int { return compare(a.Client, b.Client, a.Server, b.Server) })
	d.NewClients, d.GoneClients = apart(earlier.Clients, r.Clients, func(c Client) string { return c.Name })
	d.NewServers, d.GoneServers = apart(earlier.Servers, r.Servers, func(s Server) string { return s.Name })
	r.Difference = d
	return nil
}

// None reports whether nothing has changed.
func (d *Difference) None() bool {
	return len(d.Gained)+len(d.Lost)+len(d.Changed)+len(d.NewClients)+len(d.GoneClients)+len(d.NewServers)+len(d.GoneServers) == 0
}

func pairKey(p *Pair) [2]string { return [2]string{p.Client, p.Server} }

func pairsOf(r *Review) map[[2]string]*Pair {
	pairs := make(map[[2]string]*Pair, len(r.Pairs))
	for i := range r.Pairs {
		pairs[pairKey(&r.Pairs[i])] = &r.Pairs[i]
	}
	return pairs
}

// sortedLimits are limits in an order that does not depend on the one in which they were
// written.
func sortedLimits(limits []Limit) []Limit {
	return slices.SortedFunc(slices.Values(limits), func(a, b Limit) int {
		return compare(a.List, b.List, a.Rule, b.Rule, a.Role, b.Role)
	})
}

// apart are the names that are only in one of the lists.
func apart[T any](before, now []T, name func(T) string) (added, gone []string) {
	names := func(list []T) map[string]bool {
		all := make(map[string]bool, len(list))
		for _, one := range list {
			all[name(one)] = true
		}
		return all
	}
	was, is := names(before), names(now)
	missing := func(from, in map[string]bool) []string {
		only := []string{}
		for n := range from {
			if !in[n] {
				only = append(only, n)
			}
		}
		slices.Sort(only)
		return only
	}
	return missing(is, was), missing(was, is)
}
