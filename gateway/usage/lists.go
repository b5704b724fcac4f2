package usage

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/itemlist"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

const (
	// maxTools bounds the tools that are known of a server. The engine has the same bound.
	maxTools = 512

	// maxServers bounds the registrations whose tools are known.
	maxServers = 4096

	// MaxList bounds an answer whose tools become known, in bytes.
	MaxList = 1 << 20

	// listQueue is how many answers may wait to be read. Those beyond are not.
	listQueue = 16

	// listRate is how many answers are read a second of servers that have listed their tools
	// today, since a client may ask without end.
	listRate, listBurst = 20, 100
)

// lists has the names of the tools that servers have listed.
type lists struct {
	known sync.Map // registration -> *listed
	size  atomic.Int64
	queue chan answer
	limit *rate.Limiter

	adding sync.Mutex // of those who add
}

// listed are the tools of a server. The map is never changed: another one takes its place.
type listed struct {
	tools atomic.Pointer[map[string]struct{}]
	day   atomic.Int32 // of the last list
}

// answer is a server's answer to a request for its tools.
type answer struct {
	registration string
	day          check.Day
	events       bool // it is a stream of them
	data         []byte
}

// run reads answers until ctx is done.
func (l *lists) run(ctx context.Context) {
	for {
		select {
		case a := <-l.queue:
			l.read(a)
		case <-ctx.Done():
			return
		}
	}
}

// readAll reads the answers that wait.
func (l *lists) readAll() {
	for {
		select {
		case a := <-l.queue:
			l.read(a)
		default:
			return
		}
	}
}

// has reports whether the server has listed the tool.
func (l *lists) has(registration, tool string) bool {
	found, ok := l.known.Load(registration)
	if !ok {
		return false
	}
	_, has := (*found.(*listed).tools.Load())[tool]
	return has
}

// WantsList reports whether to give Listed the answer to a request for the server's tools. The
// first of a day is always wanted: a client that lists the tools of one server without end
// must not keep those of another from becoming known.
func (r *Recorder) WantsList(registration string) bool {
	return !r.lists.isRead(registration, check.DayOf(r.options.Now())) || r.lists.limit.Allow()
}

// isRead reports whether an answer of the server was read on the day, with tools or without.
func (l *lists) isRead(registration string, today check.Day) bool {
	found, known := l.known.Load(registration)
	return known && found.(*listed).day.Load() == int32(today) || !known && l.size.Load() >= maxServers
}

// Listed takes the answer to a request for the tools of the server, and keeps its bytes. It
// does not wait: the answer is read later. One that cannot be read names no tool.
func (r *Recorder) Listed(registration string, data []byte, events bool) {
	select {
	case r.lists.queue <- answer{registration: registration, day: check.DayOf(r.options.Now()), events: events, data: data}:
	default:
	}
}

func (l *lists) read(a answer) {
	var names []string
	each := func(tool string) {
		if tool != "" && check.ToolName(tool) == nil && len(names) < maxTools {
			names = append(names, tool)
		}
	}
	if !a.events {
		_ = itemlist.Names(jsonscan.WithoutMark(a.data), each)
		l.add(a.registration, names, a.day)
		return
	}
	decoder := sse.NewDecoder(bytes.NewReader(a.data), MaxList)
	for event, err := decoder.Next(); err == nil; event, err = decoder.Next() {
		if event.IsMessage() {
			_ = itemlist.Names(event.Data, each)
		}
	}
	l.add(a.registration, names, a.day)
}

// add adds tools of a server.
func (l *lists) add(registration string, names []string, day check.Day) {
	l.adding.Lock()
	defer l.adding.Unlock()
	found, known := l.known.Load(registration)
	if !known {
		if l.size.Load() >= maxServers {
			return
		}
		first := &listed{}
		first.tools.Store(&map[string]struct{}{})
		l.known.Store(registration, first)
		l.size.Add(1)
		found = first
	}
	server := found.(*listed)
	server.day.Store(int32(day))
	held := *server.tools.Load()
	next := make(map[string]struct{}, len(held)+len(names))
	for name := range held {
		next[name] = struct{}{}
	}
	for _, name := range names {
		if len(next) < maxTools {
			next[name] = struct{}{}
		}
	}
	if len(next) > len(held) {
		server.tools.Store(&next)
	}
}

// prune forgets servers that have listed nothing since yesterday, if there is little room.
func (l *lists) prune(today check.Day) {
	if l.size.Load() < maxServers/2 {
		return
	}
	l.known.Range(func(registration, found any) bool {
		if found.(*listed).day.Load() < int32(today)-1 {
			l.known.Delete(registration)
			l.size.Add(-1)
		}
		return true
	})
}
