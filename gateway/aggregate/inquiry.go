package aggregate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// inquiry is one server's part in a list.
type inquiry struct {
	x        *exchange
	server   *grants.Server
	kind     rewrite.Kind
	position rewrite.Position
	patient  bool          // the client waits for what may just be starting
	done     chan struct{} // closed when page and err are set
	arrivals chan<- bool   // of all inquiries of the list: whether there is something to show
	fate     atomic.Int32

	page *rewrite.Page
	err  error // errNoList, where the server has none
}

var (
	// errNoList: the server has nothing of the kind.
	errNoList = errors.New("the server has no such list")
	// errLate: the server has not answered in time.
	errLate = errors.New("the server has not answered in time")
	// errSlow: it was not asked, since it was late the last time.
	errSlow = errors.New("the server is slow, and is asked again in a while")
)

// inquire asks all servers that the cursor leaves to be listed, and waits for those
// that answer in time.
func (x *exchange) inquire(kind rewrite.Kind, cursor *rewrite.Cursor, servers []*grants.Server) []*inquiry {
	x.shared = true
	l := listing{x: x, kind: kind, arrivals: make(chan bool, len(servers))}
	l.patient = cursor == nil && x.hasNothing(kind, servers)
	l.startAll(cursor, servers)
	x.await(&l)
	return l.inquiries
}

// listing is one list on its way.
type listing struct {
	x         *exchange
	kind      rewrite.Kind
	patient   bool // the client would get nothing at all without those that are late
	inquiries []*inquiry
	arrivals  chan bool
}

// hasNothing reports whether the client has no list of any of the servers, some of
// which may be starting.
func (x *exchange) hasNothing(kind rewrite.Kind, servers []*grants.Server) bool {
	starting, now := false, time.Now()
	for _, server := range servers {
		if x.handler.pages.get(pageKey{client: x.client(), server: server.ID, kind: kind}) != nil {
			return false
		}
		starting = starting || x.handler.servers.of(server.ID).mayBeStarting(x.client(), now)
	}
	return starting
}

func (l *listing) start(server *grants.Server, position rewrite.Position) {
	q := &inquiry{
		x: l.x, server: server, kind: l.kind, position: position, patient: l.patient,
		done: make(chan struct{}), arrivals: l.arrivals,
	}
	l.inquiries = append(l.inquiries, q)
	q.start()
}

func (l *listing) startAll(cursor *rewrite.Cursor, servers []*grants.Server) {
	if cursor == nil {
		cursor = &rewrite.Cursor{Next: "0"} // before all names
	}
	for _, position := range cursor.Open {
		for _, server := range servers {
			if server.Name == position.Server {
				l.start(server, position)
			}
		}
	}
	if cursor.Next == "" {
		return
	}
	for _, server := range servers {
		if server.Name >= cursor.Next {
			l.start(server, rewrite.Position{Server: server.Name})
		}
	}
}

// start asks the server, unless it is known that this is of no use.
func (q *inquiry) start() {
	known := q.x.handler.servers.of(q.server.ID)
	d, described := known.describe()
	switch {
	case described && !hasList(d.has, q.kind):
		q.settle(nil, errNoList)
	case q.first() && known.isSlow(q.x.client(), time.Now()) && !q.patient, known.strays(q.x.client()) >= maxStrays:
		q.settle(nil, errSlow)
	default:
		go q.run()
	}
}

// hasList reports whether a server with these capabilities has such a list. All
// are asked for tools: that is what most are there for, whatever they say.
func hasList(has capabilities, kind rewrite.Kind) bool {
	switch kind {
	case rewrite.Tools:
		return true
	case rewrite.Prompts:
		return has.prompts
	default:
		return has.resources
	}
}

// first reports whether it is about the first page of the server's list.
func (q *inquiry) first() bool { return q.position.First() }

func (q *inquiry) key() pageKey {
	return pageKey{client: q.x.client(), server: q.server.ID, kind: q.kind}
}

// run asks the server, also when nobody waits any more.
func (q *inquiry) run() {
	ctx, cancel := q.x.detached()
	defer cancel()
	page, err := q.ask(ctx)
	if errors.Is(err, errLost) {
		page, err = q.ask(ctx)
	}
	for pause := auditPause; pause < maxAuditPause && isUnaudited(err); pause *= 2 {
		select {
		case <-time.After(pause):
			page, err = q.ask(ctx)
		case <-ctx.Done():
		}
	}
	if err == nil && q.first() {
		q.x.handler.pages.put(q.key(), page)
	}
	q.settle(page, err)
	q.come()
}

// over reports whether the outcome is there.
func (q *inquiry) over() bool {
	select {
	case <-q.done:
		return true
	default:
		return false
	}
}

// A list of hundreds of servers is hundreds of decisions at once. Where the machine is
// too busy to write them all in time, those that are left are made again.
const (
	auditPause    = 100 * time.Millisecond
	maxAuditPause = 10 * time.Second
)

// isUnaudited reports whether the server was not asked since the decision could not
// be recorded.
func isUnaudited(err error) bool {
	var refusal *access.Refusal
	return errors.As(err, &refusal) && refusal.Reason == access.ReasonAuditUnavailable
}

// settle sets the outcome.
func (q *inquiry) settle(page *rewrite.Page, err error) {
	q.page, q.err = page, err
	close(q.done)
	// All are asked for tools, and a client without any is of no use; of the
	// others a server may well have none.
	q.arrivals <- err == nil && len(page.Entries) > 0 || q.kind != rewrite.Tools && (err == nil || errors.Is(err, errNoList))
}

// message is the client's, with the server's own cursor.
func (q *inquiry) message() (*mcp.Message, error) {
	m, position := q.x.message, q.position
	if !position.Empty {
		position = rewrite.Position{Cursor: position.Cursor}
	}
	data, err := withCursorAt(m.Data, m.Params, position)
	if err != nil {
		return nil, err
	}
	if len(data) == len(m.Data) && &data[0] == &m.Data[0] {
		return m, nil
	}
	return mcp.ParseMessage(data)
}

// ask asks the server once.
func (q *inquiry) ask(ctx context.Context) (*rewrite.Page, error) {
	x := q.x
	p := x.part(ctx, x.partID(q.server.Name), http.MethodPost, q.server.Name)
	defer p.end()
	switch {
	case p.refusal == nil:
	case p.refusal.Status == http.StatusServiceUnavailable:
		return nil, p.refusal
	default:
		return nil, errNoList // just now taken from the client
	}
	v, err := x.way(p)
	if err != nil {
		return nil, err
	}
	if v.leg != nil && !hasList(v.has, q.kind) {
		return nil, errNoList
	}
	message, err := q.message()
	if err != nil {
		return nil, err
	}
	c, err := v.cross(x, message)
	if err != nil {
		return nil, err
	}
	v.use()
	defer v.release(x)
	answer, err := p.fetch(v.header(x, x.message.Method, ""), c.message)
	if answer.verdict != holds {
		v.drop(x, answer.verdict, answer.status, answer.reason)
		return nil, fmt.Errorf("%w: status %d", errLost, answer.status)
	}
	if err != nil {
		return nil, err
	}
	page, err := rewrite.ReadPage(q.kind, q.server.Name, answer.body)
	var refused *rewrite.RPCError
	switch {
	case errors.As(err, &refused) && refused.Code == protocol.CodeMethodNotFound:
		return nil, errNoList
	case err != nil && v.session == "" && !teachesNothing(answer.status):
		p.known().forget() // perhaps it does not speak this era any more
		fallthrough
	case err != nil:
		return nil, fmt.Errorf("status %d: %w", answer.status, err)
	}
	if v.kind == paired || v.kind == hidden {
		page.Empty = false // of the older era, in which many write "" on the last page
	}
	if page.Missing > 0 && p.known().complains(q.kind, time.Now()) {
		for _, left := range page.LeftOut {
			x.handler.log.Warn("an entry is left out of the lists of /mcp",
				"server", q.server.Name, "list", q.kind.Method(), "name", left.Name, "error", left.Err, "left_out", page.Missing)
		}
	}
	return page, nil
}

// await waits for all servers that answer in time.
func (x *exchange) await(l *listing) {
	w := x.handler.waits()
	if !l.patient {
		w.first = 0
	}
	w.await(x.r.Context(), len(l.inquiries), false, l.arrivals)
	for _, q := range l.inquiries {
		if x.r.Context().Err() == nil {
			q.note()
		} else if !q.over() {
			q.leave()
		}
	}
}

// note records whether the server was there in time.
func (q *inquiry) note() {
	h := q.x.handler
	known := h.servers.of(q.server.ID)
	err := errLate
	if q.over() {
		err = q.err
	} else {
		q.leave()
		go q.follow()
		if q.patient {
			known.tried(q.x.client(), true, time.Now())
		}
	}
	absent := err != nil && !errors.Is(err, errNoList)
	if !errors.Is(err, errSlow) {
		known.timed(q.x.client(), !errors.Is(err, errLate), time.Now())
	}
	if absent && h.options.Observer != nil {
		h.options.Observer.ListAbsent(q.server.Name, q.kind.Method())
	}
	switch report := known.missing(q.x.client(), absent, time.Now()); {
	case absent && report:
		h.log.Warn("a server is absent from the lists of /mcp", "server", q.server.Name, "list", q.kind.Method(), "error", err)
	case report:
		h.log.Info("a server is in the lists of /mcp again", "server", q.server.Name)
	}
}

// follow waits for a server that was late, and tells the client of its list.
func (q *inquiry) follow() {
	<-q.done
	if q.err == nil {
		q.x.handler.servers.of(q.server.ID).timed(q.x.client(), true, time.Now())
		q.x.handler.watchers.tell(q.x.client(), changedBy(q.kind))
	}
}

// result returns the server's page: the last good one if it has not answered.
// There is nothing to be listed where it has no such list.
func (q *inquiry) result() (page *rewrite.Page, there bool) {
	select {
	case <-q.done:
		if q.err == nil {
			return q.page, true
		}
		if errors.Is(q.err, errNoList) {
			return nil, false
		}
	default:
	}
	if q.first() {
		page = q.x.handler.pages.get(q.key())
	}
	return page, true
}

// allows is the client's tool rules of the present, for lists of the past.
func (q *inquiry) allows() func(string) bool {
	if q.kind != rewrite.Tools {
		return nil
	}
	rules := q.x.request.Grant.Tools(q.server.Name)
	if rules == nil {
		return nil
	}
	return rules.Allows
}
