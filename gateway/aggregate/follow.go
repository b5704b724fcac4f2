package aggregate

import (
	"context"
	"errors"
	"net/http"
	"time"

	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// How long a server's stream that has ended is left alone before it is opened
// anew.
const (
	reopenMin = time.Second
	reopenMax = time.Minute
)

// errRenewed: what the client wants to hear of a server has changed.
var errRenewed = errors.New("what is to be heard of the server has changed")

// follower keeps the stream of one server open, for a feed.
type follower struct {
	feed   *feed
	server string
	renew  context.CancelCauseFunc // ends the present stream; another one follows
	tried  chan struct{}           // closed when the first stream is open, or is not to be had
}

// followAll has the stream listen to all servers that the client may reach at
// present, from now on. It makes the ways to them that are not there yet: one
// that is dead is tried again and again, and announced when it comes back.
func (f *feed) followAll() {
	servers, refusal := f.x.request.Servers()
	if refusal != nil {
		return // the stream ends
	}
	for _, server := range servers {
		if !f.wants(server.Name).empty() {
			f.follow(server.Name)
		}
	}
}

func (f *feed) follow(server string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.followed[server] != nil || f.context.Err() != nil {
		return
	}
	streams := &f.x.handler.upstreams
	if !streams.take(f.x.client()) {
		f.x.handler.log.Warn("a client has too many streams of servers open: no more are opened", "client", f.x.request.Grant.Client, "most", maxUpstreams)
		return
	}
	l := &follower{feed: f, server: server, tried: make(chan struct{}), renew: func(error) {}}
	f.followed[server] = l
	f.running.Go(func() {
		defer streams.release(f.x.client())
		l.run()
	})
}

// renew has the stream of a server opened anew.
func (f *feed) renew(server string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l := f.followed[server]; l != nil {
		l.renew(errRenewed)
	}
}

// run opens the server's stream again and again, until it is clear that there is
// none to be had.
func (l *follower) run() {
	f := l.feed
	defer func() {
		l.attempted()
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.followed, l.server)
	}()
	wait, again := reopenMin, false
	for {
		ctx, cancel := context.WithCancelCause(f.context)
		f.mu.Lock()
		l.renew = cancel
		f.mu.Unlock()
		lasted, over := l.once(ctx, again)
		renewed := errors.Is(context.Cause(ctx), errRenewed)
		cancel(nil)
		l.attempted()
		switch {
		case over || f.context.Err() != nil:
			return
		case renewed:
			continue
		case lasted > reopenMax:
			wait = reopenMin
		}
		again = true
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

// attempted notes that the first stream is open, or is not to be had. It is
// called by the follower's goroutine alone.
func (l *follower) attempted() {
	select {
	case <-l.tried:
	default:
		close(l.tried)
	}
}

// once opens the stream and reads it to its end. It reports how long it lasted,
// and whether another one is of no use. again tells that something may have
// been missed since another one ended.
func (l *follower) once(ctx context.Context, again bool) (lasted time.Duration, over bool) {
	x, began := l.feed.x, time.Now()
	v, k, over := l.way(ctx)
	if v == nil {
		return 0, over
	}
	wants := l.feed.wants(l.server)
	out := &tap{feed: l.feed, way: v, back: v.back(x.session)}
	if l.feed.backOf != nil {
		out.back = l.feed.backOf(v)
	}
	out.opened = func() {
		if again || k.wasMissing(x.client()) || time.Since(began) > x.handler.wait() {
			l.feed.watcher.tell(v.has.changes() & wants.lists)
		}
		if v.kind == paired || v.kind == hidden {
			l.attempted() // servers without sessions acknowledge
		}
	}
	if v.kind == hidden {
		x.subscribe(ctx, v, wants.resources)
	}
	status := l.open(ctx, v, wants, out)
	switch {
	case !out.isStream() && v.session != "" && doubts(status) && !x.alive(ctx, v):
		return 0, false // another session is begun for the next one
	case status >= 400 && status < 500 && status != http.StatusTooManyRequests:
		if (again || k.wasMissing(x.client())) && !out.isStream() {
			l.feed.watcher.tell(v.has.changes() & wants.lists)
		}
		return 0, true // it has no such stream
	case !out.isStream():
		return 0, false
	}
	return time.Since(out.began), false
}

// doubts reports whether a server that answers a request for its stream with that
// status may not know the session, rather than have no such stream.
func doubts(status int) bool {
	return status >= http.StatusBadRequest && status != http.StatusMethodNotAllowed && status != http.StatusTooManyRequests
}

// alive asks the server whether it knows the session. One that it does not know is
// dropped.
func (x *exchange) alive(ctx context.Context, v *way) bool {
	ctx, cancel := context.WithTimeout(ctx, x.handler.wait())
	defer cancel()
	p := x.part(ctx, x.partID(v.server), http.MethodPost, v.server)
	defer p.end()
	if p.refusal != nil {
		return true // as far as can be told
	}
	id := itoa(int(v.leg.lastID.Add(1)))
	c, _ := p.ask(v.ownHeader(x), protocol.Request(protocol.AppendString(nil, "gateway-ping-"+id), protocol.MethodPing, nil))
	v.drop(x, c.verdict, c.status, c.reason)
	return c.verdict == holds
}

// way returns the way to the server, and what is known of it; nil if there is
// none. over tells that it is of no use to ask again.
func (l *follower) way(ctx context.Context) (v *way, k *known, over bool) {
	x := l.feed.x
	p := x.part(ctx, x.partID(l.server), http.MethodPost, l.server)
	defer p.end()
	if p.refusal != nil {
		return nil, nil, p.refusal.Status == http.StatusForbidden
	}
	v, err := x.way(p)
	if err != nil {
		x.handler.log.Debug("a server cannot be listened to", "server", l.server, "error", err)
		return nil, nil, false
	}
	return v.heardOn(), p.known(), false
}

// open has the server's stream answered to out.
func (l *follower) open(ctx context.Context, v *way, wants interest, out *tap) (status int) {
	x, method := l.feed.x, http.MethodPost
	if v.kind == paired || v.kind == hidden {
		method = http.MethodGet
	}
	p := x.part(ctx, x.partID(l.server), method, l.server)
	defer p.end()
	if p.refusal != nil {
		return p.refusal.Status
	}
	if method == http.MethodGet {
		header := v.header(x, "", "")
		header["Accept"] = valueEvents
		delete(header, protocol.HeaderContentType)
		delete(header, protocol.HeaderMethod)
		return out.take(p, header, nil)
	}
	back := out.back
	out.back = func(m *mcp.Message) ([]byte, error) { return l.heard(m, back) }
	header := v.header(x, protocol.MethodListen, "")
	header["Accept"] = valueAny
	header[protocol.HeaderVersion] = []string{protocol.VersionStateless}
	header[protocol.HeaderMethod] = []string{protocol.MethodListen}
	message, err := x.listenMessage(wants)
	if err != nil {
		return http.StatusBadRequest
	}
	m, err := mcp.ParseMessage(message)
	if err != nil {
		return http.StatusBadRequest
	}
	return out.take(p, header, m)
}

// heard takes out of the stream of a server without sessions what is no
// notification for the client.
func (l *follower) heard(m *mcp.Message, back back) ([]byte, error) {
	switch {
	case m.Kind != envelope.Notification:
		return nil, nil // the end of the stream: another one follows
	case m.Method == protocol.MethodAcknowledged:
		l.attempted()
		return nil, nil
	}
	return back(m)
}

// back turns what the server says of its own accord into what the client gets.
func (v *way) back(s *session) back {
	return func(m *mcp.Message) ([]byte, error) { return v.said(m, &due{session: s, server: v.server}) }
}
