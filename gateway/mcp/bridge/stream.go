package bridge

import "context"

// Stream has the messages of a server for a session beside its answers.
type Stream struct {
	session *Session
	queue   *queue
}

// Stream opens the session's own stream, and ends an earlier one. Close it. The server of a
// dormant channel is started, since it may have something to say.
func (s *Session) Stream() *Stream {
	s.acquire()
	defer s.channel.beginWaking() //nolint:errcheck // the stream ends with the channel
	st := &Stream{session: s, queue: newQueue()}
	s.channel.mu.Lock()
	defer s.channel.mu.Unlock()
	if s.stream != nil {
		s.stream.close(ErrClosed)
	}
	s.stream = st.queue
	for _, item := range s.backlog {
		st.queue.put(item)
	}
	s.backlog, s.backlogBytes = nil, 0
	switch {
	case s.channel.ended != nil:
		st.queue.close(s.channel.ended)
	case s.ended != nil:
		st.queue.close(s.ended)
	}
	return st
}

// Next waits for the next message.
func (st *Stream) Next(ctx context.Context) (Item, error) { return st.queue.next(ctx) }

// Close ends the stream. Messages that were not read wait for the next one.
func (st *Stream) Close() {
	s := st.session
	defer s.Release()
	s.channel.mu.Lock()
	defer s.channel.mu.Unlock()
	st.queue.close(ErrClosed)
	if s.stream != st.queue {
		return
	}
	s.stream = nil
	for _, item := range st.queue.drain() {
		s.keep(item)
	}
}

// keep stores a message until there is a stream for it. channel.mu is held.
func (s *Session) keep(item Item) bool {
	if s.ended != nil || len(s.backlog) >= maxBacklog || s.backlogBytes+len(item.Message) > maxBacklogBytes {
		return false
	}
	s.backlog = append(s.backlog, item)
	s.backlogBytes += len(item.Message)
	return true
}
