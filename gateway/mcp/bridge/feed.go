package bridge

import "context"

// Feed is what a server tells a session beside its answers.
type Feed struct {
	session *Session
	queue   *queue
}

// Feed takes the session's own stream. One that was open before ends. Close it.
func (s *Session) Feed() *Feed {
	s.acquire()
	f := &Feed{session: s, queue: newQueue()}
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	if s.feed != nil {
		s.feed.close(ErrClosed)
	}
	s.feed = f.queue
	for _, item := range s.backlog {
		f.queue.put(item)
	}
	s.backlog, s.kept = nil, 0
	switch {
	case s.peer.ended != nil:
		f.queue.close(s.peer.ended)
	case s.over != nil:
		f.queue.close(s.over)
	}
	return f
}

// Next waits for the next message.
func (f *Feed) Next(ctx context.Context) (Item, error) { return f.queue.take(ctx) }

// Close gives the stream back. What was not taken is kept for the next one.
func (f *Feed) Close() {
	s := f.session
	defer s.Release()
	s.peer.mu.Lock()
	defer s.peer.mu.Unlock()
	f.queue.close(ErrClosed)
	if s.feed != f.queue {
		return
	}
	s.feed = nil
	for _, item := range f.queue.drain() {
		s.keep(item)
	}
}

// keep puts a message aside until there is a stream for it. peer.mu is held.
func (s *Session) keep(item Item) bool {
	if s.over != nil || len(s.backlog) >= maxBacklog || s.kept+len(item.Message) > maxBacklogBytes {
		return false
	}
	s.backlog = append(s.backlog, item)
	s.kept += len(item.Message)
	return true
}
