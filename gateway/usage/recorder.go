package usage

import (
	"cmp"
	"crypto/rand"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/token"
)

// maxRows bounds the rows of clients, tokens and tools together: about 15 MB.
const maxRows = 100_000

// Use is one use that was allowed.
type Use struct {
	Client string // id
	Token  string // accessor; "": not noted
	Server string // name; "": none was used
	// Registration is the server's.
	Registration string
	Tool         string // as the client named it; "": something else of the server
}

// row is something that was used: a client, a token of it, or a tool of a server.
type row struct {
	key
	day atomic.Int32 // the last one on which it was noted
}

// key names a row. Without a server, name is the accessor of a token or, for the client itself,
// "". With one, it is the tool.
type key struct{ client, server, name string }

// Options of a Recorder.
type Options struct {
	Gateway  string // its id: NewID
	Engine   Engine
	Observer Observer // nil: none
	Log      hclog.Logger

	Now func() time.Time // nil: time.Now
}

// Recorder records uses. Any goroutine may call its methods. Run reports.
type Recorder struct {
	options Options
	log     hclog.Logger
	lists   lists

	rows sync.Map // key -> *row
	size atomic.Int64

	unlisted      sync.Map // unlisted -> the registration of its server
	unlistedCount atomic.Int64

	mu     sync.Mutex
	days   []*day // that are not closed, in order
	pruned check.Day
	reach  reach
}

// day has the rows that wait for a report of one day.
type day struct {
	check.Day
	waiting []*row
	lost    int // uses that there was no room for
	told    int // of them, in the log
}

// maxUnlisted bounds the calls by names that no list has had yet. For those beyond, no list is
// awaited.
const maxUnlisted = 1000

// unlisted is a call by a name that no list of the server has had yet. A list may be on its
// way, so the name counts if there is one before the next report.
type unlisted struct {
	key
	day check.Day
}

// NewID returns an id for a gateway, which each start makes.
func NewID() (string, error) { return token.RandomID(rand.Reader, check.GatewayIDLength) }

// New returns a Recorder that has noted nothing.
func New(options Options) *Recorder {
	if options.Now == nil {
		options.Now = time.Now
	}
	r := &Recorder{options: options, log: options.Log}
	r.lists.queue, r.lists.limit = make(chan answer, listQueue), rate.NewLimiter(listRate, listBurst)
	r.days = []*day{{Day: check.DayOf(options.Now())}}
	return r
}

// Used notes a use that began at the time.
func (r *Recorder) Used(u Use, at time.Time) {
	today := check.DayOf(at)
	r.note(key{client: u.Client, name: u.Token}, today)
	if u.Server == "" {
		return
	}
	k := key{client: u.Client, server: u.Server, name: u.Tool}
	if u.Tool != "" && !r.isKnown(k) && !r.lists.has(u.Registration, u.Tool) {
		r.noteUnlisted(unlisted{key: k, day: today}, u.Registration)
		return
	}
	r.note(k, today)
}

func (r *Recorder) isKnown(k key) bool {
	_, known := r.rows.Load(k)
	return known
}

// noteUnlisted has the call wait for a list that has its tool.
func (r *Recorder) noteUnlisted(u unlisted, registration string) {
	if _, waits := r.unlisted.Load(u); waits {
		return
	}
	if r.unlistedCount.Load() >= maxUnlisted {
		r.note(key{client: u.client, server: u.server}, u.day)
		return
	}
	if _, waits := r.unlisted.LoadOrStore(u, registration); !waits {
		r.unlistedCount.Add(1)
	}
}

// settle notes the calls that wait for a list: as calls of the tool if a list has had it since,
// else as something else of the server. The older days go first, since a row is noted for no day
// before its last.
func (r *Recorder) settle() {
	r.lists.readAll()
	var waiting []unlisted
	r.unlisted.Range(func(found, registration any) bool {
		u := found.(unlisted)
		r.unlisted.Delete(u)
		r.unlistedCount.Add(-1)
		if !r.lists.has(registration.(string), u.name) {
			u.name = ""
		}
		waiting = append(waiting, u)
		return true
	})
	slices.SortFunc(waiting, func(a, b unlisted) int { return cmp.Compare(a.day, b.day) })
	for _, u := range waiting {
		r.note(u.key, u.day)
	}
}

// note notes the row on the day.
func (r *Recorder) note(k key, today check.Day) {
	found, known := r.rows.Load(k)
	if !known {
		if found = r.add(k, today); found == nil {
			return
		}
	}
	held := found.(*row)
	for last := held.day.Load(); last < int32(today); last = held.day.Load() {
		if held.day.CompareAndSwap(last, int32(today)) {
			r.wait(held, today)
		}
	}
}

// add makes a row. If there is no room for a tool, it records the use under the server's
// tool "", and counts it as lost.
func (r *Recorder) add(k key, today check.Day) any {
	if r.size.Load() >= maxRows {
		if k.server != "" && k.name != "" {
			r.note(key{client: k.client, server: k.server}, today)
		}
		r.lose(today)
		return nil
	}
	found, known := r.rows.LoadOrStore(k, &row{key: k})
	if !known {
		r.size.Add(1)
	}
	return found
}

// wait has the row wait for the report of the day.
func (r *Recorder) wait(held *row, today check.Day) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.dayOf(today)
	d.waiting = append(d.waiting, held)
}

func (r *Recorder) lose(today check.Day) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dayOf(today).lost++
}

// dayOf returns the waiting rows of the day. r.mu is held.
func (r *Recorder) dayOf(at check.Day) *day {
	for i := len(r.days) - 1; i >= 0; i-- {
		if r.days[i].Day == at {
			return r.days[i]
		}
		if r.days[i].Day < at {
			r.days = append(r.days[:i+1], append([]*day{{Day: at}}, r.days[i+1:]...)...)
			return r.days[i+1]
		}
	}
	r.days = append([]*day{{Day: at}}, r.days...)
	return r.days[0]
}

// returnTo makes the rows of future days count as today's: the clock was ahead, and a row is
// not recorded again before its day. Nobody knows how much of today was recorded for another
// day, so the day counts as incomplete. It reports whether the clock was ahead. r.mu is held.
func (r *Recorder) returnTo(today check.Day) bool {
	at := slices.IndexFunc(r.days, func(d *day) bool { return d.Day > today })
	if at < 0 {
		return false
	}
	r.days = r.days[:at]
	d := r.dayOf(today)
	d.lost++
	r.rows.Range(func(_, found any) bool {
		if held := found.(*row); held.day.Load() > int32(today) {
			held.day.Store(int32(today))
			d.waiting = append(d.waiting, held)
		}
		return true
	})
	return true
}

// prune forgets the rows that were not used since yesterday.
func (r *Recorder) prune(today check.Day) {
	r.rows.Range(func(k, found any) bool {
		if found.(*row).day.Load() < int32(today)-1 {
			r.rows.Delete(k)
			r.size.Add(-1)
		}
		return true
	})
	r.lists.prune(today)
}

// Stats is a look at the Recorder's state, for metrics.
type Stats struct {
	Rows    int // known
	Waiting int // for a report
}

// Stats returns the current ones.
func (r *Recorder) Stats() Stats {
	s := Stats{Rows: int(r.size.Load())}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.days {
		s.Waiting += len(d.waiting)
	}
	return s
}
