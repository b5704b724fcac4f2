package aggregate

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// leg is a session's way to one server. It is made ready by the first request
// that needs it.
type leg struct {
	session *session
	server  *grants.Server

	turn   chan struct{} // holds a value while somebody makes it ready
	lastID atomic.Int64  // of requests in a session that the gateway holds

	answers *rate.Limiter // of questions that the server asks in it

	mu    sync.Mutex
	ready *way
}

// leg returns the session's leg to the server.
func (s *session) leg(server *grants.Server) *leg {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.legs[server.Name]
	if l == nil || l.server.ID != server.ID {
		l = &leg{session: s, server: server, turn: make(chan struct{}, 1), answers: rate.NewLimiter(answersPerSecond, answersAtOnce)}
		s.legs[server.Name] = l
	}
	return l
}

// way returns the way to the part's server.
func (s *session) way(p *part) (*way, error) {
	l := s.leg(p.server())
	if v := l.way(); v != nil {
		s.attend(p.x, v)
		return v, nil
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-p.context.Done():
		return nil, context.Cause(p.context)
	}
	if v := l.way(); v != nil {
		return v, nil
	}
	v, err := l.begin(p)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.ready = v
	l.mu.Unlock()
	s.attend(p.x, v)
	return v, nil
}

// attend has somebody listen in the session with the server, if nobody does. A
// session of one stream has that.
func (s *session) attend(x *exchange, v *way) {
	if s.table != nil {
		x.attend(v)
	}
}

func (l *leg) way() *way {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ready
}

// lost drops a way whose session has ended: the next request begins another.
func (v *way) lost() {
	if v.leg == nil {
		return
	}
	v.leg.mu.Lock()
	defer v.leg.mu.Unlock()
	if v.leg.ready == v {
		v.leg.ready = nil
	}
}

// begin finds out how to speak with the server, in the client's own era if it
// can be.
func (l *leg) begin(p *part) (*way, error) {
	_, sessions := p.known().eras(time.Now())
	if sessions != unspoken {
		v, err := l.greet(p)
		var refused *serverError
		if err == nil && v.session == "" && v.kind == paired {
			if stateless, err := p.statelessEra(); err == nil && stateless {
				v.listening = &way{kind: raised, server: v.server, leg: l, has: v.has}
			}
		}
		if !errors.As(err, &refused) {
			return v, err
		}
		if refused.isOfEra() && l.session.helloIsUsual() {
			p.known().learn(unknown, unspoken, nil)
		}
	}
	if l.session.isHidden {
		p.known().forget() // it spoke neither: something else may be wrong
		return nil, errNoEra
	}
	stateless, err := p.statelessEra()
	if err != nil {
		return nil, err
	}
	if !stateless {
		p.known().forget()
		return nil, errNoEra
	}
	d, _ := p.known().describe()
	return &way{kind: raised, server: l.server.Name, leg: l, has: d.has}, nil
}

// greet begins a session with the server: with the client's own words, so that
// it is offered what the client can do.
func (l *leg) greet(p *part) (*way, error) {
	x := p.x
	ask := x.part(p.context, x.partID(l.server.Name), http.MethodPost, l.server.Name)
	defer ask.end()
	if ask.refusal != nil {
		return nil, ask.refusal
	}
	answer, err := ask.ask(x.ownHeader(), l.session.hello)
	if err != nil {
		return nil, err
	}
	d, err := describe(answer.body)
	if err != nil {
		return nil, err
	}
	v := &way{
		kind: paired, server: l.server.Name, session: answer.session, version: d.version, leg: l, has: d.has,
	}
	if l.session.isHidden {
		v.kind = hidden
	}
	p.known().learn(unknown, spoken, &d)
	err = x.tell(p.context, v, protocol.Notification(protocol.MethodInitialized, nil))
	switch {
	case err == nil:
	case errors.As(err, new(*serverError)), errors.Is(err, errLost):
		x.handler.log.Debug("a server refuses to hear that its session is ready", "server", v.server, "error", err)
	default:
		return nil, err
	}
	if level := l.session.logLevel(); level != nil && v.has.logging {
		_ = x.tell(p.context, v, level) // log lines are a courtesy
	}
	return v, nil
}

// isOfEra reports whether the server refuses the era, and not what a client has
// said in it: that would be held against the clients that come after.
func (e *serverError) isOfEra() bool {
	switch e.code {
	case protocol.CodeMethodNotFound, protocol.CodeUnsupportedVersion:
		return true
	case 0:
		return e.status == http.StatusNotFound || e.status == http.StatusMethodNotAllowed
	}
	return false
}

// helloIsUsual reports whether the session was begun with a version that there
// is.
func (s *session) helloIsUsual() bool {
	var hello struct {
		Params struct {
			Version string `json:"protocolVersion"`
		} `json:"params"`
	}
	return json.Unmarshal(s.hello, &hello) == nil && protocol.IsSessionVersion(hello.Params.Version)
}
