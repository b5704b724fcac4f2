package aggregate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/itemlist"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

var (
	errNoList = errors.New("the server has no such list")
	errLate   = errors.New("the server has not answered in time")
	errSlow   = errors.New("the server is slow, and is asked again in a while") // it was not asked
)

// listRequest asks one server for its part of a list.
type listRequest struct {
	x        *exchange
	server   *grants.Server
	state    *serverState
	kind     rewrite.Kind
	position rewrite.Position
	patient  bool          // the client waits for servers that may be starting
	done     chan struct{} // closed when page and err are set
	arrivals chan<- bool   // gets whether the server's part is something to show
	progress atomic.Int32
	last     *rewrite.Page // the last good one; nil: none is known

	page *rewrite.Page
	err  error // errNoList if the server has no such list
}

// What progress holds.
const (
	awaited int32 = iota
	abandoned
	arrived
)

// maxAbandoned bounds the list requests of a client that run on one server although the
// client has given up: otherwise it could ask and give up without end.
const maxAbandoned = 4

// abandon notes that the client does not wait for the request any more.
func (q *listRequest) abandon() {
	if q.progress.CompareAndSwap(awaited, abandoned) {
		q.state.countAbandoned(q.x.principal(), 1)
	}
}

// runHere asks the server for as long as the client waits for it. If that was not enough, the server
// is asked again, in the background.
func (q *listRequest) runHere(usual time.Duration) {
	ctx, cancel := q.x.background(usual)
	defer cancel()
	client := q.x.r.Context()
	stop := context.AfterFunc(client, cancel)
	defer stop()
	page, err := q.askUntilRecorded(ctx)
	switch {
	case err == nil || ctx.Err() == nil:
		q.settle(page, err)
	case client.Err() != nil: // nobody waits for it
		q.settle(nil, errLate)
	default:
		go q.run()
	}
}

// run asks the server, and goes on if the client has given up.
func (q *listRequest) run() {
	growStack()
	ctx, cancel := q.x.background(fetchTimeout)
	defer cancel()
	q.settle(q.askUntilRecorded(ctx))
}

// settle keeps the page, and sets the outcome.
func (q *listRequest) settle(page *rewrite.Page, err error) {
	if err == nil && q.position.First() && q.kind != rewrite.Tasks && page != q.last {
		q.x.handler.pages.put(q.key(), page)
	}
	q.finish(page, err)
	if q.progress.Swap(arrived) == abandoned {
		q.state.countAbandoned(q.x.principal(), -1)
	}
}

// askUntilRecorded asks the server, and again if its session is gone or the decision could not be recorded.
func (q *listRequest) askUntilRecorded(ctx context.Context) (page *rewrite.Page, err error) {
	page, err = q.ask(ctx)
	if errors.Is(err, errSessionGone) {
		page, err = q.ask(ctx)
	}
	for pause := auditPause; pause < maxAuditPause && isUnaudited(err); pause *= 2 {
		if backoff.Sleep(ctx, pause) == nil {
			page, err = q.ask(ctx)
		}
	}
	return page, err
}

// A list of hundreds of servers takes hundreds of decisions at once. If the machine is too
// busy to record them all in time, the others are tried again.
const (
	auditPause    = 100 * time.Millisecond
	maxAuditPause = 10 * time.Second
)

// isUnaudited reports whether the server was not asked because the decision could not be
// recorded.
func isUnaudited(err error) bool {
	var refusal *access.Refusal
	return errors.As(err, &refusal) && refusal.Reason == access.ReasonAuditUnavailable
}

// growStack gives its goroutine the stack that a request to a server needs. The stack would grow to
// that in several steps otherwise, and be copied in each, with ever more frames.
//
//go:noinline
func growStack() {
	var room [12 << 10]byte
	runtime.KeepAlive(&room)
}

// finish sets the outcome.
func (q *listRequest) finish(page *rewrite.Page, err error) {
	q.page, q.err = page, err
	close(q.done)
	// All servers are asked for tools, and a client without tools is of no use. Of the other
	// lists a server may well have none.
	q.arrivals <- err == nil && len(page.Entries) > 0 || q.kind != rewrite.Tools && (err == nil || errors.Is(err, errNoList))
}

// finished reports whether the outcome is set.
func (q *listRequest) finished() bool {
	select {
	case <-q.done:
		return true
	default:
		return false
	}
}

func (q *listRequest) key() pageKey {
	return pageKey{principal: q.x.principal(), server: q.server.ID, kind: q.kind}
}

// message is the client's message with the server's own cursor.
func (q *listRequest) message() (*mcp.Message, error) {
	m := q.x.message
	data, err := messages.WithCursor(m.Data, m.Params, q.position)
	if err != nil {
		return nil, err
	}
	if len(data) == len(m.Data) && &data[0] == &m.Data[0] {
		return m, nil
	}
	return mcp.ParseMessage(data)
}

// ask asks the server once.
func (q *listRequest) ask(ctx context.Context) (*rewrite.Page, error) {
	x := q.x
	s := x.oneOfMany(ctx, http.MethodPost, q.server.Name)
	defer s.end()
	switch {
	case s.refusal == nil:
	case s.refusal.Status == http.StatusServiceUnavailable:
		return nil, s.refusal
	default:
		return nil, errNoList // the client has just lost the server
	}
	r, err := x.route(s)
	if err != nil {
		return nil, err
	}
	if r.upstream != nil && !r.has.List(q.kind) {
		return nil, errNoList
	}
	message, err := q.message()
	if err != nil {
		return nil, err
	}
	t, err := r.translate(s, message)
	if err != nil {
		return nil, err
	}
	r.use()
	defer r.release(x)
	id := t.id
	if id == nil {
		id = x.id()
	}
	q.last = q.lastPage()
	s.isKnown = func(body []byte) bool { return q.reading(r).Again(q.last, body, id) }
	answer, err := s.fetch(r.header(x, x.message.Method, ""), t.message)
	if answer.sessionState != sessionFine {
		r.endIfLost(x, answer.sessionState, answer.status, answer.reason)
		return nil, fmt.Errorf("%w: status %d", errSessionGone, answer.status)
	}
	if err != nil {
		return nil, err
	}
	if answer.known {
		return q.tellLeftOut(q.last), nil
	}
	return q.read(r, answer)
}

// reading says how the server's answer is read.
func (q *listRequest) reading(r *route) rewrite.Reading {
	return rewrite.Reading{
		Kind: q.kind, Server: q.server.Name, Digest: q.x.handler.digests(q.server, q.kind), EmptyEnds: r.serverHasSessions(),
	}
}

// read reads the server's page.
func (q *listRequest) read(r *route, answer *fetched) (*rewrite.Page, error) {
	page, err := q.reading(r).Page(answer.body)
	if err != nil {
		var refused *rewrite.RPCError
		if errors.As(err, &refused) && refused.Code == protocol.CodeMethodNotFound {
			return nil, errNoList
		}
		if r.session == "" && !concernsOneRequest(answer.status) {
			q.state.forgetVersions() // it may not speak this version any more
		}
		return nil, fmt.Errorf("status %d: %w", answer.status, err)
	}
	return q.tellLeftOut(page), nil
}

// tellLeftOut tells the log which entries of the page clients do not get.
func (q *listRequest) tellLeftOut(page *rewrite.Page) *rewrite.Page {
	if page.Missing > 0 && q.state.mayLogLeftOut(q.kind, time.Now()) {
		for _, left := range page.LeftOut {
			q.x.handler.log.Warn("an entry is left out of the lists of /mcp",
				"server", q.server.Name, "list", q.kind.Method(), "name", left.Name, "error", left.Err, "left_out", page.Missing)
		}
	}
	return page
}

// report records whether the server has answered in time.
func (q *listRequest) report() {
	h, client := q.x.handler, q.x.principal()
	err := errLate
	if q.finished() {
		err = q.err
	} else {
		q.abandon()
		go q.announceLate()
		if q.patient {
			q.state.noteFirstWait(client, time.Now())
		}
	}
	absent := err != nil && !errors.Is(err, errNoList)
	if !errors.Is(err, errSlow) {
		q.state.noteTime(client, !errors.Is(err, errLate), time.Now())
	}
	if absent && h.options.Observer != nil {
		h.options.Observer.ListAbsent(q.server.Name, q.kind.Method())
	}
	switch mayLog := q.state.noteAbsence(client, absent, time.Now()); {
	case absent && mayLog:
		h.log.Warn("a server is absent from the lists of /mcp", "server", q.server.Name, "list", q.kind.Method(), "error", err)
	case mayLog:
		h.log.Info("a server is in the lists of /mcp again", "server", q.server.Name)
	}
}

// announceLate waits for a server that is late, and tells the client then that the list has
// changed.
func (q *listRequest) announceLate() {
	<-q.done
	if q.err == nil {
		q.state.noteTime(q.x.principal(), true, time.Now())
		q.x.handler.watchers.notify(q.x.principal(), messages.ChangeOf(q.kind))
	}
}

// result returns the server's page: the last good one if the server has not answered. has
// is false if the server has no such list.
func (q *listRequest) result() (page *rewrite.Page, has bool) {
	if q.finished() {
		if q.err == nil {
			return q.page, true
		}
		if errors.Is(q.err, errNoList) {
			return nil, false
		}
	}
	return q.lastPage(), true
}

// lastPage returns the last good first page, where the request is for that; else nil.
func (q *listRequest) lastPage() *rewrite.Page {
	if !q.position.First() {
		return nil
	}
	return q.x.handler.pages.get(q.key())
}

// allows returns what judges the entries by the client's present rules, which a cached page
// needs; nil if all of them pass.
func (q *listRequest) allows() func(string) bool {
	return itemlist.Judge(q.kind, q.x.request.Rules(q.server.Name))
}
