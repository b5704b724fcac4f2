package rewrite

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/backend/pin"
)

// Reasons to leave an entry out of its list, beside those of
// [vault-plugin-secrets-mcp/gateway/mcp/protocol/names].
var (
	ErrNoName    = errors.New("the entry has no name, or one that could be read in two ways")
	ErrDuplicate = errors.New("another entry of the list has the same name")
)

// ErrNoList: the server's answer is not a list.
var ErrNoList = errors.New("the answer has no list")

// maxCursor bounds a server's cursor, in bytes.
const maxCursor = 8 << 10

// RPCError is a server's error in place of a list.
type RPCError struct{ Code int }

func (e *RPCError) Error() string { return fmt.Sprintf("the server answered with error %d", e.Code) }

// Page is one page of one server's list, in the clients' form. It does not change.
type Page struct {
	Server  string
	Entries []Entry
	LeftOut []LeftOut // the first of the entries that clients do not get
	Missing int       // the number of all of them

	// Digests are those of the entries as their server has written them, one for each entry.
	// The zero one stands for an entry that can have none. Nil: the page has none.
	Digests []pin.Digest

	Cursor string        // of the next page, for the server; "" on the last one
	Empty  bool          // it is not the last one: the cursor of the next page is the empty string
	TTL    time.Duration // for which the page may be cached
	HasTTL bool          // the server has set it

	length int // of all entries' JSON, in bytes
	source source
}

// Length is that of all entries, in bytes.
func (p *Page) Length() int { return p.length }

// Size is about how much memory the page takes, in bytes, with the message from which it was read.
func (p *Page) Size() int {
	const page, entry = 256, 64
	return page + len(p.Entries)*entry + p.length + len(p.Digests)*len(pin.Digest{}) + len(p.source.message)
}

// Entry is a tool, a prompt, a resource or a resource template.
type Entry struct {
	Name string // on its server; the URI of a resource, the template of a template
	JSON string // in the clients' form: with the prefix
}

// LeftOut is an entry that clients do not get.
type LeftOut struct {
	Name string // "" where it is not known
	Err  error
}

// Bounds of a server's list and of the log about it. A bound in bytes is not enough: a
// list of millions of empty entries is as long as a useful one.
const (
	maxEntries = 100_000
	maxLeftOut = 8
)

// ErrTooMany: the list is too long for any client.
var ErrTooMany = fmt.Errorf("the list has more than %d entries", maxEntries)

// digest returns the digest of an entry; false if there is none.
func (p *Page) digest(entry int) (pin.Digest, bool) {
	if len(p.Digests) == 0 || p.Digests[entry] == (pin.Digest{}) {
		return pin.Digest{}, false
	}
	return p.Digests[entry], true
}

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
