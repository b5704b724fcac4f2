package backend

import (
	"context"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/feed"
	"vault-plugin-secrets-mcp/backend/pin"
)

// The approvals of a server and the reported definitions are one entry, the server's index: one
// Put of it is one change of pins, however many definitions it is about.
// The texts are beside it, one entry each, under their digests. They are written before the
// index that names them, and tidy removes a text that no index names.
//
// An index belongs to a place, the one that the server's registration leads to. If it leads
// elsewhere, earlier approvals do not count.

// pinName is the kind and the name of a definition. A server's instructions and its serverInfo have no name.
type pinName struct {
	Kind pin.Kind `json:"kind"`
	Name string   `json:"name,omitempty"`
}

// pinDefinition is one definition by its digest.
type pinDefinition struct {
	pinName
	Digest pin.Digest `json:"digest"`

	Seen time.Time `json:"seen,omitzero"`  // when a gateway reported it first; zero: none has
	Size int       `json:"size,omitempty"` // of its text
	Text bool      `json:"text,omitempty"` // whether the text is kept
}

// pinApproval is a definition that somebody has approved.
type pinApproval struct {
	pinDefinition
	At time.Time `json:"at"`
	By string    `json:"by"`

	// FirstSeen: no person has approved this very definition. It was the first one of its
	// name during trust_first.
	FirstSeen bool `json:"first_seen,omitempty"`
}

// pinState is all that is stored of a server's pins but the texts. Only a clone is changed.
type pinState struct {
	Place    string          `json:"place"`
	Approved []pinApproval   `json:"approved,omitempty"`
	Reported []pinDefinition `json:"reported,omitempty"`

	// The first definition that is reported of a name is approved until then, in the name of who wrote
	// trust_first. Not of Frozen names, which had two definitions while the first one was new.
	TrustFirstUntil time.Time `json:"trust_first_until,omitzero"`
	TrustFirstBy    string    `json:"trust_first_by,omitempty"`
	Frozen          []pinName `json:"frozen,omitempty"`

	// Lost counts reports for which there was no room.
	Lost int `json:"lost,omitempty"`
}

// pinEntry is a server's index. It is never changed in place.
type pinEntry struct {
	pinState

	compile sync.Once
	set     *pin.Set
}

// of returns the index if it is of the place, else one without anything. p may be nil.
func (p *pinEntry) of(place string) *pinEntry {
	if p == nil || p.Place != place {
		return &pinEntry{pinState: pinState{Place: place}}
	}
	return p
}

// approved returns the approvals as a set.
func (p *pinEntry) approved() *pin.Set {
	p.compile.Do(func() {
		digests := map[pin.Kind]map[string][]pin.Digest{}
		for i := range p.Approved {
			a := &p.Approved[i]
			if digests[a.Kind] == nil {
				digests[a.Kind] = map[string][]pin.Digest{}
			}
			digests[a.Kind][a.Name] = append(digests[a.Kind][a.Name], a.Digest)
		}
		p.set = pin.NewSet(digests)
	})
	return p.set
}

func (p *pinState) clone() *pinState {
	next := *p
	next.Approved, next.Reported, next.Frozen = slices.Clone(p.Approved), slices.Clone(p.Reported), slices.Clone(p.Frozen)
	return &next
}

// texts are the digests of the texts that are kept. p may be nil.
func (p *pinEntry) texts() map[pin.Digest]struct{} {
	kept := map[pin.Digest]struct{}{}
	if p == nil {
		return kept
	}
	for i := range p.Approved {
		if p.Approved[i].Text {
			kept[p.Approved[i].Digest] = struct{}{}
		}
	}
	for i := range p.Reported {
		if p.Reported[i].Text {
			kept[p.Reported[i].Digest] = struct{}{}
		}
	}
	return kept
}

// pinsOf returns the index of the server at its present place.
func (b *mcpBackend) pinsOf(ctx context.Context, s logical.Storage, name string, e *serverEntry) (*pinEntry, error) {
	stored, err := b.pins.get(ctx, s, name)
	if err != nil {
		return nil, err
	}
	return stored.of(e.place()), nil
}

// serverPins returns the server of the name, nil if there is none, and its index.
func (b *mcpBackend) serverPins(ctx context.Context, s logical.Storage, name string) (*serverEntry, *pinEntry, error) {
	e, err := b.servers.get(ctx, s, name)
	if err != nil || e == nil {
		return nil, nil, err
	}
	pins, err := b.pinsOf(ctx, s, name, e)
	return e, pins, err
}

// pinWrite is one change of a server's pins, under the lock of its index.
type pinWrite struct {
	name   string
	server *serverEntry
	stored *pinEntry // whatever its place
	held   *pinEntry
	next   *pinState
	texts  map[pin.Digest][]byte // of definitions that are new
}

// beginPins reads the state before a change of pins, nil if there is no server of the name. The
// caller holds the lock of the index. Only under the lock is the server's place sure to be that
// of the index: a writer that has read the place before could replace the index of a newer
// place.
func (b *mcpBackend) beginPins(ctx context.Context, s logical.Storage, name string) (*pinWrite, error) {
	server, err := b.servers.get(ctx, s, name)
	if err != nil || server == nil {
		return nil, err
	}
	stored, err := b.pins.getLocked(ctx, s, name)
	if err != nil {
		return nil, err
	}
	held := stored.of(server.place())
	return &pinWrite{
		name: name, server: server, stored: stored, held: held, next: held.clone(), texts: map[pin.Digest][]byte{},
	}, nil
}

// commitPins stores the change: new texts, then the index. It tells gateways if the
// approvals have changed.
func (b *mcpBackend) commitPins(ctx context.Context, s logical.Storage, w *pinWrite) error {
	next := &pinEntry{pinState: *w.next}
	kept := next.texts()
	for digest, text := range w.texts {
		if _, ok := kept[digest]; !ok {
			continue
		}
		if err := s.Put(ctx, &logical.StorageEntry{Key: pinTextKey(w.name, digest), Value: text}); err != nil {
			return err
		}
	}
	err := b.announcePins(ctx, s, w.name, w.held.approved().ID() != next.approved().ID(), func() error {
		return b.pins.put(ctx, s, w.name, next)
	})
	if err != nil {
		return err
	}
	b.dropPinTexts(ctx, s, w.name, w.stored, kept)
	return nil
}

// announcePins runs the change of a server's index, and announces it if approvals change.
func (b *mcpBackend) announcePins(ctx context.Context, s logical.Storage, name string, approvals bool, change func() error) error {
	if !approvals {
		return change()
	}
	return b.feed.Around(ctx, s, []feed.Event{{Type: feed.Server, Operation: feed.Update, Name: name}}, change)
}

// dropPinTexts removes the texts of stored that are not kept any more. The change is done by
// then, so a failure is only logged: tidy removes them, too.
func (b *mcpBackend) dropPinTexts(ctx context.Context, s logical.Storage, name string, stored *pinEntry, kept map[pin.Digest]struct{}) {
	for digest := range stored.texts() {
		if _, ok := kept[digest]; ok {
			continue
		}
		if err := s.Delete(ctx, pinTextKey(name, digest)); err != nil {
			b.Logger().Warn("the text of a definition stays in storage until the next tidy", "server", name, "digest", digest.String(), "error", err)
		}
	}
}

// pinTextKey is where the text of a server's definition is stored.
func pinTextKey(server string, digest pin.Digest) string {
	return pinTextPrefix + server + "/" + hex.EncodeToString(digest[:])
}

// pinLosses counts, by place, the reports for which there was no room and which were not worth
// a write.
type pinLosses struct {
	mu sync.Mutex
	of map[string]int
}

func (l *pinLosses) add(place string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[string]int{}
	}
	l.of[place] += n
}

func (l *pinLosses) read(place string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[place]
}

func (l *pinLosses) forget(place string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.of, place)
}

// tidyPins removes the index of a server that is gone, or of a place to which the server does
// not lead any more: no place has the same id again.
func (b *mcpBackend) tidyPins(ctx context.Context, s logical.Storage, name string) error {
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.pins.lock(name)()
	stored, err := b.pins.getLocked(ctx, s, name)
	if err != nil || stored == nil {
		return err
	}
	server, err := b.servers.get(ctx, s, name)
	if err != nil || server != nil && server.place() == stored.Place {
		return err
	}
	b.pinLosses.forget(stored.Place)
	return b.pins.delete(ctx, s, name)
}

// tidyPinText removes a text that its server's index does not name. The key is the server's
// name and the digest.
func (b *mcpBackend) tidyPinText(ctx context.Context, s logical.Storage, key string) error {
	name, digits, _ := strings.Cut(key, "/")
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.pins.lock(name)()
	stored, err := b.pins.getLocked(ctx, s, name)
	if err != nil {
		return err
	}
	for digest := range stored.texts() {
		if hex.EncodeToString(digest[:]) == digits {
			return nil
		}
	}
	return s.Delete(ctx, pinTextPrefix+key)
}
