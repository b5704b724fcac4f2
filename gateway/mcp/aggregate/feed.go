package aggregate

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/names"
	"vault-plugin-secrets-mcp/gateway/mcp/sse"
)

// How long a server's stream that has ended is left alone before it is opened
// anew.
const (
	reopenMin = time.Second
	reopenMax = time.Minute
)

// errReplaced: the client has opened the stream of its session once more.
var errReplaced = errors.New("another stream of the session has taken the place of this one")

// feed is a stream on which all servers of a client tell what they have to tell
// of their own accord. One goroutine writes to the client; there is one for each
// server, which waits while the client does not read.
type feed struct {
	x       *exchange
	context context.Context
	cancel  context.CancelCauseFunc
	events  chan []byte
	running sync.WaitGroup

	mu        sync.Mutex
	followed  map[*way]struct{}
	announces changes // lists whose changes the client wants to hear of
	wrap      func(method string) []byte
}

func (x *exchange) newFeed() *feed {
	f := &feed{x: x, events: make(chan []byte), followed: make(map[*way]struct{}), announces: changedAll}
	f.context, f.cancel = context.WithCancelCause(x.r.Context())
	f.wrap = func(method string) []byte { return []byte(`{"jsonrpc":"2.0","method":"` + method + `"}`) }
	return f
}

// feed serves a session's own stream.
func (x *exchange) feed() *access.Refusal {
	if !x.stream {
		return x.plain(http.StatusNotAcceptable, "Accept must list text/event-stream.")
	}
	if first(x.r.Header, headerSession) == "" {
		// Nobody without a session has anything to get here.
		x.w.Header().Set("Allow", "POST")
		return x.plain(http.StatusMethodNotAllowed, "There is no stream without a session.")
	}
	if f := x.enter(); f != nil {
		return f
	}
	defer x.session.release()
	if server, id, ok := names.Split(first(x.r.Header, headerLastEventID)); ok {
		return x.resume(server, id)
	}
	if f := x.decide(); f != nil {
		return f
	}
	f := x.newFeed()
	x.session.attach(f)
	defer x.session.detach(f)
	for _, v := range x.session.ready() {
		f.follow(v)
	}
	f.serve(x.session.watcher)
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
	v := x.session.readyTo(server)
	if v == nil || v.kind != paired {
		return x.plain(http.StatusBadRequest, "There is no such stream to be resumed.")
	}
	p := x.part(x.r.Context(), x.request.ID, http.MethodGet, server)
	defer p.end()
	if p.refusal != nil {
		p.refuse(p.refusal)
		return nil
	}
	header := v.header(x, "", "")
	header[headerLastEventID] = []string{event}
	out := x.newAnswer(v, v.fromPaired)
	aborted := p.serve(header, nil, out)
	if out.started {
		return x.ended(out.finish(p, aborted))
	}
	if out.status == http.StatusNotFound {
		v.lost()
	}
	return x.plain(http.StatusBadRequest, "There is no such stream to be resumed.")
}

// ended is what is left to be answered behind a stream: nothing.
func (x *exchange) ended(error) *access.Refusal { return nil }

// serve writes the stream, until it ends.
func (f *feed) serve(w *watcher) {
	x, limits := f.x, f.x.handler.settings().Limits
	defer f.end()
	defer x.handler.streams.Add(f.cancel, limits.MaxStreamAge)()
	header := x.w.Header()
	header[headerContentType] = valueEvents
	header["Cache-Control"] = []string{"no-cache, no-transform"}
	header["X-Accel-Buffering"] = []string{"no"}
	x.w.WriteHeader(http.StatusOK)
	s := sse.NewWriter(x.r.Context(), x.w, limits.KeepAlive)
	s.Flush()
	err := f.pump(s, w)
	switch {
	case sse.EndedByGateway(f.context):
		err = context.Cause(f.context)
		s.ComeBack()
	case errors.Is(err, errReplaced), errors.Is(err, errEnded):
		err = nil
	}
	x.request.Outcome(http.StatusOK, s.Close(), err)
}

func (f *feed) pump(s *sse.Writer, w *watcher) error {
	var event []byte
	write := func(message []byte) error {
		event = sse.AppendData(append(event[:0], "event: message\n"...), message)
		event = append(event, '\n')
		_, err := s.Write(event)
		return err
	}
	for {
		var err error
		select {
		case message := <-f.events:
			err = write(message)
		case <-w.wake:
			changed := w.take() & f.announced()
			for _, n := range notifications {
				if err == nil && changed&n.change != 0 {
					err = write(f.wrap(n.method))
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

// end ends the following of all servers.
func (f *feed) end() {
	f.mu.Lock()
	f.cancel(nil) // from here on nobody is followed any more
	f.mu.Unlock()
	f.running.Wait()
}

func (f *feed) announced() changes {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.announces
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

// follow has the stream listen to a server, from now on.
func (f *feed) follow(v *way) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, twice := f.followed[v]; twice || f.context.Err() != nil {
		return
	}
	f.followed[v] = struct{}{}
	run := f.listenTo
	if v.kind == paired || v.kind == hidden {
		run = f.getFrom
	}
	f.running.Go(func() {
		run(v)
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.followed, v)
	})
}

// getFrom keeps the stream of a server with sessions open.
func (f *feed) getFrom(v *way) {
	header := v.header(f.x, "", "")
	header["Accept"] = valueEvents
	delete(header, headerContentType)
	f.keepOpen(v, func(out *tap) int {
		p := f.x.part(f.context, f.x.partID(v.server), http.MethodGet, v.server)
		defer p.end()
		if p.refusal != nil {
			return p.refusal.Status
		}
		p.serve(header, nil, out)
		return out.status
	})
}

// keepOpen opens a server's stream again and again, until it is clear that there
// is none to be had. What may have been missed in between is told as a change of
// all that the server has.
func (f *feed) keepOpen(v *way, open func(out *tap) (status int)) {
	wait := reopenMin
	for again := false; ; again = true {
		out := &tap{feed: f, way: v, header: make(http.Header), limit: int(f.x.handler.settings().Limits.MaxList)}
		if again {
			out.opened = func() { f.x.handler.watchers.tell(f.x.client(), v.has.changes()) }
		}
		began := time.Now()
		status := open(out)
		switch {
		case f.context.Err() != nil:
			return
		case status == http.StatusNotFound && v.session != "":
			v.lost()
			return
		case status >= 400 && status < 500 && status != http.StatusTooManyRequests:
			return // it has no such stream
		case out.decoder != nil && time.Since(began) > reopenMax:
			wait = reopenMin
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-f.context.Done():
			timer.Stop()
			return
		}
		wait = min(2*wait, reopenMax)
	}
}

// changes are the lists that a server with these capabilities has.
func (c capabilities) changes() changes {
	var all changes
	if c.tools {
		all |= changedTools
	}
	if c.prompts {
		all |= changedPrompts
	}
	if c.resources {
		all |= changedResources
	}
	return all
}

// tap takes a server's stream, and hands its messages to a feed.
type tap struct {
	feed    *feed
	way     *way
	header  http.Header
	status  int
	limit   int
	decoder *sse.Splitter // nil: it is no stream
	opened  func()        // called when the stream begins; may be nil
	turn    back          // nil: that of the way
}

func (t *tap) Header() http.Header { return t.header }

func (t *tap) WriteHeader(status int) {
	if t.status != 0 || status < 200 {
		return
	}
	t.status = status
	if status == http.StatusOK && isStream(t.header) {
		t.decoder = sse.NewSplitter(t.limit)
		if t.opened != nil {
			t.opened()
		}
	}
}

func (t *tap) Write(p []byte) (int, error) {
	t.WriteHeader(http.StatusOK)
	if t.decoder == nil {
		return len(p), nil // nothing of interest
	}
	return len(p), t.decoder.Push(p, t.event)
}

// FlushError is for those who write streams.
func (t *tap) FlushError() error { return nil }

func (t *tap) event(e *sse.Event) error {
	if !e.IsMessage() || len(e.Data) == 0 {
		return nil
	}
	turn := t.turn
	if turn == nil {
		turn = t.way.back
	}
	message, err := turn(e.Data)
	if err != nil {
		t.feed.x.handler.log.Warn("a message of a server cannot be passed on: it is dropped", "server", t.way.server, "error", err)
		return nil
	}
	if message == nil {
		return nil
	}
	return t.feed.put(append([]byte(nil), message...))
}

// back turns what the server says of its own accord into what the client gets.
func (v *way) back(message []byte) ([]byte, error) {
	if v.kind == paired {
		return v.fromPaired(message)
	}
	return v.answer(message)
}
