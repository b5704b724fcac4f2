package aggregate

import (
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// versionsFor is how long the versions of a server are remembered. By then another program
// may be behind its URL.
const versionsFor = 10 * time.Minute

// slowFor is how long lists leave a server out that has let one of them wait in vain.
const slowFor = 5 * time.Second

// capabilities are those of a server that /mcp passes on.
type capabilities struct {
	tools, prompts, resources, subscribe, completions, logging bool
}

// or returns the capabilities that at least one of both has.
func (c capabilities) or(d capabilities) capabilities {
	return capabilities{
		tools: c.tools || d.tools, prompts: c.prompts || d.prompts,
		resources: c.resources || d.resources, subscribe: c.subscribe || d.subscribe,
		completions: c.completions || d.completions, logging: c.logging || d.logging,
	}
}

// list reports whether the server has such a list. All servers are asked for tools, which
// most have, whatever they declare.
func (c capabilities) list(kind rewrite.Kind) bool {
	switch kind {
	case rewrite.Tools:
		return true
	case rewrite.Prompts:
		return c.prompts
	default:
		return c.resources
	}
}

// description is a server's answer to initialize or server/discover.
type description struct {
	has          capabilities
	version      string                // of the session
	instructions unique.Handle[string] // most clients are told the same
}

// maxVersion bounds a server's protocol version, which is kept with each session and is
// sent with each request.
const maxVersion = 64

var errLongVersion = errors.New("the server's protocol version is longer than any")

// readDescription reads a response to initialize or server/discover.
func readDescription(message []byte) (description, error) {
	var m struct {
		Result struct {
			ProtocolVersion string `json:"protocolVersion"`
			Instructions    string `json:"instructions"`
			Capabilities    struct {
				Tools, Prompts, Completions, Logging *struct{}
				Resources                            *struct{ Subscribe bool }
			} `json:"capabilities"`
		} `json:"result"`
	}
	if err := json.Unmarshal(message, &m); err != nil {
		return description{}, err
	}
	if len(m.Result.ProtocolVersion) > maxVersion {
		return description{}, errLongVersion
	}
	if len(m.Result.Instructions) > maxInstructions {
		m.Result.Instructions = "" // they would be left out anyway
	}
	c := m.Result.Capabilities
	return description{
		has: capabilities{
			tools: c.Tools != nil, prompts: c.Prompts != nil,
			resources: c.Resources != nil, subscribe: c.Resources != nil && c.Resources.Subscribe,
			completions: c.Completions != nil, logging: c.Logging != nil,
		},
		version:      m.Result.ProtocolVersion,
		instructions: unique.Make(m.Result.Instructions),
	}, nil
}

// support says whether a server supports versions with sessions, or the stateless one.
type support int

const (
	unknown support = iota
	supported
	unsupported
)

// gatewayItself stands for a client where a server was asked in the gateway's own name.
const gatewayItself = ""

// serverState is what the gateway knows about one server. The maps are by the client's id.
// A server may be slow for one client alone: a child process is started for each.
type serverState struct {
	endsSessions atomic.Bool // it has ended an implicit session

	mu        sync.Mutex
	stateless support
	until     time.Time // of stateless

	// What the server has answered to a client's own initialize counts for that client
	// alone: the client may have caused it. Answers to the gateway itself count for the
	// others.
	descriptions map[string]description
	noSessions   map[string]time.Time // until when it is taken for one without sessions

	abandoned  map[string]int             // list requests that run although the client has given up
	slow       map[string]time.Time       // until when lists leave the server out
	firstWait  map[string]time.Time       // when the client last waited in vain for a server that may be starting
	absent     map[string]struct{}        // clients whose last list lacked the server
	leftOut    map[rewrite.Kind]time.Time // when it was last logged that entries are left out
	reported   time.Time                  // when it was logged that the server is absent; zero: it is not
	lastAbsent time.Time                  // when it was absent last
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
func (s *serverState) refusesSessions(client string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Before(s.noSessions[client])
}

// noteNoSessions notes that the server refuses the client's sessions.
func (s *serverState) noteNoSessions(client string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noSessions = put(s.noSessions, client, now.Add(versionsFor))
}

// forgetVersions makes the next request ask the server again which versions it supports.
func (s *serverState) forgetVersions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stateless, s.noSessions = unknown, nil
}

// maxDescriptions bounds the clients whose descriptions of a server are kept. For others it
// is asked again.
const maxDescriptions = 1024

// noteDescription notes how the server has described itself to the client.
func (s *serverState) noteDescription(client string, d description) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.descriptions[client]; !there && len(s.descriptions) >= maxDescriptions {
		for other := range s.descriptions {
			if other != gatewayItself {
				delete(s.descriptions, other)
				break
			}
		}
	}
	s.descriptions = put(s.descriptions, client, d)
}

// description returns the server's last description for the client.
func (s *serverState) description(client string) (last description, described bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, described = s.descriptions[client]
	return last, described
}

// isSlow reports whether the client's lists leave the server out. After slowFor, one list
// asks it again.
func (s *serverState) isSlow(client string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, slow := s.slow[client]
	if !slow || now.Before(until) {
		return slow
	}
	s.slow[client] = now.Add(slowFor)
	return false
}

// noteTime notes whether the server has answered the client in time.
func (s *serverState) noteTime(client string, inTime bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if inTime {
		delete(s.slow, client)
		delete(s.firstWait, client)
		return
	}
	s.slow = put(s.slow, client, now.Add(slowFor))
}

// firstWaitEvery is how long a server that has let the client's first list wait in vain
// gets no such wait again.
const firstWaitEvery = versionsFor

// noteFirstWait notes that the client's first list has waited for the server in vain.
func (s *serverState) noteFirstWait(client string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.firstWait = put(s.firstWait, client, now)
}

// mayBeStarting reports whether the client has not waited for the server in vain.
func (s *serverState) mayBeStarting(client string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, waited := s.firstWait[client]
	return !waited || now.Sub(at) >= firstWaitEvery
}

// countAbandoned changes the number of abandoned list requests.
func (s *serverState) countAbandoned(client string, change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.abandoned = put(s.abandoned, client, s.abandoned[client]+change)
	if s.abandoned[client] <= 0 {
		delete(s.abandoned, client)
	}
}

func (s *serverState) abandonedLists(client string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.abandoned[client]
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
func (s *serverState) noteAbsence(client string, absent bool, now time.Time) (mayLog bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if absent {
		s.absent = put(s.absent, client, struct{}{})
		s.lastAbsent = now
		if mayLog = s.reported.IsZero() || now.Sub(s.reported) >= logEvery; mayLog {
			s.reported = now
		}
		return mayLog
	}
	delete(s.absent, client)
	if mayLog = !s.reported.IsZero() && now.Sub(s.lastAbsent) >= slowFor; mayLog {
		s.reported = time.Time{}
	}
	return mayLog
}

// wasAbsent reports whether the client's last list lacked the server.
func (s *serverState) wasAbsent(client string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, absent := s.absent[client]
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

// stateKey says whose state it is: by the registration's id, since another registration may
// get the same name. What a child process or a channel of one client answers, the client may
// have caused: so each client has a state of such a server.
type stateKey struct {
	id     string
	client string // "" where all clients reach the same server
}

// serverStates are those of all servers, by their stateKey.
type serverStates struct{ byKey sync.Map }

func (s *serverStates) of(key stateKey) *serverState {
	if found, ok := s.byKey.Load(key); ok {
		return found.(*serverState)
	}
	found, _ := s.byKey.LoadOrStore(key, &serverState{})
	return found.(*serverState)
}

// stateOf returns what the gateway knows about the server.
func (x *exchange) stateOf(server *grants.Server) *serverState {
	key := stateKey{id: server.ID}
	if server.Transport != grants.TransportHTTP && !server.Shared {
		key.client = x.client()
	}
	return x.handler.servers.of(key)
}

// retain drops registrations that have ended.
func (s *serverStates) retain(registered func(id string) bool) {
	s.byKey.Range(func(key, _ any) bool {
		if !registered(key.(stateKey).id) {
			s.byKey.Delete(key)
		}
		return true
	})
}
