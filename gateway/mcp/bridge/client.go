package bridge

import (
	"container/list"
	"errors"
	"fmt"
	"maps"
	"time"

	"vault-plugin-secrets-mcp/gateway/grants"
)

// maxSessionsPerClient bounds one client's sessions at one server. By default a client
// may not have more requests than this in flight. So one of that many sessions is
// idle, and makes room for a new one.
const maxSessionsPerClient = 256

// client has the sessions and channels of one client at the server. The bridge's lock
// guards it.
type client struct {
	sessions map[*Session]struct{}
	idle     *list.List // of *Session: the idle ones, the longest idle first
	channels map[*channel]struct{}
	tokens   map[string]func() // ends the watch of a token, by its accessor
}

// watch returns the owner's client, and watches the token. The caller adds a session
// or a channel to the client, or calls dropIfEmpty. b.mu is held.
func (b *Bridge) watch(o Owner) (*client, error) {
	c := b.clients[o.Principal]
	if c == nil {
		c = &client{
			sessions: make(map[*Session]struct{}),
			idle:     list.New(),
			channels: make(map[*channel]struct{}),
			tokens:   make(map[string]func()),
		}
		b.clients[o.Principal] = c
	}
	if _, watched := c.tokens[o.token()]; watched || o.Keeper == nil {
		return c, nil
	}
	whose := Owner{Principal: o.Principal, Accessor: o.Accessor, Token: o.Token} // without the request, which must not be retained
	release, err := o.Keeper.Keep(func(cause error) {
		if errors.Is(cause, grants.ErrExpired) {
			b.ExpireToken(whose)
		} else {
			b.EndToken(whose)
		}
	})
	if err != nil {
		b.dropIfEmpty(o.Principal)
		return nil, err
	}
	c.tokens[o.token()] = release
	return c, nil
}

// dropIfEmpty drops a client without sessions and channels. b.mu is held.
func (b *Bridge) dropIfEmpty(p grants.Principal) {
	c := b.clients[p]
	if c == nil || len(c.sessions) > 0 || len(c.channels) > 0 {
		return
	}
	for _, release := range c.tokens {
		release()
	}
	delete(b.clients, p)
}

// EndToken ends the sessions and channels that the client has used with this token
// alone. The token has ended.
func (b *Bridge) EndToken(o Owner) {
	b.endMatching(o.Principal, func(_ *client, accessors set) bool { return accessors.remove(o.Accessor) },
		func(c *client) { c.unwatch(o.token()) })
}

// ExpireToken notes that the token's lease has come to its end. The sessions and channels wait
// for the principal's next token, until their idle time is over. What hangs on a sign-in goes
// on to hang on it.
func (b *Bridge) ExpireToken(o Owner) {
	b.endMatching(o.Principal, func(_ *client, accessors set) bool {
		if !o.Principal.IsPerson() {
			accessors.remove(o.Accessor)
		}
		return false
	}, func(c *client) { c.unwatch(o.token()) })
}

// EndUnheard ends what waits for a token, since its principals may have lost their access: all
// that they have if none of their tokens is good; with a sign-in, what hangs on that alone.
func (b *Bridge) EndUnheard(end *grants.End, live func(grants.Principal) bool) {
	for _, p := range b.concerned(end) {
		switch {
		case end.SignIn != "":
			b.EndToken(Owner{Principal: p, Accessor: end.SignIn})
		case !live(p):
			b.EndPrincipal(p)
		}
	}
}

// concerned returns those who have something here and whom an unheard end may concern.
func (b *Bridge) concerned(end *grants.End) []grants.Principal {
	b.mu.Lock()
	defer b.mu.Unlock()
	return end.Among(maps.Keys(b.clients))
}

// unwatch ends the watch of a token. The bridge's lock is held.
func (c *client) unwatch(accessor string) {
	if release := c.tokens[accessor]; release != nil {
		release()
		delete(c.tokens, accessor)
	}
}

// EndPrincipal ends all sessions and channels of the principal.
func (b *Bridge) EndPrincipal(p grants.Principal) {
	b.endMatching(p, func(*client, set) bool { return true }, func(*client) {})
}

// endMatching ends the sessions and channels of a client that match.
func (b *Bridge) endMatching(p grants.Principal, matches func(*client, set) bool, also func(*client)) {
	var channels []*channel
	b.mu.Lock()
	if c := b.clients[p]; c != nil {
		also(c)
		for s := range c.sessions {
			if matches(c, s.accessors) {
				b.dropSession(s)
			}
		}
		for ch := range c.channels {
			if matches(c, ch.accessors) {
				channels = append(channels, ch)
			}
		}
		b.dropIfEmpty(p)
	}
	b.mu.Unlock()
	for _, ch := range channels {
		ch.end(ErrClosed)
	}
}

// addSession makes the session known, and marks it as used. It may end an idle
// session of the same client.
func (b *Bridge) addSession(s *Session, o Owner) error {
	b.mu.Lock()
	empty, err := b.insert(s, o)
	b.mu.Unlock()
	if empty != nil {
		empty.endIdle()
	}
	return err
}

// insert is addSession under the lock. It returns a channel that has no session left.
func (b *Bridge) insert(s *Session, o Owner) (empty *channel, err error) {
	if b.channels[s.channel.key] != s.channel {
		return nil, ErrGone
	}
	c, err := b.watch(o)
	if err != nil {
		return nil, err
	}
	if len(c.sessions) >= maxSessionsPerClient && c.idle.Len() == 0 {
		return nil, errSessions
	}
	s.accessors.add(o.Accessor)
	b.sessions[s.ID] = s
	c.sessions[s] = struct{}{}
	s.channel.addMember(s)
	s.markUsed()
	if len(c.sessions) > maxSessionsPerClient {
		empty = b.remove(c.idle.Front().Value.(*Session))
	}
	return empty, nil
}

// remove removes a session, and returns its channel if no other session has it. b.mu
// is held.
func (b *Bridge) remove(s *Session) *channel {
	if s.dropped {
		return nil
	}
	b.dropSession(s)
	b.dropIfEmpty(s.principal)
	if !b.Shared && s.channel.alone() {
		return s.channel
	}
	return nil
}

// markUsed counts a request that uses the session. bridge.mu is held.
func (s *Session) markUsed() {
	s.uses++
	if s.idleElement != nil {
		s.bridge.clients[s.principal].idle.Remove(s.idleElement)
		s.idleElement = nil
	}
	if s.timer != nil {
		s.timer.Stop()
	}
}

// acquire marks the session and its channel as used.
func (s *Session) acquire() {
	s.bridge.mu.Lock()
	s.markUsed()
	s.bridge.mu.Unlock()
	s.channel.acquire()
}

// Release ends one use of the session.
func (s *Session) Release() {
	s.bridge.mu.Lock()
	s.uses--
	if s.uses == 0 && !s.dropped {
		s.markIdle()
	}
	s.bridge.mu.Unlock()
	s.channel.release()
}

// markIdle notes that no request uses the session. bridge.mu is held.
func (s *Session) markIdle() {
	s.unused = time.Now()
	s.idleElement = s.bridge.clients[s.principal].idle.PushBack(s)
	switch after := s.bridge.IdleTimeout; {
	case after <= 0:
	case s.timer == nil:
		s.timer = time.AfterFunc(after, s.expire)
	default:
		s.timer.Reset(after)
	}
}

// expire ends a session that was unused for long.
func (s *Session) expire() {
	b := s.bridge
	var empty *channel
	b.mu.Lock()
	if !s.dropped && s.uses == 0 && time.Since(s.unused) >= b.IdleTimeout {
		empty = b.remove(s)
	}
	b.mu.Unlock()
	if empty != nil {
		empty.endIdle()
	}
}

// errSessions is an [ErrFull].
var errSessions = fmt.Errorf("%w: the client has too many sessions in use at this server", ErrFull)
