package aggregate

import (
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/broker"
)

// Bounds of sessions. Each is a few kilobytes, and a session with each of the
// servers that it has used.
const (
	maxSessions          = 8192
	maxSessionsPerClient = 64
	sessionIdleTimeout   = 30 * time.Minute
)

// errFull: all sessions that there may be are in use.
var errFull = errors.New("too many sessions are in use")

// sessions are those that live on this gateway. Another one does not know them:
// there, clients start anew.
type sessions struct {
	mu     sync.Mutex
	byID   map[string]*session
	byHost map[string]*session // held by the gateway for clients without sessions, by client
	closed bool
}

func newSessions() *sessions {
	return &sessions{byID: make(map[string]*session), byHost: make(map[string]*session)}
}

// add makes a session, in use: it must be released. It may end another one of
// the same client that nobody uses.
func (t *sessions) add(s *session) error {
	s.table, s.id = t, rand.Text()
	s.acquire()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errFull
	}
	own, oldest := 0, (*session)(nil)
	for _, other := range t.byID {
		if other.clientID != s.clientID {
			continue
		}
		own++
		if since, idle := other.idleSince(); idle && (oldest == nil || since.Before(oldest.unusedSince())) {
			oldest = other
		}
	}
	if own >= maxSessionsPerClient || len(t.byID) >= maxSessions {
		if oldest == nil {
			return errFull
		}
		t.remove(oldest)
	}
	t.byID[s.id] = s
	return nil
}

// find returns the client's session, in use: it must be released.
func (t *sessions) find(id string, grant *broker.Grant) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byID[id]
	if s == nil || s.clientID != grant.ClientID {
		return nil
	}
	s.accessors[grant.Accessor] = struct{}{}
	s.acquire()
	return s
}

// hidden returns the session that the gateway holds for a client without one, in
// use: it must be released.
func (t *sessions) hidden(grant *broker.Grant, begin func() *session) (*session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byHost[grant.ClientID]
	switch {
	case t.closed || s == nil && len(t.byHost) >= maxSessions:
		return nil, errFull
	case s == nil:
		s = begin()
		s.table, s.isHidden = t, true
		t.byHost[grant.ClientID] = s
	}
	s.accessors[grant.Accessor] = struct{}{}
	s.acquire()
	return s, nil
}

// remove ends a session. t.mu is held.
func (t *sessions) remove(s *session) {
	if t.byID[s.id] == s {
		delete(t.byID, s.id)
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
	if since, idle := s.idleSince(); idle && time.Since(since) >= sessionIdleTimeout {
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
