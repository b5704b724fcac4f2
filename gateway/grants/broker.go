package grants

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	lru "github.com/hashicorp/golang-lru/v2"

	"vault-plugin-secrets-mcp/gateway/config"
)

// Limiter says whether a token that the gateway does not know may be asked
// about, for a client at source.
type Limiter interface {
	Allow(source netip.Addr) bool
}

// Observer is told of what goes on, for metrics.
type Observer interface {
	// LookupDone is called after every request to the engine's lookup; result
	// is "active", "inactive" or "error".
	LookupDone(result string, took time.Duration)
}

// Tracer makes spans of what Vault is asked for a request, where traces are
// wanted. The contexts are requests'.
type Tracer interface {
	// Lookup begins the span of one request to the engine's lookup, for the
	// request that was the first to need it. Results are an Observer's.
	Lookup(ctx context.Context) (end func(result string))
	// Joined notes that a request waits for a lookup that is under way.
	Joined(ctx context.Context)
}

// Options of a Broker.
type Options struct {
	Vault     config.Vault
	Grants    config.Grants
	KMS       *config.KMS // nil: sealed tokens are refused
	PerClient int         // one client's requests in flight; 0: no bound
	Cold      Limiter     // nil: no limit
	Observer  Observer    // nil: nobody is told
	Tracer    Tracer      // nil: no traces
	Log       hclog.Logger
}

// Broker is the gateway's side of the engine. Its methods may be called from
// any goroutine; Run must be running for anything but the past to be known.
type Broker struct {
	options Options
	log     hclog.Logger
	engine  engine
	session *session

	terms *sharedTerms
	seals *seals // nil: sealed tokens are refused

	cache     *cache
	negatives *lru.Cache[key, time.Time] // when the request was sent that said no
	live      liveSet
	view      atomic.Pointer[view]
	feedState atomic.Int32

	// mu orders the publishing of lookups and the applying of changes.
	mu      sync.Mutex
	history history

	flightsMu sync.Mutex
	flights   map[key]*flight
	slots     chan struct{} // one for each lookup in flight
	coldSlots chan struct{} // and one more for those of unknown tokens

	pending *queue[*entry] // live requests whose grants must be confirmed

	registry     atomic.Pointer[registry]
	wakeRegistry chan struct{}
	keys         atomic.Pointer[SessionKeys]
	keysMu       sync.Mutex // of those who fetch keys
	newer        newerKeys
	wakeKeys     chan struct{}
	wakeDataKeys chan struct{}

	ends       *queue[End]
	watchersMu sync.Mutex
	watchers   []func(End)

	registryWatchers []func() // likewise

	outage outage
}

// New returns a Broker that knows nothing yet. The error is about the options.
func New(options Options) (*Broker, error) {
	s, err := newSession(options.Vault, options.Log.Named("login"))
	if err != nil {
		return nil, err
	}
	b, err := newBroker(options, newVault(s, options.Vault))
	if err != nil {
		return nil, err
	}
	b.session = s
	return b, nil
}

func newBroker(options Options, e engine) (*Broker, error) {
	negatives, err := lru.New[key, time.Time](max(options.Grants.MaxEntries, 1))
	if err != nil {
		return nil, err
	}
	known, err := newPolicies(e)
	if err != nil {
		return nil, err
	}
	shared, err := newSharedTerms(known)
	if err != nil {
		return nil, err
	}
	opening, err := newSeals(options.KMS, options.Log.Named("kms"))
	if err != nil {
		return nil, err
	}
	b := &Broker{
		terms:        shared,
		seals:        opening,
		options:      options,
		log:          options.Log,
		engine:       e,
		cache:        newCache(),
		negatives:    negatives,
		flights:      make(map[key]*flight),
		slots:        make(chan struct{}, lookupsInFlight),
		coldSlots:    make(chan struct{}, coldInFlight),
		pending:      newQueue[*entry](),
		wakeRegistry: make(chan struct{}, 1),
		wakeKeys:     make(chan struct{}, 1),
		wakeDataKeys: make(chan struct{}, 1),
		ends:         newQueue[End](),
		outage:       outage{log: options.Log},
	}
	b.view.Store(&view{maxAge: options.Grants.MaxStale})
	b.history.reset(0)
	return b, nil
}

// Run logs in to Vault and keeps everything up to date until ctx is done.
func (b *Broker) Run(ctx context.Context) {
	var running sync.WaitGroup
	if b.session != nil {
		running.Go(func() { b.session.run(ctx) })
	}
	running.Go(func() { b.runFeed(ctx) })
	running.Go(func() { b.runRegistry(ctx) })
	running.Go(func() { b.runKeys(ctx) })
	if b.seals != nil {
		running.Go(func() { b.runDataKeys(ctx) })
		running.Go(func() { b.seals.run(ctx) })
	}
	running.Go(func() { b.runSweep(ctx) })
	running.Go(func() { b.runNotify(ctx) })
	for range backgroundInFlight {
		running.Go(func() { b.runPending(ctx) })
	}
	running.Wait()
}

// LoggedIn reports whether Vault has accepted the gateway's login once.
func (b *Broker) LoggedIn() bool { return b.session == nil || b.session.current() != nil }

// Grant returns what the token's holder may do. The error is ErrInactive,
// ErrUnavailable, ErrRateLimited or that of ctx.
//
// A grant that is known is returned at once. Otherwise Vault is asked: once,
// however many requests ask for the same token at the same time.
func (b *Broker) Grant(ctx context.Context, token string, source netip.Addr) (*Grant, error) {
	k := keyOf(token)
	now := time.Now()
	for range 3 {
		e := b.cache.get(k)
		if e != nil {
			if g := e.grant.Load(); g != nil && b.view.Load().usable(g, now) {
				if err := b.seals.vouch(g); err != nil {
					return nil, err
				}
				e.touch(now)
				return g, nil
			}
		}
		opened, err := b.seals.open(token)
		if err != nil {
			return nil, err
		}
		if err := b.ask(ctx, question{key: k, token: opened, source: source, cold: e == nil}); err != nil {
			return nil, err
		}
		now = time.Now()
	}
	return nil, ErrUnavailable // the grant was taken back as often as it was given
}

// Stats is a look at the Broker's state, for metrics.
type Stats struct {
	Grants    int // in the cache
	Negatives int // remembered
	Feed      FeedState
	FeedSent  time.Time // sending of the request for changes that was answered last
	Servers   int       // registered
	Seals     SealStats
}

// Stats returns the present ones.
func (b *Broker) Stats() Stats {
	s := Stats{
		Grants:    int(b.cache.size.Load()),
		Negatives: b.negatives.Len(),
		Feed:      FeedState(b.feedState.Load()),
		FeedSent:  b.view.Load().sent,
		Seals:     b.seals.stats(),
	}
	if r := b.registry.Load(); r != nil {
		s.Servers = len(r.servers)
	}
	return s
}

// awaitLogin waits until the gateway is logged in, or ctx is done.
func (b *Broker) awaitLogin(ctx context.Context) error {
	if b.session == nil {
		return ctx.Err()
	}
	return b.session.await(ctx, nil)
}
