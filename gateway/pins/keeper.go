package pins

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// Observer counts for metrics.
type Observer interface {
	// PinsUnapproved is called for each thing that is not approved, whenever a client would
	// get it or asks for it.
	PinsUnapproved(server string, kind pin.Kind, mode pin.Mode)
	// PinsReported is called after each report: result is "ok", "failed", "refused" or
	// "unsupported".
	PinsReported(result string)
	// PinsRefused counts definitions in reports that Vault does not keep, and PinsLost
	// those for which the gateway had no room.
	PinsRefused(definitions int)
	PinsLost(definitions int)
}

// Options of a Keeper.
type Options struct {
	Engine   Engine
	Registry func(name string) *grants.Server // the present one, or nil
	Observer Observer                         // nil: none
	Log      hclog.Logger

	Now func() time.Time // nil: time.Now
}

// Keeper has the judges of all servers, and reports the definitions without approval. Any
// goroutine may call its methods. Run reports.
type Keeper struct {
	options Options
	log     hclog.Logger

	judges sync.Map   // name of a server -> *Judge
	mu     sync.Mutex // of those who make and drop judges

	outboxes outboxes

	// Only Tick and Close use these.
	failing map[string]bool // names of servers about which the last report has failed
	tidied  time.Time
}

// New returns a Keeper.
func New(options Options) *Keeper {
	if options.Now == nil {
		options.Now = time.Now
	}
	return &Keeper{options: options, log: options.Log, outboxes: outboxes{of: map[string]*outbox{}}, failing: map[string]bool{}}
}

// Of returns the judge of the server by its pins as they are now; nil if it has none. A nil
// Keeper reports nothing.
func (k *Keeper) Of(s *grants.Server) *Judge {
	p := s.Pins()
	if p == nil {
		return nil
	}
	if k == nil {
		return &Judge{server: s.Name, pins: p, texts: newTexts(), others: newOthers()}
	}
	if found, ok := k.judges.Load(s.Name); ok && found.(*Judge).pins == p {
		return found.(*Judge)
	}
	return k.judge(s.Name, p)
}

// judge makes a judge by other pins. It knows the texts of the one before.
func (k *Keeper) judge(server string, p *grants.Pins) *Judge {
	k.mu.Lock()
	defer k.mu.Unlock()
	j := &Judge{keeper: k, server: server, pins: p, others: newOthers()}
	if found, ok := k.judges.Load(server); ok {
		before := found.(*Judge)
		if before.pins == p {
			return before
		}
		j.texts = before.texts
	} else {
		j.texts = newTexts()
	}
	if p.Known {
		j.texts.keep(p.Set)
	}
	k.judges.Store(server, j)
	return j
}

// prune drops the judges and the outboxes of servers that have no pins any more.
func (k *Keeper) prune() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.judges.Range(func(name, _ any) bool {
		if !k.isPinned(name.(string)) {
			k.judges.Delete(name)
		}
		return true
	})
	k.outboxes.prune(k.isPinned)
	for name := range k.failing {
		if !k.isPinned(name) {
			delete(k.failing, name)
		}
	}
}

func (k *Keeper) isPinned(server string) bool {
	s := k.options.Registry(server)
	return s != nil && s.Pins() != nil
}

// Waiting is how many definitions wait for a report.
func (k *Keeper) Waiting() int { return k.outboxes.waiting() }

func (k *Keeper) observe(count func(Observer)) {
	if k.options.Observer != nil {
		count(k.options.Observer)
	}
}
