package rewrite

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Reasons for which an entry is left out of its list, beside those of
// [vault-plugin-secrets-mcp/gateway/mcp/protocol/names].
var (
	ErrNoName    = errors.New("the entry has no name, or one that could be read in two ways")
	ErrDuplicate = errors.New("another entry of the list has the same name")
)

// ErrNoList: what the server answered is no list.
var ErrNoList = errors.New("the answer holds no list")

// maxCursor bounds a server's cursor, in bytes.
const maxCursor = 8 << 10

// RPCError is a server's answer that there is no list.
type RPCError struct{ Code int }

func (e *RPCError) Error() string { return fmt.Sprintf("the server answered with error %d", e.Code) }

// Page is one page of one server's list, in the form that clients get it. It
// shares no memory with the message that it was read from, and is not changed.
type Page struct {
	Server  string
	Entries []Entry
	LeftOut []LeftOut // the first of those that clients do not get
	Missing int       // how many there are of them

	Cursor string        // of the next page, for the server; "" on the last one
	Empty  bool          // not on the last one: the cursor of the next page is the empty string
	TTL    time.Duration // for how long the page may be kept
	HasTTL bool          // the server says so
}

// Entry is a tool, a prompt, a resource or a resource template.
type Entry struct {
	Name string // on its server; the URI of a resource, the template of a template
	JSON string // as clients get it: with the name prefixed
}

// LeftOut is an entry that clients do not get.
type LeftOut struct {
	Name string // as far as it is known
	Err  error
}

// Bounds of what a server may have in its list, and of what is told of it: a list
// of millions of empty entries is no longer than one that makes sense.
const (
	maxEntries = 100_000
	maxLeftOut = 8
)

// ErrTooMany: the list is of no use to anybody.
var ErrTooMany = fmt.Errorf("the list has more than %d entries", maxEntries)

// leaveOut notes that clients do not get an entry.
func (p *Page) leaveOut(name string, err error) {
	p.Missing++
	if len(p.LeftOut) < maxLeftOut {
		p.LeftOut = append(p.LeftOut, LeftOut{Name: bounded(name), Err: err})
	}
}

// maxReported bounds the name of an entry that is left out, in bytes.
const maxReported = 160

func bounded(name string) string {
	if len(name) <= maxReported {
		return name
	}
	return strings.ToValidUTF8(name[:maxReported], "") + "…"
}
