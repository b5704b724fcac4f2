package aggregate

import (
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// versionsFor is how long the versions of a server are remembered. By then another program
// may be behind its URL.
const versionsFor = 10 * time.Minute

// slowFor is how long lists leave a server out that has let one of them wait in vain.
const slowFor = 5 * time.Second

// support says whether a server supports versions with sessions, or the stateless one.
type support int

const (
	unknown support = iota
	supported
	unsupported
)

// gatewayItself stands for a client where a server was asked in the gateway's own name.
var gatewayItself grants.Principal

// serverState is what the gateway knows about one server. The maps are by principal.
// A server may be slow for one client alone: a child process is started for each.
type serverState struct {
	endsSessions atomic.Bool // it has ended an implicit session

	mu        sync.Mutex
	stateless support
	until     time.Time // of stateless

	// What the server has answered to a client's own initialize counts for that client
	// alone: the client may have caused it. Answers to the gateway itself count for the
	// others.
	descriptions map[grants.Principal]messages.Description
	route        *route                         // of clients without sessions; nil: it is to be made
	noSessions   map[grants.Principal]time.Time // until when it is taken for one without sessions

	abandoned  map[grants.Principal]int       // list requests that run although the client has given up
	slow       map[grants.Principal]time.Time // until when lists leave the server out
	firstWait  map[grants.Principal]time.Time // when the client last waited in vain for a server that may be starting
	absent     map[grants.Principal]struct{}  // clients whose last list lacked the server
	leftOut    map[rewrite.Kind]time.Time     // when it was last logged that entries are left out
	reported   time.Time                      // when it was logged that the server is absent; zero: it is not
	lastAbsent time.Time                      // when it was absent last
}

// supportsStateless returns whether the server supports the stateless version.
func (s *serverState) supportsStateless(now time.Time) support {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.After(s.until) {
		s.stateless = unknown
	}
	return s.stateless
}

// noteStateless notes whether the server supports the stateless version.
func (s *serverState) noteStateless(stateless support) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stateless, s.until = stateless, time.Now().Add(versionsFor)
}

// refusesSessions reports whether the server has refused the client's sessions.
func (s *serverState) refusesSessions(principal grants.Principal, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Before(s.noSessions[principal])
}

// noteNoSessions notes that the server refuses the client's sessions.
func (s *serverState) noteNoSessions(principal grants.Principal, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noSessions = putBounded(s.noSessions, principal, now.Add(versionsFor))
}

// forgetVersions makes the next request ask the server again which versions it supports.
func (s *serverState) forgetVersions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stateless, s.noSessions = unknown, nil
}

const (
	// maxClients bounds the clients of whom something is kept with one server. For others it
	// is asked again.
	maxClients = 1024

	// maxPrivateStates bounds the states of servers that are a client's own. One that was not
	// used for the longest time makes room, and is learned again.
	maxPrivateStates = 8192
)

// noteDescription notes how the server has described itself to the client.
func (s *serverState) noteDescription(principal grants.Principal, d messages.Description) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.descriptions, s.route = putBounded(s.descriptions, principal, d), nil
}

// statelessRoute returns the route of clients without sessions to the server of that name, which
// has none either. It has no state.
func (s *serverState) statelessRoute(server string) *route {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.route == nil || s.route.server != server {
		s.route = &route{mode: modeStateless, server: server, has: s.descriptions[gatewayItself].Has}
	}
	return s.route
}

// description returns the server's last description for the client.
func (s *serverState) description(principal grants.Principal) (last messages.Description, described bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, described = s.descriptions[principal]
	return last, described
}

// isSlow reports whether the client's lists leave the server out. After slowFor, one list
// asks it again.
func (s *serverState) isSlow(principal grants.Principal, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, slow := s.slow[principal]
	if !slow || now.Before(until) {
		return slow
	}
	s.slow[principal] = now.Add(slowFor)
	return false
}

// noteTime notes whether the server has answered the client in time.
func (s *serverState) noteTime(principal grants.Principal, inTime bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if inTime {
		delete(s.slow, principal)
		delete(s.firstWait, principal)
		return
	}
	s.slow = put(s.slow, principal, now.Add(slowFor))
}

// firstWaitEvery is how long a server that has let the client's first list wait in vain
// gets no such wait again.
const firstWaitEvery = versionsFor

// noteFirstWait notes that the client's first list has waited for the server in vain.
func (s *serverState) noteFirstWait(principal grants.Principal, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.firstWait = put(s.firstWait, principal, now)
}

// mayBeStarting reports whether the client has not waited for the server in vain.
func (s *serverState) mayBeStarting(principal grants.Principal, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, waited := s.firstWait[principal]
	return !waited || now.Sub(at) >= firstWaitEvery
}

// countAbandoned changes the number of abandoned list requests.
func (s *serverState) countAbandoned(principal grants.Principal, change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandoned = put(s.abandoned, principal, s.abandoned[principal]+change)
	if s.abandoned[principal] <= 0 {
		delete(s.abandoned, principal)
	}
}

func (s *serverState) abandonedLists(principal grants.Principal) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.abandoned[principal]
}

// logEvery is how often the same thing about a server is logged.
const logEvery = time.Minute

// mayLogLeftOut reports whether to log that entries of the list are left out: a server may
// invent others each time.
func (s *serverState) mayLogLeftOut(kind rewrite.Kind, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, ok := s.leftOut[kind]; ok && now.Sub(last) < logEvery {
		return false
	}
	s.leftOut = put(s.leftOut, kind, now)
	return true
}

// noteAbsence notes whether a list lacks the server, and reports whether to log that. Lists
// of many clients run at once, and the server may be absent from some of them.
func (s *serverState) noteAbsence(principal grants.Principal, absent bool, now time.Time) (mayLog bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if absent {
		s.absent = put(s.absent, principal, struct{}{})
		s.lastAbsent = now
		if mayLog = s.reported.IsZero() || now.Sub(s.reported) >= logEvery; mayLog {
			s.reported = now
		}
		return mayLog
	}
	delete(s.absent, principal)
	if mayLog = !s.reported.IsZero() && now.Sub(s.lastAbsent) >= slowFor; mayLog {
		s.reported = time.Time{}
	}
	return mayLog
}

// wasAbsent reports whether the client's last list lacked the server.
func (s *serverState) wasAbsent(principal grants.Principal) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, absent := s.absent[principal]
	return absent
}

// put sets an entry of a map, which it makes when it is needed, and returns the map.
func put[K comparable, V any](m map[K]V, key K, value V) map[K]V {
	if m == nil {
		m = make(map[K]V)
	}
	m[key] = value
	return m
}

// putBounded does so for a map by principal, in which any other principal makes room.
func putBounded[V any](m map[grants.Principal]V, principal grants.Principal, value V) map[grants.Principal]V {
	if _, there := m[principal]; !there && len(m) >= maxClients {
		for other := range m {
			if other != gatewayItself {
				delete(m, other)
				break
			}
		}
	}
	return put(m, principal, value)
}

// stateKey says whose state it is: by the registration's id, since another registration may
// get the same name. What a child process or a channel of one client answers, the client may
// have caused: so each client has a state of such a server.
type stateKey struct {
	id        string
	principal grants.Principal // nobody, where all clients reach the same server
}

// serverStates are those of all servers, by their stateKey.
type serverStates struct {
	common  sync.Map // of servers that all clients reach alike
	private *lru.Cache[stateKey, *serverState]
}

func newServerStates() *serverStates {
	private, err := lru.New[stateKey, *serverState](maxPrivateStates)
	if err != nil {
		panic(err) // only a size that is not positive is an error
	}
	return &serverStates{private: private}
}

func (s *serverStates) of(key stateKey) *serverState {
	if key.principal == (grants.Principal{}) {
		found, ok := s.common.Load(key)
		if !ok {
			found, _ = s.common.LoadOrStore(key, &serverState{})
		}
		return found.(*serverState)
	}
	if found, ok := s.private.Get(key); ok {
		return found
	}
	state := &serverState{}
	if found, ok, _ := s.private.PeekOrAdd(key, state); ok {
		return found
	}
	return state
}

// stateOf returns what the gateway knows about the server.
func (x *exchange) stateOf(server *grants.Server) *serverState {
	key := stateKey{id: server.ID}
	if server.Leases() || server.Transport != grants.TransportHTTP && !server.Shared {
		key.principal = x.principal()
	}
	return x.handler.servers.of(key)
}

// retain drops registrations that have ended.
func (s *serverStates) retain(registered func(id string) bool) {
	s.common.Range(func(key, _ any) bool {
		if !registered(key.(stateKey).id) {
			s.common.Delete(key)
		}
		return true
	})
	for _, key := range s.private.Keys() {
		if !registered(key.id) {
			s.private.Remove(key)
		}
	}
}
