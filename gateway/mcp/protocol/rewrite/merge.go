package rewrite

import (
	"strconv"
	"time"
)

// Limits of a merged list.
type Limits struct {
	MaxEntries int // on a page; 0: as many as there are
	MaxBytes   int // of entries on a page, though one entry always fits; 0: as many as there are

	// MaxTTL is for how long a list may be kept at most, and the time for
	// servers that do not say.
	MaxTTL time.Duration

	// Hints: the client speaks a version of the protocol whose results say how
	// long they may be kept.
	Hints bool
}

// Part is what one server adds to a merged list.
type Part struct {
	Page     *Page // nil: it has none to give, and is left out of the list
	Position       // of the page

	// Allows reports whether the client gets the entry of that name. Nil: all.
	Allows func(name string) bool
}

// Merged is a page of a merged list.
type Merged struct {
	Result  []byte // a result object, appended to what was there
	Entries int
	Cursor  Cursor // [Cursor.Done] on the last page
}

// Merge appends to dst the result of a request for the list, made of the parts
// in their order: first those of servers that the request's cursor has open,
// then those of others in the order of their names.
//
// A page holds the first pages of as many servers as it can, rather than all of
// the first server: many clients never ask for a second page. The result may be
// kept for as long as the shortest-lived part, and by this client alone, since
// no other need have the same servers and rules.
func Merge(dst []byte, kind Kind, parts []Part, limits Limits) Merged {
	m := merger{limits: limits, out: Merged{Result: dst, Cursor: Cursor{Kind: kind}}, ttl: limits.MaxTTL}
	m.add(`{"`, kind.Member(), `":[`)
	m.start = len(m.out.Result)
	for i := range parts {
		m.part(&parts[i])
	}
	m.add(`]`)
	if !m.out.Cursor.Done() {
		m.add(`,"nextCursor":"`, m.out.Cursor.String(), `"`)
	}
	if limits.Hints {
		m.add(`,"ttlMs":`, strconv.FormatInt(m.ttl.Milliseconds(), 10), `,"cacheScope":"private","resultType":"complete"`)
	}
	m.add(`}`)
	return m.out
}

// merger is one run of Merge.
type merger struct {
	limits Limits
	out    Merged
	start  int // of the first entry
	full   bool
	ttl    time.Duration
}

func (m *merger) add(texts ...string) {
	for _, text := range texts {
		m.out.Result = append(m.out.Result, text...)
	}
}

// part adds what one server has to give, or leaves it to the next page.
func (m *merger) part(p *Part) {
	switch {
	case m.full:
		m.leave(p.Position)
		return
	case p.Page == nil:
		return // what it would add is lost until the client lists anew
	}
	if p.Page.HasTTL {
		m.ttl = min(m.ttl, p.Page.TTL)
	}
	for n := p.Skip; n < len(p.Page.Entries); n++ {
		entry := &p.Page.Entries[n]
		if p.Allows != nil && !p.Allows(entry.Name) {
			continue
		}
		if !m.fits(entry) {
			m.full = true
			m.leave(Position{Server: p.Server, Cursor: p.Cursor, Empty: p.Empty, Skip: n})
			return
		}
		if m.out.Entries > 0 {
			m.add(`,`)
		}
		m.add(entry.JSON)
		m.out.Entries++
	}
	if p.Page.Cursor != "" || p.Page.Empty {
		m.leave(Position{Server: p.Server, Cursor: p.Page.Cursor, Empty: p.Page.Empty})
	}
}

// fits reports whether the page has room for the entry. The first always fits:
// a page without any would lead to itself.
func (m *merger) fits(e *Entry) bool {
	if m.out.Entries == 0 {
		return true
	}
	if limit := m.limits.MaxEntries; limit > 0 && m.out.Entries >= limit {
		return false
	}
	size := len(m.out.Result) - m.start + len(`,`) + len(e.JSON)
	return m.limits.MaxBytes <= 0 || size <= m.limits.MaxBytes
}

// leave leaves what comes from that position on to the pages after this one.
func (m *merger) leave(p Position) {
	c := &m.out.Cursor
	switch {
	case !p.start():
		c.Open = append(c.Open, p)
	case c.Next == "":
		c.Next = p.Server
	}
}
