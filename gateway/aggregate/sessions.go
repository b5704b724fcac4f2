package aggregate

import (
	"container/list"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/grants"
)

// Bounds of sessions. Each is a few kilobytes, and a session with each of the
// servers that it has used. Where there are as many as there may be, a new one
// takes the place of the one that was not used for the longest time.
const (
	maxSessions          = 8192
	maxSessionsPerClient = 64
	sessionIdleTimeout   = 30 * time.Minute
)

// errFull: all sessions that there may be are in use.
var errFull = errors.New("all sessions that there may be are in use")

// errFullOfClient: so are all that one client may have.
var errFullOfClient = errors.New("all sessions that one client may have are in use")

// sessions are those that live on this gateway. Another one does not know them:
// there, clients start anew.
type sessions struct {
	most, mostPerClient int

	mu       sync.Mutex
	byID     map[string]*session
	byHost   map[string]*session              // held by the gateway for clients without sessions, by client
	byClient map[string]map[*session]struct{} // those of byID

	// Sessions that nobody uses, the one unused for the longest time first: of
	// byID, and of byHost.
	idle, idleHidden *list.List
	closed           bool
}

func newSessions() *sessions {
	return &sessions{
		most: maxSessions, mostPerClient: maxSessionsPerClient,
		byID: make(map[string]*session), byHost: make(map[string]*session), byClient: make(map[string]map[*session]struct{}),
		idle: list.New(), idleHidden: list.New(),
	}
}

// add makes a session, in use: it must be released. It may end another one that
// nobody uses: of the same client where that has as many as it may have, or of any
// where all have. Whose it is begins another one.
func (t *sessions) add(s *session) error {
	s.table, s.id = t, rand.Text()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errFull
	}
	if own := t.byClient[s.clientID]; len(own) >= t.mostPerClient {
		oldest := oldestOf(own)
		if oldest == nil {
			return errFullOfClient
		}
		t.remove(oldest)
	}
	if len(t.byID) >= t.most && !t.evict(t.idle) {
		return errFull
	}
	t.byID[s.id] = s
	if t.byClient[s.clientID] == nil {
		t.byClient[s.clientID] = make(map[*session]struct{})
	}
	t.byClient[s.clientID][s] = struct{}{}
	t.acquire(s)
	return nil
}

// oldestOf returns the session that was not used for the longest time; nil if all
// are in use.
func oldestOf(all map[*session]struct{}) *session {
	var oldest *session
	for s := range all {
		if s.waiting != nil && (oldest == nil || s.unused.Before(oldest.unused)) {
			oldest = s
		}
	}
	return oldest
}

// evict ends the session that was not used for the longest time. t.mu is held.
func (t *sessions) evict(idle *list.List) bool {
	first := idle.Front()
	if first == nil {
		return false
	}
	t.remove(first.Value.(*session))
	return true
}

// acquire counts a request that uses the session. t.mu is held.
func (t *sessions) acquire(s *session) {
	s.uses++
	t.wake(s)
}

// wake takes the session from those that nobody uses. t.mu is held.
func (t *sessions) wake(s *session) {
	if s.waiting != nil {
		t.idleOf(s).Remove(s.waiting)
		s.waiting = nil
		s.idle.Stop()
	}
}

func (t *sessions) idleOf(s *session) *list.List {
	if s.isHidden {
		return t.idleHidden
	}
	return t.idle
}

// release undoes acquire.
func (t *sessions) release(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.uses--
	if s.uses > 0 || !t.has(s) {
		return
	}
	s.unused = time.Now()
	s.waiting = t.idleOf(s).PushBack(s)
	if s.idle == nil {
		s.idle = time.AfterFunc(sessionIdleTimeout, func() { t.expire(s) })
	} else {
		s.idle.Reset(sessionIdleTimeout)
	}
}

// has reports whether the session has not ended. t.mu is held.
func (t *sessions) has(s *session) bool { return t.byID[s.id] == s || t.byHost[s.clientID] == s }

// find returns the client's session, in use: it must be released.
func (t *sessions) find(id string, grant *grants.Grant) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byID[id]
	if s == nil || s.clientID != grant.ClientID {
		return nil
	}
	s.accessors[grant.Accessor] = struct{}{}
	t.acquire(s)
	return s
}

// hidden returns the session that the gateway holds for a client without one, in
// use: it must be released.
func (t *sessions) hidden(grant *grants.Grant, begin func() *session) (*session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byHost[grant.ClientID]
	switch {
	case t.closed, s == nil && len(t.byHost) >= t.most && !t.evict(t.idleHidden):
		return nil, errFull
	case s == nil:
		s = begin()
		s.table, s.isHidden = t, true
		t.byHost[grant.ClientID] = s
	}
	s.accessors[grant.Accessor] = struct{}{}
	t.acquire(s)
	return s, nil
}

// remove ends a session. t.mu is held.
func (t *sessions) remove(s *session) {
	t.wake(s)
	if t.byID[s.id] == s {
		delete(t.byID, s.id)
	}
	if own := t.byClient[s.clientID]; own != nil {
		delete(own, s)
		if len(own) == 0 {
			delete(t.byClient, s.clientID)
		}
	}
	if t.byHost[s.clientID] == s {
		delete(t.byHost, s.clientID)
	}
	s.end()
}

// end ends a session.
func (t *sessions) end(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(s)
}

// expire ends a session that nobody has used for long.
func (t *sessions) expire(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.waiting != nil && time.Since(s.unused) >= sessionIdleTimeout {
		t.remove(s)
	}
}

// endToken takes from a client the sessions that no other token of its was used
// for.
func (t *sessions) endToken(clientID, accessor string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, table := range []map[string]*session{t.byID, t.byHost} {
		for _, s := range table {
			if _, used := s.accessors[accessor]; s.clientID != clientID || !used {
				continue
			}
			delete(s.accessors, accessor)
			if len(s.accessors) == 0 {
				t.remove(s)
			}
		}
	}
}

func (t *sessions) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, table := range []map[string]*session{t.byID, t.byHost} {
		for _, s := range table {
			t.remove(s)
		}
	}
}

// size is the number of sessions.
func (t *sessions) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID) + len(t.byHost)
}
