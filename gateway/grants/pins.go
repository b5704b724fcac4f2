package grants

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

const (
	// pinsTimeout bounds the reading of all pins that a change of the registry is about.
	// Those that are not read by then are not known.
	pinsTimeout = time.Second

	// pinsInFlight bounds the requests for pins at once.
	pinsInFlight = 8
)

// ErrPinsUnknown: the server is pinned, and Vault has not answered its approvals. It is an
// ErrUnavailable.
var ErrPinsUnknown = fmt.Errorf("%w: the pins of the server are not known", ErrUnavailable)

// Pins are those of a registration at one time: the approved definitions of its server. They are
// immutable.
type Pins struct {
	Mode  pin.Mode   // never [pin.Off]
	Kinds []pin.Kind // that are pinned; empty: all

	// Place names where the registration leads. It stays when the registration is changed
	// and leads to the same place.
	Place string

	// Set has the approvals. Known is false if Vault has not answered them: then nothing is approved.
	Set   *pin.Set
	Known bool
}

// Covers reports whether definitions of the kind are pinned.
func (p *Pins) Covers(kind pin.Kind) bool {
	return p != nil && (len(p.Kinds) == 0 || slices.Contains(p.Kinds, kind))
}

// Pins returns the pins of the registration as they are now; nil if it has none. They change
// while sessions and children of the server live, so they are no part of the Server, which
// another one would replace: all Servers with one ID have the same.
func (s *Server) Pins() *Pins {
	if s.pins == nil {
		return nil
	}
	return s.pins.Load()
}

// WithPins returns a copy of a Server that no registry has, with these pins: for tests.
func (s *Server) WithPins(p *Pins) *Server {
	pinned := *s
	pinned.pins = new(atomic.Pointer[Pins])
	pinned.pins.Store(p)
	return &pinned
}

// pinsKnown is ErrPinsUnknown for a server that no request may reach until its pins are known.
// In observe mode requests reach it: nobody was promised that anything is kept from them.
func (s *Server) pinsKnown() error {
	if p := s.Pins(); p != nil && !p.Known && p.Mode != pin.Observe {
		return ErrPinsUnknown
	}
	return nil
}

// pinned are the pins of a server in the registry: without the approvals, of which it has the ID.
type pinned struct {
	Pins
	set string
}

// pinnedBy reads it; nil for a server without pins. enforced tells that the entry stands among
// those whose pins are enforced.
func pinnedBy(e vaultclient.ServerEntry, enforced bool) (*pinned, error) {
	mode, err := pin.ParseMode(e.Pin)
	switch {
	case err != nil:
		return nil, fmt.Errorf("pin %w", err)
	case enforced != (mode == pin.Enforce):
		return nil, errors.New("its pins are enforced, or they are not: the registry says both")
	case !mode.Active():
		return nil, nil //nolint:nilnil // it has none, and nothing is wrong
	case e.Place == "" || e.Pins == "":
		return nil, errors.New("it is pinned, and the registry has no place or no ID of its approvals")
	}
	p := &pinned{Pins: Pins{Mode: mode, Place: e.Place}, set: e.Pins}
	for _, text := range e.PinKinds {
		kind, err := pin.ParseKind(text)
		if err != nil {
			return nil, fmt.Errorf("pin_kinds: %w", err)
		}
		p.Kinds = append(p.Kinds, kind)
	}
	return p, nil
}

// with returns the pins with these approvals; without any if they are not known.
func (w *pinned) with(set *pin.Set) *Pins {
	p := w.Pins
	p.Set, p.Known = set, set != nil
	return &p
}

// pinServers returns the pins of the servers of next, which nobody has yet. It reads from Vault the
// approvals that old does not have. Those that it cannot read are not known, and left to
// [Broker.runPins].
func (b *Broker) pinServers(ctx context.Context, old, next *registry) map[string]*Pins {
	given := make(map[string]*Pins, len(next.pinned))
	missing := map[string]*pinned{}
	for name, w := range next.pinned {
		held, asked := old.pinsOf(name, w.Place)
		switch {
		case held != nil && held.Known && held.Set.ID() == w.set:
			given[name] = w.with(held.Set)
		case held != nil && !held.Known && asked == w.set: // it has failed already
			given[name] = w.with(nil)
		default:
			missing[name] = w
		}
	}
	sets, _ := b.readPins(ctx, missing, next) // runPins tries again, and tells of errors
	for name, w := range missing {
		given[name] = w.with(sets[name])
	}
	return given
}

// pinsOf returns the pins of the server of that name if it leads to that place, and the ID of
// its approvals in the registry.
func (r *registry) pinsOf(name, place string) (held *Pins, set string) {
	if r == nil || r.pinned[name] == nil || r.pinned[name].Place != place {
		return nil, ""
	}
	return r.servers[name].Pins(), r.pinned[name].set
}

// install has the registry take effect, with the pins of its servers. It returns the servers
// whose pins have changed.
func (b *Broker) install(next *registry, pins map[string]*Pins) (changed []*Server) {
	b.pinsMu.Lock()
	defer b.pinsMu.Unlock()
	for name, server := range next.servers {
		if server.setPins(pins[name]) {
			changed = append(changed, server)
		}
	}
	b.registry.Store(next)
	if len(next.unpinned()) > 0 {
		wake(b.wakePins)
	}
	return changed
}

// setPins sets the pins of the registration, and reports whether they are others than before.
func (s *Server) setPins(p *Pins) bool {
	if s.pins.Load().equal(p) {
		return false // whoever has the ones of before need not look at them again
	}
	s.pins.Store(p)
	return true
}

func (p *Pins) equal(o *Pins) bool {
	if p == nil || o == nil {
		return p == o
	}
	return p.Mode == o.Mode && p.Place == o.Place && p.Known == o.Known && slices.Equal(p.Kinds, o.Kinds) && p.Set.ID() == o.Set.ID()
}

// unpinned returns the servers whose pins are not known.
func (r *registry) unpinned() map[string]*pinned {
	unknown := map[string]*pinned{}
	for name, w := range r.pinned {
		if p := r.servers[name].Pins(); p != nil && !p.Known {
			unknown[name] = w
		}
	}
	return unknown
}

// readPins reads the approvals of the servers, for the registry r. It returns those that it could
// read, and the error of one of the others.
func (b *Broker) readPins(ctx context.Context, wanted map[string]*pinned, r *registry) (map[string]*pin.Set, error) {
	ctx, cancel := context.WithTimeout(ctx, pinsTimeout)
	defer cancel()
	var mu sync.Mutex
	sets := make(map[string]*pin.Set, len(wanted))
	var reading errgroup.Group
	reading.SetLimit(pinsInFlight)
	for name, w := range wanted {
		reading.Go(func() error {
			set, err := b.readPinsOf(ctx, name, w, r)
			if err != nil {
				return fmt.Errorf("server %s: %w", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			sets[name] = set
			return nil
		})
	}
	err := reading.Wait()
	return sets, err
}

// readPinsOf reads the approvals of one server: those of r, or newer ones.
func (b *Broker) readPinsOf(ctx context.Context, name string, w *pinned, r *registry) (*pin.Set, error) {
	answer, err := b.engine.Pins(ctx, name)
	if err != nil {
		return nil, err
	}
	id := answer.Approved.ID()
	switch {
	case answer.Approved == nil || id != answer.Set:
		return nil, errors.New("its pins read differently here than in the engine: the gateway and the engine are not of the same version")
	case answer.Place != w.Place, id != w.set && (answer.Epoch != r.epoch || answer.Index < r.index):
		return nil, errOutdated
	}
	return answer.Approved, nil
}

// runPins reads the pins that are not known until they are.
func (b *Broker) runPins(ctx context.Context) {
	b.refetch(ctx, "pins of servers", b.wakePins, b.fetchPins, func() time.Duration { return refreshSynced })
}

// fetchPins reads the pins that are not known.
func (b *Broker) fetchPins(ctx context.Context) error {
	r := b.registry.Load()
	if r == nil {
		return nil
	}
	sets, err := b.readPins(ctx, r.unpinned(), r)
	b.notifyPins(b.learnPins(r, sets))
	return err
}

// learnPins sets the pins that were read for the registry r, unless the present one says
// otherwise. It returns the servers whose pins have changed.
func (b *Broker) learnPins(r *registry, sets map[string]*pin.Set) (changed []*Server) {
	b.pinsMu.Lock()
	defer b.pinsMu.Unlock()
	present := b.registry.Load()
	for name, set := range sets {
		w := present.pinned[name]
		if w == nil || w.Place != r.pinned[name].Place || present != r && set.ID() != w.set {
			wake(b.wakePins)
			continue
		}
		if server := present.servers[name]; server.setPins(w.with(set)) {
			changed = append(changed, server)
		}
	}
	return changed
}
