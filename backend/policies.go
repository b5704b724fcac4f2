package backend

import (
	"context"
	"iter"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/policy"
)

// policyPrefix is where policies are kept: policy/<name>.
const policyPrefix = "policy/"

// policyEntry is one policy source.
type policyEntry struct {
	Managed  bool            `json:"managed"`
	Document policy.Document `json:"policy"`
}

// policyBook holds all policies of the mount. They are few and each lookup needs
// all managed ones, so they are read together and kept until one is written.
//
// Writers hold the lock exclusively and drop the snapshot before and after they
// write; a snapshot is read under the shared lock. Nothing but storage is asked
// under it, since writers of clients take it while they hold a client's lock.
type policyBook struct {
	writing  sync.Mutex // held by one who changes policies, from reading to writing
	lock     sync.RWMutex
	snapshot atomic.Pointer[policySnapshot]
}

// policySnapshot is all policies at one time, with the effective policies that
// have been compiled from them.
type policySnapshot struct {
	all map[string]*policyEntry

	// compiled holds the effective policies by the list of names that a client
	// binds.
	compiled *lru.Cache[string, *policy.Policy]
}

// compiledPolicies is how many effective policies are kept compiled. There are
// as many as clients have different lists of policies.
const compiledPolicies = 1024

func newPolicySnapshot(all map[string]*policyEntry) *policySnapshot {
	compiled, _ := lru.New[string, *policy.Policy](compiledPolicies) // fails for a size under 1 only
	return &policySnapshot{all: all, compiled: compiled}
}

// drop forgets the snapshot.
func (p *policyBook) drop() { p.snapshot.Store(nil) }

// policies returns the policies as they are now.
func (b *mcpBackend) policies(ctx context.Context, s logical.Storage) (*policySnapshot, error) {
	if held := b.policyBook.snapshot.Load(); held != nil {
		return held, nil
	}
	b.policyBook.lock.RLock()
	defer b.policyBook.lock.RUnlock()
	names, err := s.List(ctx, policyPrefix)
	if err != nil {
		return nil, err
	}
	all := make(map[string]*policyEntry, len(names))
	for _, name := range names {
		e := &policyEntry{}
		if ok, err := getJSON(ctx, s, policyPrefix+name, e); err != nil {
			return nil, err
		} else if ok {
			all[name] = e
		}
	}
	made := newPolicySnapshot(all)
	b.policyBook.snapshot.Store(made)
	return made, nil
}

// writePolicies runs write, which changes policies, and makes sure that no request reads an
// older snapshot afterwards. The caller holds writing.
func (b *mcpBackend) writePolicies(write func() error) error {
	b.policyBook.lock.Lock()
	defer b.policyBook.lock.Unlock()
	b.policyBook.drop()
	defer b.policyBook.drop()
	return write()
}

// effective returns the policy of a client that binds the named policies: those
// and every managed one. A named policy that does not exist blocks everything.
func (p *policySnapshot) effective(names []string) *policy.Policy {
	key := strings.Join(names, "\n")
	if held, ok := p.compiled.Get(key); ok {
		return held
	}
	made := policy.Compile(policy.Applying(p.sources(), names))
	p.compiled.Add(key, made)
	return made
}

// byDigest returns the effective policy whose digest a lookup has answered, or nil. It
// looks through all of them: a gateway asks once for each digest.
func (p *policySnapshot) byDigest(digest string) *policy.Policy {
	for _, made := range p.compiled.Values() {
		if made.Digest() == digest {
			return made
		}
	}
	return nil
}

func (p *policySnapshot) sources() iter.Seq[policy.Source] {
	return func(yield func(policy.Source) bool) {
		for name, e := range p.all {
			if !yield(policy.Source{Name: name, Managed: e.Managed, Policy: e.Document}) {
				return
			}
		}
	}
}

// with returns the policies as they would be with that one written, or removed if e is
// nil.
func (p *policySnapshot) with(name string, e *policyEntry) *policySnapshot {
	all := maps.Clone(p.all)
	all[name] = e
	if e == nil {
		delete(all, name)
	}
	return newPolicySnapshot(all)
}

// lifting says why clients may reach more once that policy is deleted, or returns an empty
// string. A policy that is not managed affects only the clients that name it, and these then
// reach nothing.
func (p *policySnapshot) lifting(name string) string {
	if !p.all[name].Managed {
		return ""
	}
	return p.widening(p.with(name, nil))
}

// widening says why some client may reach more under the managed policies of after
// than under those of p, or returns an empty string.
func (p *policySnapshot) widening(after *policySnapshot) string {
	others := false // a list that counted before does not count among them
	for name, e := range after.all {
		held := p.all[name]
		others = others || !e.Managed && e.Document.Allowed != nil && (held == nil || !held.Managed)
	}
	return policy.Widening(p.effective(nil), after.effective(nil), others)
}
