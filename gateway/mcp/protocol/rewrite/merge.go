package rewrite

import (
	"strconv"
	"time"

	"vault-plugin-secrets-mcp/backend/pin"
)

// Limits of a merged list.
type Limits struct {
	MaxEntries int // on a page; 0: no bound
	MaxBytes   int // of entries on a page, though one entry always fits; 0: no bound

	// MaxTTL bounds the time for which a client may cache a list. It is also the
	// time for servers that do not set one.
	MaxTTL time.Duration

	// Hints: the client speaks a version of the protocol whose results have a time
	// to live.
	Hints bool
}

// Part is one server's part of a merged list.
type Part struct {
	Page     *Page // nil: the server has none, and is left out of the list
	Position       // of the page

	// Allows reports whether the client may see the entry of that name. Nil: all.
	Allows func(name string) bool

	// Approves reports whether the definition of that name and digest is approved. Nil: none
	// need be. Otherwise entries without a digest are left out.
	Approves func(name string, digest pin.Digest) bool
}

// shows reports whether the client may see an entry of the page.
func (p *Part) shows(entry int) bool {
	name := p.Page.Entries[entry].Name
	if p.Allows != nil && !p.Allows(name) {
		return false
	}
	if p.Approves == nil {
		return true
	}
	digest, ok := p.Page.digest(entry)
	return ok && p.Approves(name, digest)
}

// Merged is a page of a merged list.
type Merged struct {
	Result  []byte // dst, with the result object appended
	Entries int
	Cursor  Cursor // [Cursor.Done] on the last page
}

// Merge builds the result of a request for the list from the parts in their order, and
// appends it to dst. Servers that the request's cursor has open come first, then others
// in the order of their names.
//
// A page has the first pages of as many servers as fit, rather than all pages of the
// first server, since many clients never request a second page. The result lives as long
// as its shortest-lived part. Only this client may cache it, since another may have
// other servers and rules.
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

// part adds one server's entries, or leaves them to the next page.
func (m *merger) part(p *Part) {
	switch {
	case m.full:
		m.leave(p.Position)
		return
	case p.Page == nil:
		return // its entries are missing until the client lists again
	}
	if p.Page.HasTTL {
		m.ttl = min(m.ttl, p.Page.TTL)
	}
	for n := p.Skip; n < len(p.Page.Entries); n++ {
		if !p.shows(n) {
			continue
		}
		entry := &p.Page.Entries[n]
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

// fits reports whether the page has room for the entry. The first always fits: the
// cursor of a page without entries would lead to the same page.
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

// leave leaves the entries from that position on to later pages.
func (m *merger) leave(p Position) {
	c := &m.out.Cursor
	switch {
	case !p.start():
		c.Open = append(c.Open, p)
	case c.Next == "":
		c.Next = p.Server
	}
}
