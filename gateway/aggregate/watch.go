package aggregate

import (
	"slices"
	"sync"

	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// changes are the lists that have changed.
type changes uint8

const (
	changedTools changes = 1 << iota
	changedPrompts
	changedResources

	changedAll = changedTools | changedPrompts | changedResources
)

// changedBy is the change of one list.
func changedBy(kind rewrite.Kind) changes {
	switch kind {
	case rewrite.Tools:
		return changedTools
	case rewrite.Prompts:
		return changedPrompts
	default:
		return changedResources
	}
}

// notifications are those that tell of each change.
var notifications = []struct {
	change changes
	method string
}{
	{changedTools, protocol.MethodToolsChanged},
	{changedPrompts, protocol.MethodPromptsChanged},
	{changedResources, protocol.MethodResourcesChanged},
}

// watcher is somebody who wants to know when lists change for reasons that are
// the gateway's: a session, or a stream of a client without one.
type watcher struct {
	clientID string
	wake     chan struct{} // holds a value while there is something to tell
	pruned   func(reach []string)

	looking sync.Mutex // before mu

	mu      sync.Mutex
	grant   *grants.Grant
	reach   []string // ids of the registrations that the client may reach
	pending changes
}

func newWatcher(grant *grants.Grant, reach []string, pruned func([]string)) *watcher {
	return &watcher{clientID: grant.ClientID, wake: make(chan struct{}, 1), pruned: pruned, grant: grant, reach: reach}
}

// tell notes that lists have changed.
func (w *watcher) tell(c changes) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending |= c
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take returns what has changed since it was called last.
func (w *watcher) take() changes {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.pending
	w.pending = 0
	return c
}

// look finds out what the client may reach at present. A nil grant stands for
// the one that was known.
func (w *watcher) look(grant *grants.Grant, reach func(*grants.Grant) ([]string, bool)) {
	// One look at a time: a change of the registry and one of the grant must
	// not both go by what was before the other.
	w.looking.Lock()
	defer w.looking.Unlock()
	w.mu.Lock()
	if grant == nil {
		grant = w.grant
	}
	old, before := w.reach, w.grant
	w.mu.Unlock()
	now, ok := reach(grant)
	if !ok {
		return // not known at present: the next change of the registry tells
	}
	w.mu.Lock()
	w.grant, w.reach = grant, now
	w.mu.Unlock()
	switch {
	case !slices.Equal(old, now):
		w.tell(changedAll)
		if w.pruned != nil {
			w.pruned(now)
		}
	case !grant.SameTools(before):
		w.tell(changedTools)
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
	if s.all == nil {
		s.all = make(map[*watcher]struct{})
	}
	s.all[w] = struct{}{}
}

func (s *watchers) remove(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, w)
}

func (s *watchers) of(clientID string) []*watcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*watcher
	for w := range s.all {
		if clientID == "" || w.clientID == clientID {
			list = append(list, w)
		}
	}
	return list
}

// changed has those who watch look again at what they may reach: those of the
// grant's client, or all without one.
func (s *watchers) changed(grant *grants.Grant, reach func(*grants.Grant) ([]string, bool)) {
	clientID := ""
	if grant != nil {
		clientID = grant.ClientID
	}
	for _, w := range s.of(clientID) {
		w.look(grant, reach)
	}
}

// tell tells those who watch for the client.
func (s *watchers) tell(clientID string, c changes) {
	for _, w := range s.of(clientID) {
		w.tell(c)
	}
}

// reach returns the ids of the registrations that the grant admits.
func (h *Handler) reach(grant *grants.Grant) ([]string, bool) {
	servers, err := h.options.Registry.ServersOf(grant)
	if err != nil {
		return nil, false
	}
	ids := make([]string, len(servers))
	for i, server := range servers {
		ids[i] = server.ID
	}
	return ids, true
}
