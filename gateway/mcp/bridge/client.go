package bridge

import (
	"container/list"
	"fmt"
	"time"
)

// maxSessionsPerClient bounds one client's sessions at one server. It is no less than
// the requests that a client may have in flight, unless the file says otherwise: so
// of so many sessions one is idle, and makes room.
const maxSessionsPerClient = 256

// client is what one client has at the server. It is guarded by the bridge's lock.
type client struct {
	sessions map[*Session]struct{}
	idle     *list.List // of *Session: those that nobody uses, the longest unused first
	peers    map[*peer]struct{}
	tokens   map[string]func() // ends the watch over a token, by its accessor
}

// watch returns what the owner has, with the token watched over. b.mu is held. The
// caller adds something to it, or calls tidy.
func (b *Bridge) watch(o Owner) (*client, error) {
	c := b.clients[o.Client]
	if c == nil {
		c = &client{
			sessions: make(map[*Session]struct{}),
			idle:     list.New(),
			peers:    make(map[*peer]struct{}),
			tokens:   make(map[string]func()),
		}
		b.clients[o.Client] = c
	}
	if _, watched := c.tokens[o.Accessor]; watched || o.Keeper == nil {
		return c, nil
	}
	whose := Owner{Client: o.Client, Accessor: o.Accessor} // the request itself is not kept
	release, err := o.Keeper.Keep(func(error) { b.EndToken(whose) })
	if err != nil {
		b.tidy(o.Client)
		return nil, err
	}
	c.tokens[o.Accessor] = release
	return c, nil
}

// tidy forgets a client that has nothing left. b.mu is held.
func (b *Bridge) tidy(id string) {
	c := b.clients[id]
	if c == nil || len(c.sessions) > 0 || len(c.peers) > 0 {
		return
	}
	for _, release := range c.tokens {
		release()
	}
	delete(b.clients, id)
}

// EndToken takes from the client what it has through a token that has ended:
// sessions that no other token of its was used for, and channels likewise.
func (b *Bridge) EndToken(o Owner) {
	b.take(o.Client, func(_ *client, accessors set) bool { return accessors.remove(o.Accessor) },
		func(c *client) {
			if release := c.tokens[o.Accessor]; release != nil {
				release()
				delete(c.tokens, o.Accessor)
			}
		})
}

// EndClient takes from the client all that it has.
func (b *Bridge) EndClient(id string) {
	b.take(id, func(*client, set) bool { return true }, func(*client) {})
}

// take ends those of a client's sessions and channels that are asked for.
func (b *Bridge) take(id string, wanted func(*client, set) bool, also func(*client)) {
	var peers []*peer
	b.mu.Lock()
	if c := b.clients[id]; c != nil {
		also(c)
		for s := range c.sessions {
			if wanted(c, s.accessors) {
				b.dropSession(s)
			}
		}
		for p := range c.peers {
			if wanted(c, p.accessors) {
				peers = append(peers, p)
			}
		}
		b.tidy(id)
	}
	b.mu.Unlock()
	for _, p := range peers {
		p.end(ErrClosed)
	}
}

// addSession makes the session known, in use. It may end another one of its client
// that nobody uses.
func (b *Bridge) addSession(s *Session, o Owner) error {
	b.mu.Lock()
	empty, err := b.enter(s, o)
	b.mu.Unlock()
	if empty != nil {
		empty.endIdle()
	}
	return err
}

// enter is addSession under the lock. It returns a channel that nobody has any more.
func (b *Bridge) enter(s *Session, o Owner) (empty *peer, err error) {
	if b.peers[s.peer.key] != s.peer {
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
	s.peer.join(s)
	s.use()
	if len(c.sessions) > maxSessionsPerClient {
		empty = b.leave(c.idle.Front().Value.(*Session))
	}
	return empty, nil
}

// leave removes a session, and returns its channel if that was its alone. b.mu is
// held.
func (b *Bridge) leave(s *Session) *peer {
	if s.dropped {
		return nil
	}
	b.dropSession(s)
	b.tidy(s.client)
	if !b.Shared && s.peer.alone() {
		return s.peer
	}
	return nil
}

// use counts a request that uses the session. bridge.mu is held.
func (s *Session) use() {
	s.uses++
	if s.place != nil {
		s.bridge.clients[s.client].idle.Remove(s.place)
		s.place = nil
	}
	if s.timer != nil {
		s.timer.Stop()
	}
}

// acquire has the session, and its channel, in use.
func (s *Session) acquire() {
	s.bridge.mu.Lock()
	s.use()
	s.bridge.mu.Unlock()
	s.peer.acquire()
}

// Release ends one use of the session.
func (s *Session) Release() {
	s.bridge.mu.Lock()
	s.uses--
	if s.uses == 0 && !s.dropped {
		s.rest()
	}
	s.bridge.mu.Unlock()
	s.peer.release()
}

// rest puts a session aside that nobody uses. bridge.mu is held.
func (s *Session) rest() {
	s.unused = time.Now()
	s.place = s.bridge.clients[s.client].idle.PushBack(s)
	switch after := s.bridge.IdleTimeout; {
	case after <= 0:
	case s.timer == nil:
		s.timer = time.AfterFunc(after, s.expire)
	default:
		s.timer.Reset(after)
	}
}

// expire ends a session that nobody has used for long.
func (s *Session) expire() {
	b := s.bridge
	var empty *peer
	b.mu.Lock()
	if !s.dropped && s.uses == 0 && time.Since(s.unused) >= b.IdleTimeout {
		empty = b.leave(s)
	}
	b.mu.Unlock()
	if empty != nil {
		empty.endIdle()
	}
}

// errSessions is an [ErrFull].
var errSessions = fmt.Errorf("%w: the client has too many sessions in use at this server", ErrFull)
