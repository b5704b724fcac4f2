package review

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// day is the form of a day, in UTC.
const day = time.DateOnly

// Usage is the usage that gateways have reported.
type Usage struct {
	Days map[string]Reported // by day
	Rows map[string][]Use    // the last uses, by client
}

// Reported says whether all gateways that were there on a day have reported all of it, and
// why not.
type Reported struct {
	Complete bool
	Why      []string
}

// causes are those that the engine has named.
func (r *Reported) causes() []string {
	if len(r.Why) == 0 {
		return []string{"it is not complete"}
	}
	return r.Why
}

// Use is the last use of a tool of a server by a client. Tool is "" for everything except the
// tools that the server lists.
type Use struct {
	Server   string `json:"server"`
	Tool     string `json:"tool"`
	LastUsed string `json:"last_used"` // a day
}

// Coverage says for which days the use of rights is known.
type Coverage struct {
	From string `json:"from"` // the first day
	To   string `json:"to"`   // the last: the one before the review
	Days int    `json:"days"`
	// Today is the day of the review. A use on it counts, but it is never complete, and no gap.
	Today string `json:"today"`
	// Gaps are the days of which not every gateway has reported the whole.
	Gaps []Gap `json:"gaps"`
}

// Gap is a day that is not complete, with the causes.
type Gap struct {
	Day string   `json:"day"`
	Why []string `json:"why"`
}

// unkept is the cause where the engine says nothing of a day.
const unkept = "the engine has nothing of this day: usage_days is too low, or it was not there"

// coverageOf looks at the whole days before the review.
func (u *Usage) coverageOf(at time.Time, days int) Coverage {
	c := Coverage{Days: days, Today: at.UTC().Format(day), Gaps: []Gap{}}
	for n := days; n > 0; n-- {
		d := at.UTC().AddDate(0, 0, -n).Format(day)
		if n == days {
			c.From = d
		}
		c.To = d
		switch reported, known := u.Days[d]; {
		case !known:
			c.Gaps = append(c.Gaps, Gap{d, []string{unkept}})
		case !reported.Complete:
			c.Gaps = append(c.Gaps, Gap{d, reported.causes()})
		}
	}
	return c
}

// mark sets the use of a pair that is allowed, as far as it is known.
func (c *Coverage) mark(p *Pair, client *ClientSettings, u *serverUse) {
	if u != nil {
		p.LastUsed, p.Tools = u.last, u.tools(c.From)
	}
	switch {
	case p.LastUsed >= c.From && p.LastUsed != "":
		p.Usage = Used
	case c.knows(client):
		p.Usage = Unused
	default:
		p.Usage = NotKnown
	}
}

// knows reports whether all that a client did in those days is known: no day is a gap, and the
// client was there on the first.
func (c *Coverage) knows(client *ClientSettings) bool {
	return len(c.Gaps) == 0 && client.CreatedAt.UTC().Format(day) < c.From
}

// serverUse is the use of a server by a client.
type serverUse struct {
	last  string            // the day
	byDay map[string]string // the last day of each tool
}

// usesOf sorts a client's rows by server.
func usesOf(rows []Use) map[string]*serverUse {
	uses := map[string]*serverUse{}
	for _, row := range rows {
		u := uses[row.Server]
		if u == nil {
			u = &serverUse{byDay: map[string]string{}}
			uses[row.Server] = u
		}
		u.last = max(u.last, row.LastUsed)
		u.byDay[row.Tool] = max(u.byDay[row.Tool], row.LastUsed)
	}
	return uses
}

// join adds the use by another client.
func (u *serverUse) join(o *serverUse) {
	u.last = max(u.last, o.last)
	for tool, last := range o.byDay {
		u.byDay[tool] = max(u.byDay[tool], last)
	}
}

// tools are the listed tools that were used since a day.
func (u *serverUse) tools(since string) []string {
	var used []string
	for _, tool := range slices.Sorted(maps.Keys(u.byDay)) {
		if tool != "" && u.byDay[tool] >= since {
			used = append(used, tool)
		}
	}
	return used
}

// unlisted reports whether something else was used since a day than tools that the server
// lists.
func (u *serverUse) unlisted(since string) bool { return u.byDay[""] >= since }

// readUsage reads the reported usage. An engine that keeps no usage has no complete day.
func (r *reader) readUsage(ctx context.Context, s *Snapshot) error {
	var coverage struct {
		Days []reportedDay `json:"days"`
	}
	if _, err := r.read(ctx, "usage", &coverage); err != nil {
		return err
	}
	s.Usage = Usage{Days: map[string]Reported{}, Rows: make(map[string][]Use, len(s.Clients))}
	for _, d := range coverage.Days {
		s.Usage.Days[d.Day] = d.reported()
	}
	var lock sync.Mutex
	return inParallel(ctx, slices.Collect(maps.Keys(s.Clients)), func(ctx context.Context, name string) error {
		var used struct {
			Rows []Use `json:"rows"`
		}
		if _, err := r.read(ctx, "usage/clients/"+name, &used); err != nil {
			return err
		}
		lock.Lock()
		defer lock.Unlock()
		s.Usage.Rows[name] = used.Rows
		return nil
	})
}

// reportedDay is a day as usage answers it.
type reportedDay struct {
	Day      string `json:"day"`
	Complete bool   `json:"complete"`
	Gaps     []struct {
		Why string `json:"why"`
	} `json:"gaps"`
}

// reported is the day with each cause once: many gateways can have the same.
func (d *reportedDay) reported() Reported {
	r := Reported{Complete: d.Complete}
	for _, gap := range d.Gaps {
		if !slices.Contains(r.Why, gap.Why) {
			r.Why = append(r.Why, gap.Why)
		}
	}
	return r
}
