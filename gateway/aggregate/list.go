package aggregate

import (
	"container/list"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
	"vault-plugin-secrets-mcp/gateway/mcp/serverside"
)

// Bounds of one page of a merged list. Clients that do not follow cursors see only the
// first page.
var pageLimits = rewrite.Limits{MaxEntries: 10_000, MaxBytes: 8 << 20, MaxTTL: 30 * time.Second}

// list answers with the lists of all servers as one.
func (x *exchange) list(kind rewrite.Kind) *access.Refusal {
	text, f := x.cursor()
	if f != nil {
		return f
	}
	var cursor *rewrite.Cursor // nil: the list's beginning
	if text != "" {
		parsed, err := rewrite.ParseCursor(kind, text)
		if err != nil {
			return x.badCursor()
		}
		cursor = &parsed
	}
	servers, f := x.request.Servers()
	if f != nil {
		return f
	}
	if f := x.request.Allow(); f != nil {
		return f
	}
	requests := x.listAll(kind, cursor, servers)
	if x.r.Context().Err() != nil {
		return access.CutCause(x.r.Context())
	}
	parts := make([]rewrite.Part, 0, len(requests))
	size := 1 << 10
	for _, q := range requests {
		page, has := q.result()
		if !has {
			continue
		}
		parts = append(parts, rewrite.Part{Position: q.position, Page: page, Allows: q.allows(), Approves: x.handler.approves(q.server, q.kind)})
		if page != nil {
			size += page.Length() + len(page.Entries)*len(`,`)
		}
	}
	limits := pageLimits
	limits.Hints = x.session == nil
	b := merged.Get().(*[]byte)
	body := protocol.BeginResult(slices.Grow((*b)[:0], min(size, limits.MaxBytes+64<<10)), x.id())
	body = protocol.EndResult(rewrite.Merge(body, kind, parts, limits).Result)
	x.answerJSON(body)
	if *b = body; cap(body) <= maxMerged {
		merged.Put(b)
	}
	return nil
}

// merged are buffers for the answers to requests for lists. Those larger than maxMerged are left to
// the garbage collector.
var merged = sync.Pool{New: func() any { return new([]byte) }}

const maxMerged = 256 << 10

// cursor returns the cursor in the request's params; "" without one.
func (x *exchange) cursor() (string, *access.Refusal) {
	if x.message.Params.None() {
		return "", nil
	}
	params, err := messages.ReadObject(x.message.Data, x.message.Params, "cursor")
	if err != nil {
		return "", serverside.BadRequest(x.id(), http.StatusBadRequest, "params cannot be read.")
	}
	raw := params.Values[0].Of(x.message.Data)
	var text string
	if len(raw) > 0 && json.Unmarshal(raw, &text) != nil { // null is no cursor
		return "", x.badCursor()
	}
	return text, nil
}

// fetchTimeout bounds a sub-request that goes on after the client has its answer. A server
// that is just being started takes its time.
const fetchTimeout = 2 * time.Minute

// background returns a context for work that goes on after the client has its answer. It
// ends with the client's access: see [access.Request.SubRequest].
func (x *exchange) background(timeout time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := x.afterRequest(timeout)
	stop := context.AfterFunc(x.handler.closing, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// maxPageBytes bounds the memory of the page cache, in bytes.
const maxPageBytes = 128 << 20

// pageKey says whose page it is. Pages are kept for each principal: what a server shows may
// differ, and so does what a client may see.
type pageKey struct {
	principal grants.Principal
	server    string // id of the registration
	kind      rewrite.Kind
}

// pageCache has the last good first page of each list, for the time when a server does not
// answer, and to know its answer again. At the bound it drops the page that was not used for the longest time.
type pageCache struct {
	most int

	mu    sync.Mutex
	bytes int
	byKey map[pageKey]*list.Element
	order *list.List // of *cachedPage, the last used first
}

type cachedPage struct {
	key  pageKey
	page *rewrite.Page
	size int
}

func newPageCache(most int) *pageCache {
	return &pageCache{most: most, byKey: make(map[pageKey]*list.Element), order: list.New()}
}

func (p *pageCache) put(key pageKey, page *rewrite.Page) {
	size := page.Size()
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.byKey[key]; e != nil {
		p.drop(e)
	}
	if size > p.most {
		return
	}
	p.byKey[key] = p.order.PushFront(&cachedPage{key: key, page: page, size: size})
	p.bytes += size
	for p.bytes > p.most {
		p.drop(p.order.Back())
	}
}

// get returns the last good page, or nil.
func (p *pageCache) get(key pageKey) *rewrite.Page {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.byKey[key]
	if e == nil {
		return nil
	}
	p.order.MoveToFront(e)
	return e.Value.(*cachedPage).page
}

func (p *pageCache) drop(e *list.Element) {
	cached := p.order.Remove(e).(*cachedPage)
	delete(p.byKey, cached.key)
	p.bytes -= cached.size
}

// retain drops the pages of registrations that have ended.
func (p *pageCache) retain(registered func(id string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, e := range p.byKey {
		if !registered(key.server) {
			p.drop(e)
		}
	}
}

// waits is how long an answer that many servers contribute to waits for them.
type waits struct {
	// usual is for the slowest server.
	usual time.Duration
	// first is for the first server, if the client would get nothing otherwise: many clients
	// ask only once. After the first answer, others are awaited as long as they keep coming.
	// If first is not longer than usual, there is no such wait.
	first time.Duration
}

// waits returns the configured waits.
func (h *Handler) waits() waits {
	return waits{usual: h.usualWait(), first: h.settings().Aggregate.FirstListWait}
}

// usualWait is how long the gateway waits for a server.
func (h *Handler) usualWait() time.Duration {
	if h.listWait != 0 {
		return h.listWait
	}
	return h.settings().Aggregate.ListWait
}

// wait waits for that many servers. Each sends whether it has something to show; there
// tells that something is there already.
func (w waits) wait(ctx context.Context, servers int, there bool, arrivals <-chan bool) {
	var end time.Time // of the wait for the first server; zero without one
	if w.first > w.usual {
		end = time.Now().Add(w.first)
	}
	timer := time.NewTimer(w.usual)
	defer timer.Stop()
	for servers > 0 {
		select {
		case shows := <-arrivals:
			servers--
			there = there || shows
			if there && !end.IsZero() {
				timer.Reset(min(w.usual, time.Until(end)))
			}
		case <-timer.C:
			if there || !time.Now().Before(end) {
				return
			}
			timer.Reset(time.Until(end))
		case <-ctx.Done():
			return
		}
	}
}
