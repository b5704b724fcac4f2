package aggregate

import (
	"time"

	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// listAll asks all servers that the cursor leaves, and waits for those that answer in time.
func (x *exchange) listAll(kind rewrite.Kind, cursor *rewrite.Cursor, servers []*grants.Server) []*listRequest {
	x.shared = true
	l := listRequests{x: x, kind: kind, arrivals: make(chan bool, len(servers))}
	l.patient = cursor == nil && kind != rewrite.Tasks && x.hasNoPages(kind, servers)
	l.startAll(cursor, servers)
	w := x.handler.waits()
	if !l.patient {
		w.first = 0
	}
	began := time.Now()
	l.ask(w.usual)
	w.usual = max(0, w.usual-time.Since(began))
	w.wait(x.r.Context(), len(l.all), false, l.arrivals)
	for _, q := range l.all {
		if x.r.Context().Err() == nil {
			q.report()
		} else if !q.finished() {
			q.abandon()
		}
	}
	return l.all
}

// listRequests are the requests for one list.
type listRequests struct {
	x        *exchange
	kind     rewrite.Kind
	patient  bool // without the servers that are late, the list would be empty
	all      []*listRequest
	toAsk    []*listRequest // those of all whose servers are asked
	arrivals chan bool
}

// hasNoPages reports whether the client has no page of any of the servers, and some of them
// may be starting.
func (x *exchange) hasNoPages(kind rewrite.Kind, servers []*grants.Server) bool {
	starting, now := false, time.Now()
	for _, server := range servers {
		if x.handler.pages.get(pageKey{principal: x.principal(), server: server.ID, kind: kind}) != nil {
			return false
		}
		starting = starting || x.stateOf(server).mayBeStarting(x.principal(), now)
	}
	return starting
}

func (l *listRequests) startAll(cursor *rewrite.Cursor, servers []*grants.Server) {
	if cursor == nil {
		cursor = &rewrite.Cursor{Next: "0"} // sorts before all names
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

// ask asks the servers. The last one, if the client has a page of it, is asked on the goroutine that
// would only wait otherwise: to wake another one costs as much as a request to a server.
func (l *listRequests) ask(usual time.Duration) {
	for i, q := range l.toAsk {
		if i == len(l.toAsk)-1 && !l.patient && q.lastPage() != nil {
			q.runHere(usual)
		} else {
			go q.run()
		}
	}
}

// start has the server asked, unless it is known that this is of no use.
func (l *listRequests) start(server *grants.Server, position rewrite.Position) {
	q := &listRequest{
		x: l.x, server: server, state: l.x.stateOf(server), kind: l.kind, position: position,
		patient: l.patient, done: make(chan struct{}), arrivals: l.arrivals,
	}
	l.all = append(l.all, q)
	switch has, known := l.x.capabilities(server); {
	case known && !has.List(q.kind):
		q.finish(nil, errNoList)
	case position.First() && q.state.isSlow(l.x.principal(), time.Now()) && !q.patient, q.state.abandonedLists(l.x.principal()) >= maxAbandoned:
		q.finish(nil, errSlow)
	default:
		l.toAsk = append(l.toAsk, q)
	}
}
