package rewrite

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// Reading says how the pages of one list of one server are read.
type Reading struct {
	Kind   Kind
	Server string

	// Digest returns the digest of an entry as the server has written it; false if the entry can
	// have none. Pages of a list whose definitions are pinned keep them. Nil: they keep none.
	Digest func(entry []byte) (pin.Digest, bool)

	// EmptyEnds: an empty cursor is that of the last page, as many servers with sessions write it.
	EmptyEnds bool
}

// ReadPage is [Reading.Page] for a list whose definitions are not pinned.
func ReadPage(kind Kind, server string, message []byte) (*Page, error) {
	return Reading{Kind: kind, Server: server}.Page(message)
}

// Page reads a server's answer to a request for the list: a whole JSON-RPC message, which the page
// keeps. It leaves out entries without a usable name, and all but the first of those with the
// same name. The error is an [*RPCError] if the server answered with an error; any other
// error means that the answer is not valid.
func (r Reading) Page(message []byte) (*Page, error) {
	scanner, err := jsonscan.New(message)
	if err != nil {
		return nil, err
	}
	p := pageReader{Scanner: scanner, Reading: r, message: message, page: &Page{Server: r.Server}}
	if err := p.response(); err != nil {
		return nil, err
	}
	if err := p.End(); err != nil {
		return nil, err
	}
	switch {
	case p.failed:
		return nil, &RPCError{Code: p.code}
	case !p.listed:
		return nil, ErrNoList
	}
	p.rename()
	p.page.source = source{message: message, id: p.id, kind: r.Kind, pinned: r.Digest != nil, emptyEnds: r.EmptyEnds}
	return p.page, nil
}

// pageReader is one run over one message.
type pageReader struct {
	jsonscan.Scanner
	Reading
	message []byte
	page    *Page
	id      jsonscan.Span

	listed, failed bool
	code           int
	entries        []found
}

// found is the place of an entry in the message.
type found struct {
	start, end int
	name       mark   // of the name; its offset is 0 without one
	text       int    // offset of the name, after the quote
	others     []mark // within the entry
	value      jsonscan.String
}

var responseKeys = []string{"result", "error", "id"}

func (p *pageReader) response() error {
	return p.Members(responseKeys, func(key int) (err error) {
		switch {
		case key == 2:
			p.id, err = p.Value()
			return err
		case p.Peek() != '{':
			return p.Skip()
		case key == 0:
			return p.result()
		default:
			return p.failure()
		}
	})
}

var codeKeys = []string{"code"}

func (p *pageReader) failure() error {
	p.failed = true
	return p.Members(codeKeys, func(int) error {
		raw, err := p.Raw()
		p.code, _ = strconv.Atoi(string(raw)) // 0 for a code that is not an integer
		return err
	})
}

func (p *pageReader) result() error {
	return p.Members([]string{p.Kind.Member(), "nextCursor", "ttlMs"}, func(key int) error {
		switch key {
		case 0:
			return p.list()
		case 1:
			return p.cursor()
		default:
			return p.ttl()
		}
	})
}

func (p *pageReader) cursor() error {
	if p.Peek() != '"' {
		return p.Skip() // some servers send null
	}
	text, err := p.String()
	if err != nil {
		return err
	}
	value, err := text.Bytes()
	if err != nil {
		return err
	}
	if len(value) > maxCursor {
		return fmt.Errorf("the list's cursor is %d bytes long: it may have %d at most", len(value), maxCursor)
	}
	p.page.Cursor, p.page.Empty = string(value), len(value) == 0 && !p.EmptyEnds
	return nil
}

// ttl reads the page's time to live: zero if that is not a number.
func (p *pageReader) ttl() error {
	raw, err := p.Raw()
	if err != nil {
		return err
	}
	p.page.HasTTL = true
	ms, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || ms <= 0 {
		return nil //nolint:nilerr // without a time, the page is stale at once
	}
	p.page.TTL = time.Duration(min(ms, float64(math.MaxInt64/int64(2*time.Millisecond))) * float64(time.Millisecond))
	return nil
}

func (p *pageReader) list() error {
	if p.Peek() != '[' {
		return ErrNoList
	}
	p.listed = true
	if err := p.Enter('['); err != nil {
		return err
	}
	p.entries = make([]found, 0, 64)
	for first := true; ; first = false {
		more, err := p.Element(first)
		if err != nil || !more {
			return err
		}
		if len(p.entries)+p.page.Missing >= maxEntries {
			return ErrTooMany
		}
		if err := p.entry(); err != nil {
			return err
		}
	}
}

// entry reads one entry. It also stores one without a name.
func (p *pageReader) entry() error {
	if p.Peek() != '{' {
		p.leaveOut("", ErrNoName)
		return p.Skip()
	}
	e := found{start: p.Pos()}
	certain, err := p.MembersAnyway(kinds[p.Kind].keys, func(key int) (err error) {
		if key > 0 {
			return metaReader{&p.Scanner, p.message, &e.others}.read()
		}
		if p.Peek() != '"' {
			return p.Skip()
		}
		e.text = p.Pos() + len(`"`)
		e.value, err = p.String()
		e.name = p.Kind.mark(p.message, e.text)
		return err
	})
	if err != nil {
		return err
	}
	e.end = p.Pos()
	if !certain || e.text == 0 {
		p.leaveOut("", ErrNoName)
		return nil
	}
	p.entries = append(p.entries, e)
	return nil
}

// write appends the entry with its prefixes.
func (p *pageReader) write(text *strings.Builder, e *found) {
	marks := [...]mark{e.name}
	all := marks[:]
	if len(e.others) > 0 {
		all = slices.Concat(e.others, all)
		slices.SortFunc(all, func(a, b mark) int { return a.at - b.at })
	}
	at := e.start
	for _, m := range all {
		text.Write(p.message[at:m.at])
		text.WriteString(m.kind.of(p.Server))
		at = m.at
	}
	text.Write(p.message[at:e.end])
}

func (p *pageReader) leaveOut(name string, err error) { p.page.leaveOut(name, err) }

// rename makes the page's entries. All of them are in one string, so that a page is two
// allocations and not thousands.
func (p *pageReader) rename() {
	size, longest := 0, len(resourcePrefix.of(p.Server))
	for i := range p.entries {
		e := &p.entries[i]
		size += e.end - e.start + (1+len(e.others))*longest
	}
	var text strings.Builder
	text.Grow(size)
	p.page.Entries = make([]Entry, 0, len(p.entries))
	seen := make(map[string]struct{}, len(p.entries))
	for i := range p.entries {
		e := &p.entries[i]
		value, err := e.value.Bytes()
		if err == nil {
			err = p.Kind.check(p.page.Server, value)
		} else {
			err = ErrNoName
		}
		if _, twice := seen[string(value)]; err == nil && twice {
			err = ErrDuplicate
		}
		if err != nil {
			p.leaveOut(string(value), err)
			continue
		}
		start := text.Len()
		p.write(&text, e)
		whole := text.String()[start:]
		name := string(value)
		if len(e.others) == 0 && e.name.at == e.text { // it may stand there as it is
			if at := e.text - e.start + len(e.name.kind.of(p.Server)); whole[at:at+len(value)] == name {
				name = whole[at : at+len(value)]
			}
		}
		seen[name] = struct{}{}
		p.page.Entries = append(p.page.Entries, Entry{Name: name, JSON: whole})
		p.keepDigest(e)
	}
	p.page.length = text.Len()
}

// keepDigest keeps the digest of the page's last entry, which is that of its server's own text:
// in the clients' form the names are others.
func (p *pageReader) keepDigest(e *found) {
	if p.Digest == nil {
		return
	}
	digest, ok := p.Digest(p.message[e.start:e.end])
	if !ok {
		digest = pin.Digest{}
	}
	p.page.Digests = append(p.page.Digests, digest)
}
