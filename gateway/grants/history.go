package grants

// historySize is how many changes are remembered for comparison with lookups
// that were under way. A lookup takes a second at most; what is older than the
// oldest change remembered is taken to have been touched.
const historySize = 4096

// history remembers which changes were applied lately, so that an answer that
// is older than they are can be told from one that is not.
type history struct {
	floor uint64 // changes up to here are forgotten

	everything uint64 // last change that touches every grant
	negatives  uint64 // last change after which an unknown token may be a known one
	accessors  map[string]uint64
	clients    map[string]uint64

	ring []remembered // oldest first, from next on, once it is full
	next int
}

type remembered struct {
	index    uint64
	accessor string
	client   string
}

// reset forgets everything: whatever happened up to index is unknown.
func (h *history) reset(index uint64) {
	*h = history{
		floor:     index,
		accessors: make(map[string]uint64),
		clients:   make(map[string]uint64),
	}
}

// remember notes what the change touches.
func (h *history) remember(c *Change) {
	entry := remembered{index: c.Index}
	switch c.scope() {
	case scopeToken:
		entry.accessor = c.Accessor
		h.accessors[c.Accessor] = c.Index
	case scopeClient:
		entry.client = c.ClientID
		h.clients[c.ClientID] = c.Index
	case scopeEverything:
		h.everything = c.Index
	case scopeServers, scopeKeys:
		return
	}
	if c.admits() {
		h.negatives = c.Index
	}
	if len(h.ring) < historySize {
		h.ring = append(h.ring, entry)
		return
	}
	h.forget(h.ring[h.next])
	h.ring[h.next] = entry
	h.next = (h.next + 1) % historySize
}

func (h *history) forget(r remembered) {
	h.floor = max(h.floor, r.index)
	if h.accessors[r.accessor] == r.index {
		delete(h.accessors, r.accessor)
	}
	if h.clients[r.client] == r.index {
		delete(h.clients, r.client)
	}
}

// touched reports whether a change that was applied since the answer's index
// may concern the answer.
func (h *history) touched(l *Lookup) bool {
	if l.Index < h.floor || l.Index < h.everything {
		return true
	}
	if !l.Active {
		return l.Index < h.negatives
	}
	return l.Index < h.accessors[l.Accessor] || l.Index < h.clients[l.ClientID]
}
