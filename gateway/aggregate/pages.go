package aggregate

import (
	"container/list"
	"sync"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// maxPageBytes bounds what is kept of lists, in bytes.
const maxPageBytes = 128 << 20

// pageKey says whose list it is. Lists are kept for each client: what a server
// shows may differ, and what a client may see does.
type pageKey struct {
	client, server string // ids of the client and of the registration
	kind           rewrite.Kind
}

// pages are the last good lists, for the time when a server does not answer.
// Those that were not needed for the longest time make room.
type pages struct {
	most int

	mu    sync.Mutex
	bytes int
	byKey map[pageKey]*list.Element
	order *list.List // of *keptPage, the last used first
}

type keptPage struct {
	key  pageKey
	page *rewrite.Page
	size int
}

func newPages(most int) *pages {
	return &pages{most: most, byKey: make(map[pageKey]*list.Element), order: list.New()}
}

func (p *pages) put(key pageKey, page *rewrite.Page) {
	size := sizeOf(page)
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.byKey[key]; e != nil {
		p.drop(e)
	}
	if size > p.most {
		return
	}
	p.byKey[key] = p.order.PushFront(&keptPage{key: key, page: page, size: size})
	p.bytes += size
	for p.bytes > p.most {
		p.drop(p.order.Back())
	}
}

// get returns the last good list, or nil.
func (p *pages) get(key pageKey) *rewrite.Page {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.byKey[key]
	if e == nil {
		return nil
	}
	p.order.MoveToFront(e)
	return e.Value.(*keptPage).page
}

func (p *pages) drop(e *list.Element) {
	kept := p.order.Remove(e).(*keptPage)
	delete(p.byKey, kept.key)
	p.bytes -= kept.size
}

// retain drops the lists of registrations that have ended.
func (p *pages) retain(registered func(id string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, e := range p.byKey {
		if !registered(key.server) {
			p.drop(e)
		}
	}
}

// sizeOf is about how much memory the page takes, in bytes.
func sizeOf(page *rewrite.Page) int {
	const entry = 64
	size := 256
	for i := range page.Entries {
		size += entry + len(page.Entries[i].JSON)
	}
	return size
}
