package aggregate

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

// errReplaced: the client has opened the stream of its session once more.
var errReplaced = errors.New("another stream of the session has taken the place of this one")

// feed is a stream on which all servers of a client tell what they have to tell
// of their own accord. One goroutine writes to the client; there is one for each
// server, which waits while the client does not read.
type feed struct {
	x       *exchange
	watcher *watcher
	context context.Context
	cancel  context.CancelCauseFunc
	events  chan []byte

	// What differs between the two eras.
	announces changes                      // the lists whose changes the client wants to hear of
	announce  func(method string) []byte   // makes a notification of the gateway's own
	wants     func(server string) interest // what the client wants to hear of a server
	backOf    func(v *way) back            // turns a server's messages into the client's; nil: the way's own

	mu       sync.Mutex
	followed map[string]*follower // by the server's name
	running  sync.WaitGroup
}

func (x *exchange) newFeed(w *watcher) *feed {
	f := &feed{x: x, watcher: w, events: make(chan []byte), followed: make(map[string]*follower), announces: changedAll}
	f.context, f.cancel = context.WithCancelCause(x.r.Context())
	return f
}

// feed serves a session's own stream.
func (x *exchange) feed() *access.Refusal {
	if !x.stream {
		return x.plain(http.StatusNotAcceptable, "Accept must list text/event-stream.")
	}
	if protocol.First(x.r.Header, protocol.HeaderSession) == "" {
		// Nobody without a session has anything to get here.
		x.w.Header().Set("Allow", "POST")
		return x.plain(http.StatusMethodNotAllowed, "There is no stream without a session.")
	}
	if f := x.enter(); f != nil {
		return f
	}
	defer x.session.release()
	if server, id, ok := ofServer(protocol.First(x.r.Header, protocol.HeaderLastEventID)); ok {
		return x.resume(server, id)
	}
	if f := x.decide(); f != nil {
		return f
	}
	f := x.newFeed(x.session.watcher)
	f.announce = func(method string) []byte { return protocol.Notification(method, nil) }
	f.wants = x.session.interestIn
	x.session.attach(f)
	defer x.session.detach(f)
	f.followAll()
	f.serve(nil)
	return nil
}

// attach makes f the session's stream. One that was open before ends.
func (s *session) attach(f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feed != nil {
		s.feed.cancel(errReplaced)
	}
	s.feed = f
	if s.over {
		f.cancel(errEnded)
	}
}

func (s *session) detach(f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.feed == f {
		s.feed = nil
	}
}

// resume passes on what a server has to tell since the event: the rest of an
// answer whose stream was lost.
func (x *exchange) resume(server, event string) *access.Refusal {
	unknown := x.plain(http.StatusBadRequest, "There is no such stream to be resumed.")
	v := x.session.readyTo(server)
	if v == nil || v.kind != paired {
		return unknown
	}
	p := x.part(x.r.Context(), x.request.ID, http.MethodGet, server)
	defer p.end()
	if p.refusal != nil {
		p.refuse(unknown)
		return nil
	}
	header := v.header(x, "", "")
	header[protocol.HeaderLastEventID] = []string{event}
	out := x.newAnswer(p, v, v.remains(x.session))
	defer out.close()
	out.take(header, nil)
	if out.started {
		out.finish()
		return nil
	}
	if v.session != "" && doubts(out.status) {
		x.alive(x.r.Context(), v) // else the next request begins another session
	}
	return unknown
}

// serve writes the stream, until it ends. The first message is sent first.
func (f *feed) serve(greeting []byte) {
	x, limits := f.x, f.x.handler.settings().Limits
	defer f.end()
	defer x.handler.streams.Add(f.cancel, limits.MaxStreamAge)()
	header := x.w.Header()
	header[protocol.HeaderContentType] = valueEvents
	header["Cache-Control"] = []string{"no-cache, no-transform"}
	header["X-Accel-Buffering"] = []string{"no"}
	x.w.WriteHeader(http.StatusOK)
	s := sse.NewWriter(x.r.Context(), x.w, limits.KeepAlive)
	s.Flush()
	err := f.pump(s, greeting)
	switch {
	case sse.EndedByGateway(f.context):
		err = context.Cause(f.context)
		s.ComeBack()
	case errors.Is(err, errReplaced), errors.Is(err, errEnded):
		err = nil
	}
	x.request.Outcome(http.StatusOK, s.Close(), err)
	if access.Cut(x.r.Context()) != nil {
		panic(http.ErrAbortHandler) // so that it does not look complete
	}
}

// end ends the following of all servers.
func (f *feed) end() {
	f.mu.Lock()
	f.cancel(nil) // from here on nobody is followed any more
	f.mu.Unlock()
	f.running.Wait()
}

// pump writes messages as they come.
func (f *feed) pump(s *sse.Writer, greeting []byte) error {
	var event []byte
	write := func(message []byte) error {
		event = sse.AppendData(append(event[:0], "event: message\n"...), message)
		event = append(event, '\n')
		_, err := s.Write(event)
		return err
	}
	if greeting != nil {
		if err := write(greeting); err != nil {
			return err
		}
	}
	for {
		var err error
		select {
		case message := <-f.events:
			err = write(message)
		case <-f.watcher.wake:
			changed := f.watcher.take()
			f.followAll() // there may be more of them
			for _, n := range notifications {
				if err == nil && changed&f.announces&n.change != 0 {
					err = write(f.announce(n.method))
				}
			}
		case <-f.context.Done():
			return context.Cause(f.context)
		}
		if err != nil {
			return err
		}
	}
}

// put hands a message to who writes. It waits for that.
func (f *feed) put(message []byte) error {
	select {
	case f.events <- message:
		return nil
	case <-f.context.Done():
		return context.Cause(f.context)
	}
}

// tap takes a server's stream, and hands its messages to a feed.
type tap struct {
	feed   *feed
	way    *way
	back   back
	opened func()    // called when the stream begins
	began  time.Time // of the stream; zero: it is none
	bytes  int64
}

func (t *tap) isStream() bool { return !t.began.IsZero() }

// take has the server asked for its stream, and reads that to its end.
func (t *tap) take(p *part, header http.Header, m *mcp.Message) (status int) {
	var err error
	defer p.guard(&err)
	answer, err := p.call(header, m)
	if err != nil {
		if f := new(access.Refusal); errors.As(err, &f) {
			status = f.Status
		}
		return status
	}
	defer func() { answer.Close(t.bytes, err) }()
	if answer.Status == http.StatusOK && answer.Stream {
		t.began = time.Now()
		t.opened()
		err = answer.Events(t.event)
	}
	return answer.Status
}

func (t *tap) event(e *sse.Event) error {
	t.bytes += int64(len(e.Data))
	if !e.IsMessage() || len(e.Data) == 0 {
		return nil
	}
	m, err := mcp.ParseMessage(jsonscan.WithoutMark(e.Data))
	var message []byte
	if err == nil {
		message, err = t.back(m)
	}
	if err != nil {
		// The stream ends, so that a server which goes on like that is not heard
		// without a pause, nor the log filled.
		t.feed.x.handler.log.Warn("a server says what cannot be passed on: its stream ends", "server", t.way.server, "error", err)
		return err
	}
	if message == nil {
		return nil
	}
	return t.feed.put(append([]byte(nil), message...))
}
