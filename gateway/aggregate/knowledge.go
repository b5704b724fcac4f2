package aggregate

import (
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// knownFor is how long is believed what a server has shown of itself: it may be
// another one behind the same URL by then.
const knownFor = 10 * time.Minute

// slowFor is how long lists do without a server that has let one of them wait
// for all of its time.
const slowFor = 5 * time.Second

// capabilities are what a server has, as far as this endpoint carries it.
type capabilities struct {
	tools, prompts, resources, subscribe, completions, logging bool
}

// or returns what at least one of both has.
func (c capabilities) or(d capabilities) capabilities {
	return capabilities{
		tools: c.tools || d.tools, prompts: c.prompts || d.prompts,
		resources: c.resources || d.resources, subscribe: c.subscribe || d.subscribe,
		completions: c.completions || d.completions, logging: c.logging || d.logging,
	}
}

// description is what a server says of itself, at the start of a session or when
// it is discovered.
type description struct {
	has          capabilities
	version      string // of the session
	instructions string
}

// maxVersion bounds the version that a server chooses: it is kept with each
// session, and said in each request.
const maxVersion = 64

var errVersion = errors.New("the server's protocol version is longer than any")

// describe reads a result of initialize or server/discover.
func describe(message []byte) (description, error) {
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
		return description{}, errVersion
	}
	if len(m.Result.Instructions) > maxInstructions {
		m.Result.Instructions = "" // it would be left out in any case
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

// era tells whether a server speaks one of the protocol's eras.
type era int

const (
	unknown era = iota
	spoken
	unspoken
)

// known is what is known of one server, whoever asked.
type known struct {
	endsSessions atomic.Bool // it has ended one that the gateway held for a client without

	mu                  sync.Mutex
	stateless, sessions era
	until               time.Time // of both
	described           bool
	description         description
	stray               map[string]int             // lists on their way that nobody waits for, by the client's id
	complained          map[rewrite.Kind]time.Time // when entries of it were last said to be left out
	slow                map[string]time.Time       // until when lists of a client do without it, by the client's id
	vain                map[string]time.Time       // when a client has waited for it in vain, likewise
	absent              map[string]struct{}        // clients, by id, whose last list did without it
	reported            time.Time                  // when it was logged that it is absent from lists; zero: it is not
	missed              time.Time                  // when it was last
}

// eras returns which eras the server speaks.
func (k *known) eras(now time.Time) (stateless, sessions era) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now.After(k.until) {
		k.stateless, k.sessions = unknown, unknown
	}
	return k.stateless, k.sessions
}

// learn notes what the server has shown. An era that is unknown changes nothing.
func (k *known) learn(stateless, sessions era, d *description) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if stateless != unknown {
		k.stateless = stateless
	}
	if sessions != unknown {
		k.sessions = sessions
	}
	k.until = time.Now().Add(knownFor)
	if d != nil {
		k.described, k.description = true, *d
	}
}

// forget has the server asked again which eras it speaks.
func (k *known) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stateless, k.sessions = unknown, unknown
}

// describe returns what the server last said of itself.
func (k *known) describe() (description, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.description, k.described
}

// isSlow reports whether lists of the client do without the server. One of them
// asks it again, after a while. It may be slow for one client alone: a server
// that is a child process is started for each.
func (k *known) isSlow(client string, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	until, slow := k.slow[client]
	if !slow || now.Before(until) {
		return slow
	}
	k.slow[client] = now.Add(slowFor)
	return false
}

// timed notes whether the server has answered the client in time.
func (k *known) timed(client string, inTime bool, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if inTime {
		delete(k.slow, client)
		delete(k.vain, client)
		return
	}
	if k.slow == nil {
		k.slow = make(map[string]time.Time)
	}
	k.slow[client] = now.Add(slowFor)
}

// reportEvery is how often it is logged that a server is absent from lists.
const reportEvery = time.Minute

// missing notes whether the server is absent from a list, and reports whether
// that is worth a line in the log: lists of many clients are asked for at once,
// and it may be absent from some of them.
func (k *known) missing(client string, absent bool, now time.Time) (report bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !absent {
		delete(k.absent, client)
	}
	switch {
	case absent:
		if k.absent == nil {
			k.absent = make(map[string]struct{})
		}
		k.absent[client] = struct{}{}
		report = k.reported.IsZero() || now.Sub(k.reported) >= reportEvery
		if report {
			k.reported = now
		}
		k.missed = now
	case !k.reported.IsZero() && now.Sub(k.missed) >= slowFor:
		report, k.reported = true, time.Time{}
	}
	return report
}

// wasMissing reports whether the client's last list did without the server.
func (k *known) wasMissing(client string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, absent := k.absent[client]
	return absent
}

// knowledge is what is known of all servers, by registration.
type knowledge struct{ servers sync.Map }

// of returns what is known of the server. Names may be given anew to other
// registrations, whose ids differ.
func (k *knowledge) of(id string) *known {
	if found, ok := k.servers.Load(id); ok {
		return found.(*known)
	}
	found, _ := k.servers.LoadOrStore(id, &known{})
	return found.(*known)
}

// retain drops registrations that have ended.
func (k *knowledge) retain(registered func(id string) bool) {
	k.servers.Range(func(id, _ any) bool {
		if !registered(id.(string)) {
			k.servers.Delete(id)
		}
		return true
	})
}
