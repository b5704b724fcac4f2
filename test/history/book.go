package history

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// Book has the requests to the engine and their answers. Its zero value is empty.
type Book struct {
	mu      sync.Mutex
	started time.Time
	history []porcupine.Operation
	known   map[string]named // by the token, its accessor and its lease
	made    int
}

// named is a token that the book knows, under an id that is not secret.
type named struct{ client, id string }

// Asked is a request that is under way. It is nil for one that is not about tokens.
type Asked struct {
	book    *Book
	by      int
	request request
	sent    int64
}

// Ask notes that somebody, by a number, is about to write data to a path of the engine, or
// with delete to delete it. A path is one below the mount; for the end of a lease it is
// "sys/leases/revoke", with lease_id.
func (b *Book) Ask(by int, path string, data map[string]any, remove bool) *Asked {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil {
		b.known, b.started = map[string]named{}, time.Now()
	}
	r, ok := b.read(path, data, remove)
	if !ok {
		return nil
	}
	a := &Asked{book: b, by: by, request: r}
	if r.begins {
		// Nobody looks at it under this name before the answer is here.
		b.made++
		a.request.token = fmt.Sprintf("%d", b.made)
		if strings.HasPrefix(path, "creds/") {
			a.request.token = leased + a.request.token
		}
		if own, _ := data["access_token"].(string); own != "" {
			b.known[own] = named{r.client, a.request.token}
		}
	}
	a.sent = int64(time.Since(b.started))
	return a
}

// read finds out what a request does. It does not know requests about tokens of which the
// book has not heard.
func (b *Book) read(path string, data map[string]any, remove bool) (r request, ok bool) {
	kind, rest, _ := strings.Cut(path, "/")
	client, below, _ := strings.Cut(rest, "/")
	r = request{client: client, what: path}
	one := func(names ...string) bool {
		for _, name := range names {
			if text, _ := data[name].(string); text != "" {
				known := b.known[text]
				r.client, r.token = known.client, known.id
			}
		}
		return r.token != ""
	}
	switch {
	case kind == "clients" && below != "" && remove: // clients/NAME/tokens/ACCESSOR
		known := b.known[strings.TrimPrefix(below, "tokens/")]
		r.what, r.token, r.ends = "end one of "+client, known.id, endsOne
		return r, known.id != ""
	case kind == "clients" && remove, kind == "revoke-client":
		r.ends = endsAll
		return r, true
	case kind == "clients" && below == "", kind == "creds":
		r.begins = true
		return r, true
	case kind == "rotate-client":
		r.begins = true
		if grace, has := data["grace_period"]; has && fmt.Sprint(grace) == "0" {
			r.ends = endsOwn
		}
		return r, true
	case kind == "revoke", kind == "revoke-accessor", path == "sys/leases/revoke":
		r.ends = endsOne
		return r, one("token", "accessor", "lease_id")
	case kind == "lookup", kind == "lookup-accessor":
		r.looks = true
		return r, one("token", "accessor")
	}
	return r, false
}

// Lost records that no answer came, or an answer that leaves open whether the request was
// done. A refusal is such an answer: when a plugin dies before it answers, Vault sends
// the request once more, and the second one may be refused because the first was done.
func (a *Asked) Lost() {
	if a != nil && !a.request.looks { // which has changed nothing, and told nothing
		a.book.note(a, answer{lost: true}, never, nil)
	}
}

// Done notes that the request was answered as done, with the answer's data. A token that is
// leased has the lease's id as "lease".
func (a *Asked) Done(data map[string]any) {
	if a != nil {
		active, _ := data["active"].(bool)
		a.book.note(a, answer{active: active}, int64(time.Since(a.book.started)), data)
	}
}

func (b *Book) note(a *Asked, got answer, at int64, data map[string]any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range []string{"token", "accessor", "lease"} {
		if text, _ := data[name].(string); a.request.begins && text != "" {
			b.known[text] = named{a.request.client, a.request.token}
		}
	}
	b.history = append(b.history, porcupine.Operation{ClientId: a.by, Input: a.request, Call: a.sent, Output: got, Return: at})
}

// Len is the number of requests that Check judges.
func (b *Book) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.history)
}

// Check judges all that was noted so far.
func (b *Book) Check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return check(b.history, checkTime)
}

// checkTime bounds the search for an order.
const checkTime = time.Minute
