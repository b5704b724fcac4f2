package aggregate

import (
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

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
	version      string // of the session
	instructions string
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
		instructions: m.Result.Instructions,
	}, nil
}

// support says whether a server supports versions with sessions, or the stateless one.
type support int

const (
	unknown support = iota
	supported
	unsupported
)

// serverState is what the gateway knows about one server. The maps are by the client's id.
// A server may be slow for one client alone: a child process is started for each.
type serverState struct {
	endsSessions atomic.Bool // it has ended an implicit session

	mu                  sync.Mutex
	stateless, sessions support
	until               time.Time // of both
	described           bool
	last                description

	abandoned  map[string]int             // list requests that run although the client has given up
	slow       map[string]time.Time       // until when lists leave the server out
	firstWait  map[string]time.Time       // when the client last waited in vain for a server that may be starting
	absent     map[string]struct{}        // clients whose last list lacked the server
	leftOut    map[rewrite.Kind]time.Time // when it was last logged that entries are left out
	reported   time.Time                  // when it was logged that the server is absent; zero: it is not
	lastAbsent time.Time                  // when it was absent last
}

// versions returns which versions the server supports.
func (s *serverState) versions(now time.Time) (stateless, sessions support) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.After(s.until) {
		s.stateless, s.sessions = unknown, unknown
	}
	return s.stateless, s.sessions
}

// learn notes which versions the server supports. An unknown one changes nothing.
func (s *serverState) learn(stateless, sessions support, d *description) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stateless != unknown {
		s.stateless = stateless
	}
	if sessions != unknown {
		s.sessions = sessions
	}
	s.until = time.Now().Add(versionsFor)
	if d != nil {
		s.described, s.last = true, *d
	}
}

// forgetVersions makes the next request ask the server again which versions it supports.
func (s *serverState) forgetVersions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stateless, s.sessions = unknown, unknown
}

// description returns the server's last description.
func (s *serverState) description() (last description, described bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last, s.described
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

// serverStates are those of all servers, by the registration's id: another registration
// may get the same name.
type serverStates struct{ byID sync.Map }

func (s *serverStates) of(id string) *serverState {
	if found, ok := s.byID.Load(id); ok {
		return found.(*serverState)
	}
	found, _ := s.byID.LoadOrStore(id, &serverState{})
	return found.(*serverState)
}

// retain drops registrations that have ended.
func (s *serverStates) retain(registered func(id string) bool) {
	s.byID.Range(func(id, _ any) bool {
		if !registered(id.(string)) {
			s.byID.Delete(id)
		}
		return true
	})
}
