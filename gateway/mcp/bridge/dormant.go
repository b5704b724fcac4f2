package bridge

import (
	"context"
	"errors"
	"time"

	"vault-plugin-secrets-mcp/gateway/credentials"
)

// A channel is dormant while its sessions go on and nothing carries them: the credentials of
// its connection have come to their end, and no other connection was ready to take its place.
// The next request gives it one, with the credentials that the request came with. It is told
// what the server before it was told, as any successor is.

// replacement is an attempt to put another connection in the current one's place. There is one
// at a time, and whoever needs a connection waits for it.
type replacement struct {
	done chan struct{} // closed when it is over
	err  error         // set before
}

// outlives reports whether the channel goes on without the connection, whose credentials have
// ended: nobody has taken them away, and sessions wait for others.
func (ch *channel) outlives(l *connection, cause error) bool {
	if !errors.Is(cause, credentials.ErrEnded) {
		return false
	}
	select {
	case <-l.ready:
	default:
		return false // no session has begun
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.ended == nil && len(ch.members) > 0 && ch.handshake.err == nil && !ch.handshake.refused
}

// lastMoment is how long what is in flight may take when the credentials have come to their
// end, before it fails. They are revoked half a second after that end.
const lastMoment = 300 * time.Millisecond

// expire ends a connection that the channel outlives: at once for everything new, and in a
// moment for what is in flight.
func (l *connection) expire(cause error) {
	l.channel.mu.Lock()
	l.expired = cause
	over := l.isOver()
	l.channel.mu.Unlock()
	if over {
		l.end(cause)
	} else {
		time.AfterFunc(lastMoment, func() { l.end(cause) })
	}
	l.channel.endStreams()
}

// isDormant reports whether nothing carries the channel. ch.mu is held.
func (ch *channel) isDormant() bool { return ch.ended == nil && ch.current.stopped() != nil }

// noteCredentials notes the credentials that a request came with.
func (ch *channel) noteCredentials(c Credentials) {
	if c == nil || haveEnded(c) {
		return
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.latest = c
}

// withConnection calls f, which sends something, and calls it again where the connection had
// ended before anything was sent.
func (ch *channel) withConnection(ctx context.Context, f func() error) error {
	err := f()
	for range 2 {
		if !errors.Is(err, ErrUnsent) {
			return err
		}
		if err := ch.wake(ctx); err != nil {
			return err
		}
		err = f()
	}
	return err
}

// wake waits until a dormant channel has a connection.
func (ch *channel) wake(ctx context.Context) error {
	r, err := ch.beginWaking()
	if r == nil || err != nil {
		return err
	}
	select {
	case <-r.done:
		return unsent(r.err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// beginWaking has a dormant channel get a connection. It returns nothing where the channel is
// awake.
func (ch *channel) beginWaking() (*replacement, error) {
	ch.mu.Lock()
	ended, dormant, stopped, latest := ch.ended, ch.isDormant(), ch.current.stopped(), ch.latest
	ch.mu.Unlock()
	switch {
	case errors.Is(ended, ErrCredentials):
		return nil, ErrNoSession // it has ended with the channel, and nothing was sent
	case ended != nil:
		return nil, ended
	case !dormant:
		return nil, nil //nolint:nilnil // nothing is to be done, and nothing is wrong
	case latest == nil:
		return nil, unsent(stopped)
	}
	return ch.replaceWith(newest(latest)), nil
}

// replaceWith has a connection with the credentials take the current one's place, unless
// another one is about to.
func (ch *channel) replaceWith(c Credentials) *replacement {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.replacement != nil {
		return ch.replacement
	}
	r := &replacement{done: make(chan struct{})}
	ch.replacement = r
	go func() {
		r.err = ch.replace(c)
		ch.mu.Lock()
		ch.replacement = nil
		dormant := ch.isDormant()
		ch.mu.Unlock()
		if r.err != nil && dormant {
			ch.stayAsleep(r.err)
		}
		close(r.done)
	}()
	return r
}

// stayAsleep ends a dormant channel that no connection can be made for, so that no request
// starts the server again and again: clients begin again, which is bounded. Where only the
// credentials have ended, the next request comes with others.
func (ch *channel) stayAsleep(cause error) {
	if errors.Is(cause, ErrCredentials) {
		ch.endStreams()
		return
	}
	ch.finish(cause, true)
}

// endStreams ends the sessions' own streams in good order: whoever opens one again comes with
// other credentials.
func (ch *channel) endStreams() {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if !ch.isDormant() {
		return
	}
	for s := range ch.members {
		if s.stream != nil {
			s.stream.close(ErrClosed)
		}
	}
}
