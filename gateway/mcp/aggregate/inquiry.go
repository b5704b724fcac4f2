package aggregate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/gateway/broker"
	"vault-plugin-secrets-mcp/gateway/mcp/rewrite"
)

// inquiry is one server's part in a list.
type inquiry struct {
	x        *exchange
	server   *broker.Server
	kind     rewrite.Kind
	position rewrite.Position
	done     chan struct{} // closed when page and err are set
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

// inquire asks all servers that the cursor leaves to be listed.
func (x *exchange) inquire(kind rewrite.Kind, cursor *rewrite.Cursor, servers []*broker.Server) []*inquiry {
	var all []*inquiry
	start := func(server *broker.Server, position rewrite.Position) {
		q := &inquiry{x: x, server: server, kind: kind, position: position, done: make(chan struct{})}
		all = append(all, q)
		q.start()
	}
	if cursor == nil {
		cursor = &rewrite.Cursor{Next: "0"} // before all names
	}
	for _, position := range cursor.Open {
		for _, server := range servers {
			if server.Name == position.Server {
				start(server, position)
			}
		}
	}
	if cursor.Next == "" {
		return all
	}
	for _, server := range servers {
		if server.Name >= cursor.Next {
			start(server, rewrite.Position{Server: server.Name})
		}
	}
	return all
}

// start asks the server, unless it is known that this is of no use.
func (q *inquiry) start() {
	known := q.x.handler.servers.of(q.server.ID)
	d, described := known.describe()
	switch {
	case described && !hasList(d.has, q.kind):
		q.err = errNoList
		close(q.done)
	case q.first() && known.isSlow(q.x.client(), time.Now()), known.strays(q.x.client()) >= maxStrays:
		q.err = errSlow
		close(q.done)
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
func (q *inquiry) first() bool { return q.position.Cursor == "" }

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
	if err == nil && q.first() {
		q.x.handler.pages.put(q.key(), page)
	}
	q.page, q.err = page, err
	close(q.done)
	q.come()
}

// ask asks the server once.
func (q *inquiry) ask(ctx context.Context) (*rewrite.Page, error) {
	x := q.x
	p := x.part(ctx, x.partID(q.server.Name), http.MethodPost, q.server.Name)
	defer p.end()
	if p.refusal != nil {
		return nil, errNoList // just now taken from the client
	}
	v, err := x.way(p)
	if err != nil {
		return nil, err
	}
	if v.leg != nil && !hasList(v.has, q.kind) {
		return nil, errNoList
	}
	message, err := withCursor(x.message.Data, x.message.Params, q.position.Cursor)
	if err != nil {
		return nil, err
	}
	c, err := v.cross(x, message)
	if err != nil {
		return nil, err
	}
	answer, err := p.fetch(v.header(x, x.message.Method, ""), c.body)
	if errors.Is(err, errLost) {
		v.lost()
	}
	if err != nil {
		return nil, err
	}
	page, err := rewrite.ReadPage(q.kind, q.server.Name, answer.body)
	var refused *rewrite.RPCError
	switch {
	case errors.As(err, &refused) && refused.Code == codeMethodNotFound:
		return nil, errNoList
	case err != nil && v.session == "":
		p.known().forget() // perhaps it does not speak this era any more
		fallthrough
	case err != nil:
		return nil, fmt.Errorf("status %d: %w", answer.status, err)
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
func (x *exchange) await(inquiries []*inquiry) {
	timer := time.NewTimer(x.handler.budget)
	defer timer.Stop()
	late := false
	for _, q := range inquiries {
		if !late {
			select {
			case <-q.done:
			case <-timer.C:
				late = true
			case <-x.r.Context().Done():
				for _, q := range inquiries {
					q.leave()
				}
				return
			}
		}
		q.note()
	}
}

// note records whether the server was there in time.
func (q *inquiry) note() {
	h := q.x.handler
	known := h.servers.of(q.server.ID)
	err := errLate
	select {
	case <-q.done:
		err = q.err
	default:
		q.leave()
		go q.follow()
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
