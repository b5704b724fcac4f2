package aggregate

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// Bounds of sessions. Each takes a few kilobytes, and a session with each server that it
// has used. At a bound, a new session replaces the one that was unused for the longest
// time.
const (
	maxSessions          = 8192
	maxSessionsPerClient = 64
	sessionIdleTimeout   = 30 * time.Minute
)

var (
	errTooMany         = errors.New("all sessions that there may be are in use")
	errTooManyOfClient = errors.New("all sessions that one client may have are in use")
)

// sessions are those of this gateway. Another gateway does not know them: its clients open
// new ones.
type sessions struct {
	most, mostPerClient int

	mu          sync.Mutex
	byID        map[string]*session
	implicitOf  map[implicitKey]*session                   // implicit sessions
	byPrincipal map[grants.Principal]map[*session]struct{} // those of byID

	// Unused sessions, the one unused for the longest time first: of byID, and of
	// implicitOf.
	idle, idleImplicit *list.List
	closed             bool
}

// implicitKey says whose implicit session it is. A session tells servers once what its client can
// be asked, so programs of one principal that differ in it have one each.
type implicitKey struct {
	principal grants.Principal
	questions messages.Questions
}

func newSessions() *sessions {
	return &sessions{
		most: maxSessions, mostPerClient: maxSessionsPerClient,
		byID: make(map[string]*session), implicitOf: make(map[implicitKey]*session), byPrincipal: make(map[grants.Principal]map[*session]struct{}),
		idle: list.New(), idleImplicit: list.New(),
	}
}

// add adds a session, in use: it must be released. At a bound it ends an unused session: of
// the same client if that has as many as it may have, otherwise of any.
func (t *sessions) add(s *session) error {
	s.table, s.id = t, rand.Text()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return errTooMany
	}
	if own := t.byPrincipal[s.principal]; len(own) >= t.mostPerClient {
		oldest := oldestUnused(own)
		if oldest == nil {
			return errTooManyOfClient
		}
		t.remove(oldest)
	}
	if len(t.byID) >= t.most && !t.evict(t.idle) {
		return errTooMany
	}
	t.byID[s.id] = s
	if t.byPrincipal[s.principal] == nil {
		t.byPrincipal[s.principal] = make(map[*session]struct{})
	}
	t.byPrincipal[s.principal][s] = struct{}{}
	t.acquire(s)
	return nil
}

// oldestUnused returns the session unused for the longest time; nil if all are in use.
func oldestUnused(all map[*session]struct{}) *session {
	var oldest *session
	for s := range all {
		if s.waiting != nil && (oldest == nil || s.unused.Before(oldest.unused)) {
			oldest = s
		}
	}
	return oldest
}

// evict ends the session unused for the longest time, if there is one. t.mu is held.
func (t *sessions) evict(idle *list.List) bool {
	first := idle.Front()
	if first == nil {
		return false
	}
	t.remove(first.Value.(*session))
	return true
}

// acquire counts a use of the session. t.mu is held.
func (t *sessions) acquire(s *session) {
	s.uses++
	t.takeFromIdle(s)
}

// takeFromIdle removes the session from the unused ones. t.mu is held.
func (t *sessions) takeFromIdle(s *session) {
	if s.waiting != nil {
		t.idleOf(s).Remove(s.waiting)
		s.waiting = nil
	}
}

func (t *sessions) idleOf(s *session) *list.List {
	if s.implicit {
		return t.idleImplicit
	}
	return t.idle
}

// release undoes acquire.
func (t *sessions) release(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.uses--
	if s.uses > 0 || t.byID[s.id] != s && t.implicitOf[s.implicitKey()] != s {
		return
	}
	s.unused = time.Now()
	s.waiting = t.idleOf(s).PushBack(s)
	if s.idle == nil { // requests do not touch it: see expire
		s.idle = time.AfterFunc(sessionIdleTimeout, func() { t.expire(s) })
	}
}

// find returns the client's session, in use: it must be released. It is nil if the client
// has no such session. ctx is of the request, and ends with the client's access.
func (t *sessions) find(ctx context.Context, id string, grant *grants.Grant) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.byID[id]
	if s == nil || s.principal != grant.Principal() {
		return nil
	}
	t.use(ctx, s, grant)
	return s
}

// use notes that the token uses the session. The end of a token is followed by endToken. If
// that was called already, the token must not be noted any more: nothing would end the
// session. t.mu is held.
func (t *sessions) use(ctx context.Context, s *session, grant *grants.Grant) {
	if ctx.Err() == nil {
		s.tokens[grant.Anchor()] = grant.Stay()
	}
	t.acquire(s)
}

// implicit returns the client's implicit session, in use: it must be released. ctx ends with
// the client's access.
func (t *sessions) implicit(ctx context.Context, grant *grants.Grant, q messages.Questions, open func(*grants.Grant, messages.Questions) *session) (*session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := implicitKey{grant.Principal(), q}
	s := t.implicitOf[key]
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case t.closed, s == nil && len(t.implicitOf) >= t.most && !t.evict(t.idleImplicit):
		return nil, errTooMany
	case s == nil:
		s = open(grant, q)
		s.table = t
		t.implicitOf[key] = s
	}
	t.use(ctx, s, grant)
	return s, nil
}

// remove ends a session. t.mu is held.
func (t *sessions) remove(s *session) {
	t.takeFromIdle(s)
	if s.idle != nil {
		s.idle.Stop()
		s.idle = nil
	}
	if t.byID[s.id] == s {
		delete(t.byID, s.id)
	}
	if own := t.byPrincipal[s.principal]; own != nil {
		delete(own, s)
		if len(own) == 0 {
			delete(t.byPrincipal, s.principal)
		}
	}
	if t.implicitOf[s.implicitKey()] == s {
		delete(t.implicitOf, s.implicitKey())
	}
	s.end()
}

// end ends a session.
func (t *sessions) end(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(s)
}

// expire ends a session that was unused for long, or looks again when it can be.
func (t *sessions) expire(s *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := sessionIdleTimeout
	if s.waiting != nil {
		left -= time.Since(s.unused)
	}
	switch {
	case s.idle == nil: // it was removed
	case left <= 0:
		t.remove(s)
	default:
		s.idle.Reset(left)
	}
}

// all returns all sessions. t.mu is held.
func (t *sessions) all() []*session {
	return slices.AppendSeq(slices.Collect(maps.Values(t.byID)), maps.Values(t.implicitOf))
}

// endToken ends the client's sessions that only the grant's token has used. A session that
// the token has used since it returned goes on: the end is then of an earlier stay.
func (t *sessions) endToken(grant *grants.Grant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.usedBy(grant) {
		delete(s.tokens, grant.Anchor())
		if len(s.tokens) == 0 {
			t.remove(s)
		}
	}
}

// expireToken notes that the lease of the grant's token has come to its end. The sessions wait
// for the principal's next token, until their idle time is over. What hangs on a sign-in goes
// on to hang on it.
func (t *sessions) expireToken(grant *grants.Grant) {
	if grant.SignIn != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.usedBy(grant) {
		delete(s.tokens, grant.Anchor())
	}
}

// usedBy returns the sessions that the grant's token has used last. t.mu is held.
func (t *sessions) usedBy(grant *grants.Grant) []*session {
	var found []*session
	for _, s := range t.all() {
		if last, used := s.tokens[grant.Anchor()]; used && s.principal == grant.Principal() && last == grant.Stay() {
			found = append(found, s)
		}
	}
	return found
}

// endPrincipals ends the sessions of those who are concerned.
func (t *sessions) endPrincipals(concerned func(grants.Principal) bool) {
	for _, s := range t.snapshot() {
		if concerned(s.principal) {
			t.end(s)
		}
	}
}

// endSignIn ends the sessions that hang on the sign-in alone.
func (t *sessions) endSignIn(signIn string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.all() {
		if _, used := s.tokens[signIn]; !used {
			continue
		}
		delete(s.tokens, signIn)
		if len(s.tokens) == 0 {
			t.remove(s)
		}
	}
}

func (t *sessions) snapshot() []*session {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all()
}

func (t *sessions) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, s := range t.all() {
		t.remove(s)
	}
}

// size returns the number of sessions.
func (t *sessions) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byID) + len(t.implicitOf)
}
