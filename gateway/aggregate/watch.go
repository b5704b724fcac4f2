package aggregate

import (
	"slices"
	"sync"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// watcher notes when lists change for the gateway's reasons, for a session, or for a stream
// of a client without sessions.
type watcher struct {
	principal grants.Principal
	wake      chan struct{}            // has a value while there are changes
	onReach   func(reachable []string) // called when the client may reach other servers

	updating sync.Mutex // locked before mu

	mu        sync.Mutex
	grant     *grants.Grant
	reachable []string // ids of the registrations that the client may reach
	pending   messages.Changes
}

func newWatcher(grant *grants.Grant, reachable []string, onReach func([]string)) *watcher {
	return &watcher{principal: grant.Principal(), wake: make(chan struct{}, 1), onReach: onReach, grant: grant, reachable: reachable}
}

// notify notes that lists have changed.
func (w *watcher) notify(c messages.Changes) {
	if c == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending |= c
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// reaches reports whether the client may reach the registration.
func (w *watcher) reaches(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.reachable, id)
}

// take returns the changes since the last call.
func (w *watcher) take() messages.Changes {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.pending
	w.pending = 0
	return c
}

// update finds out what the client may reach now. A nil grant stands for the last one.
func (w *watcher) update(grant *grants.Grant, reachable func(*grants.Grant) ([]string, bool)) {
	// One at a time: a change of the registry and one of the grant must not both compare with
	// the state before the other.
	w.updating.Lock()
	defer w.updating.Unlock()
	w.mu.Lock()
	if grant == nil {
		grant = w.grant
	}
	before, oldGrant := w.reachable, w.grant
	w.mu.Unlock()
	now, ok := reachable(grant)
	if !ok {
		return // the next change of the registry calls update again
	}
	w.mu.Lock()
	w.grant, w.reachable = grant, now
	w.mu.Unlock()
	switch {
	case !slices.Equal(before, now):
		w.notify(messages.ChangedAll)
		if w.onReach != nil {
			w.onReach(now)
		}
	default:
		w.notify(messages.Choose(!grant.SameRules(policy.Tool, oldGrant), !grant.SameRules(policy.Prompt, oldGrant), !grant.SameRules(policy.Resource, oldGrant)))
	}
}

// watchers are all of a handler's.
type watchers struct {
	mu  sync.Mutex
	all map[*watcher]struct{}
}

func (s *watchers) add(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = put(s.all, w, struct{}{})
}

func (s *watchers) remove(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, w)
}

// of returns the principal's watchers; all for nobody.
func (s *watchers) of(principal grants.Principal) []*watcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*watcher
	for w := range s.all {
		if principal == (grants.Principal{}) || w.principal == principal {
			list = append(list, w)
		}
	}
	return list
}

// update updates the watchers of the grant's client; all without a grant.
func (s *watchers) update(grant *grants.Grant, reachable func(*grants.Grant) ([]string, bool)) {
	var principal grants.Principal
	if grant != nil {
		principal = grant.Principal()
	}
	for _, w := range s.of(principal) {
		w.update(grant, reachable)
	}
}

// notify notes for the client's watchers that lists have changed.
func (s *watchers) notify(principal grants.Principal, c messages.Changes) {
	for _, w := range s.of(principal) {
		w.notify(c)
	}
}
