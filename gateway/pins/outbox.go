package pins

import (
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

const (
	// noteAgain is the least time after which a definition that is still not approved is
	// reported again: the engine may have been told to forget it.
	noteAgain = time.Minute

	// tellAgain is the time after which the log mentions again a definition that cannot be
	// approved.
	tellAgain = 5 * time.Minute

	// noteLater is the time after which one is noted that there was no room for.
	noteLater = time.Minute

	// maxWaiting and maxWaitingSize bound the definitions of a server that wait for a report,
	// and the bytes of their texts. maxSize bounds those of all servers.
	maxWaiting     = 256
	maxWaitingSize = 2 << 20
	maxSize        = 64 << 20

	// notedPerMinute and notedBurst bound the definitions of a server that are reported. The
	// engine has no room for more than these.
	notedPerMinute, notedBurst = 64, 256

	// againPerMinute bounds those that are reported again. They have a share of their own, so
	// that the definitions that a server has had before leave room for its new ones.
	againPerMinute = 64

	// notedKept is how many definitions of a server are known to be noted.
	notedKept = 1024

	// maxBatch and maxBatchSize bound a report. A longer text has one of its own.
	maxBatch     = 64
	maxBatchSize = 512 << 10

	// toldPerMinute bounds the log's lines about definitions of one server.
	toldPerMinute = 5
)

// outbox has the definitions of one server that wait for a report.
type outbox struct {
	server string

	// Guarded by outboxes.mu.
	place   string
	noted   *lru.Cache[form, time.Time]
	limit   *rate.Limiter // of those that are new
	repeats *rate.Limiter // of those that are reported again
	waiting []definition
	size    int  // bytes of their texts
	queued  bool // it is in the order of outboxes
	lost    int  // since the last line of the log
	telling telling

	failures int       // of reports in a row
	again    time.Time // no report before this
}

// definition is one that waits for a report.
type definition struct {
	form
	text string
}

// batch is one report of a server's definitions.
type batch struct {
	*outbox
	vaultclient.PinReport
	noted *lru.Cache[form, time.Time] // the outbox's, which is another one once it was emptied
}

// telling bounds the lines of the log about a server.
type telling struct {
	limit *rate.Limiter
	more  int       // that had no line
	since time.Time // of the first of them
}

// outboxes are those of all servers.
type outboxes struct {
	mu    sync.Mutex
	of    map[string]*outbox // by name of the server
	order []*outbox          // those with something to report: the next one first
	size  int                // bytes of all texts
}

// note queues the report of a definition that is not approved, and logs it. For one that
// cannot be read, err is the reason. It returns false if there was no room.
func (k *Keeper) note(j *Judge, kind pin.Kind, d *pin.Definition, err error, now time.Time) bool {
	k.outboxes.mu.Lock()
	o := k.outboxes.at(j.server, j.pins.Place)
	room := true
	tell := err != nil
	if err == nil {
		of := form{kind, d.Digest}
		at, noted := o.noted.Get(of)
		tell = !noted
		if !noted || o.mayRepeat(of, now.Sub(at)) {
			limit := o.limit
			if noted {
				limit = o.repeats
			}
			put := k.outboxes.put(o, of, d.Text, limit, now)
			if put {
				o.noted.Add(of, now)
			} else if !noted {
				o.lost++
			}
			room = put || noted // one that was reported before is not lost
		}
	}
	tell = tell && o.telling.allows(now)
	k.outboxes.mu.Unlock()
	if !room {
		k.observe(func(o Observer) { o.PinsLost(1) })
	}
	if tell {
		k.tell(j, kind, d, err)
	}
	return room
}

// tell tells the log of a definition.
func (k *Keeper) tell(j *Judge, kind pin.Kind, d *pin.Definition, err error) {
	log := k.log.With("server", j.server, "kind", string(kind), "cut", j.Enforces(kind))
	if err != nil {
		log.Warn("a server has a definition that nobody can approve", "error", err)
		return
	}
	log.Warn("a server has a definition that nobody has approved", "name", access.Bounded(d.Name), "digest", d.Digest.String())
}

// allows reports whether there may be one more line, and counts it if not.
func (t *telling) allows(now time.Time) bool {
	if t.more == 0 && t.limit.AllowN(now, 1) {
		return true
	}
	if t.more == 0 {
		t.since = now
	}
	t.more++
	return false
}

// at returns the outbox of the server. It drops definitions of another place, which are no longer
// of interest. mu is held.
func (b *outboxes) at(server, place string) *outbox {
	o := b.of[server]
	if o != nil && o.place == place {
		return o
	}
	if o != nil {
		b.size -= o.size
		o.waiting, o.size = nil, 0
	} else {
		o = &outbox{
			server: server, limit: rate.NewLimiter(rate.Limit(notedPerMinute)/60, notedBurst),
			repeats: rate.NewLimiter(rate.Limit(againPerMinute)/60, againPerMinute),
			telling: telling{limit: rate.NewLimiter(rate.Limit(toldPerMinute)/60, toldPerMinute)},
		}
		b.of[server] = o
	}
	o.place = place
	o.noted, _ = lru.New[form, time.Time](notedKept) // an error would be about the size
	return o
}

// mayRepeat reports whether a definition may be reported again that was noted so long ago. The
// more there are, the later, so that the first ones of a list do not always come first; and only
// while few wait, so that there is room for new ones. mu is held.
func (o *outbox) mayRepeat(f form, ago time.Duration) bool {
	turn := noteAgain * time.Duration(o.noted.Len()) / againPerMinute
	return ago >= max(noteAgain, turn) && len(o.waiting) < againPerMinute && !o.has(f)
}

// has reports whether a definition waits. mu is held.
func (o *outbox) has(f form) bool {
	return slices.ContainsFunc(o.waiting, func(d definition) bool { return d.form == f })
}

// put has a definition wait, if there is room and the limit allows it. mu is held.
func (b *outboxes) put(o *outbox, f form, text []byte, limit *rate.Limiter, now time.Time) bool {
	if len(o.waiting) >= maxWaiting || o.size+len(text) > maxWaitingSize || b.size+len(text) > maxSize || !limit.AllowN(now, 1) {
		return false
	}
	o.waiting = append(o.waiting, definition{f, string(text)})
	o.size += len(text)
	b.size += len(text)
	b.queue(o)
	return true
}

// queue puts the outbox last in the order, unless it is there. mu is held.
func (b *outboxes) queue(o *outbox) {
	if !o.queued && len(o.waiting) > 0 {
		o.queued = true
		b.order = append(b.order, o)
	}
}

// next takes the next outbox out of the order that may report now, and returns its report; nil
// if there is none. With last, it may report in any case.
func (b *outboxes) next(now time.Time, last bool) *batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range len(b.order) {
		o := b.order[0]
		b.order = b.order[1:]
		o.queued = false
		switch {
		case len(o.waiting) == 0:
		case now.Before(o.again) && !last:
			b.queue(o)
		default:
			return o.batch()
		}
	}
	return nil
}

// batch is the next report of the server. mu is held.
func (o *outbox) batch() *batch {
	made := &batch{outbox: o, noted: o.noted}
	made.Place = o.place
	size := 0
	for _, d := range o.waiting[:min(len(o.waiting), maxBatch)] {
		if size += len(d.text); size > maxBatchSize && len(made.Definitions) > 0 {
			break
		}
		made.Definitions = append(made.Definitions, vaultclient.PinDefinition{Kind: d.kind, Text: d.text})
	}
	return made
}

// settle forgets the definitions of the report if it is done, and has the server wait for its next
// turn until the time after.
func (b *outboxes) settle(r *batch, done bool, after func(failures int) time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := r.outbox
	if done && r.noted == o.noted {
		for _, d := range r.Definitions {
			o.size -= len(d.Text)
			b.size -= len(d.Text)
		}
		o.waiting = o.waiting[len(r.Definitions):]
	}
	o.failures++
	if done {
		o.failures = 0
	}
	o.again = after(o.failures)
	b.queue(o)
}

// prune drops the outboxes of servers that are not pinned any more.
func (b *outboxes) prune(isPinned func(server string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, o := range b.of {
		if isPinned(name) {
			continue
		}
		b.size -= o.size
		o.waiting, o.size = nil, 0 // next drops it from the order
		delete(b.of, name)
	}
}

func (b *outboxes) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, o := range b.of {
		n += len(o.waiting)
	}
	return n
}

// tell tells the log how many definitions had no line of their own.
func (b *outboxes) tell(log hclog.Logger, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, o := range b.of {
		if o.telling.more > 0 && now.Sub(o.telling.since) >= time.Minute {
			log.Warn("a server has more definitions that nobody has approved", "server", name, "definitions", o.telling.more)
			o.telling.more = 0
		}
		if o.lost > 0 {
			log.Warn("there was no room for all definitions that nobody has approved: Vault is not told of them now", "server", name, "definitions", o.lost)
			o.lost = 0
		}
	}
}
