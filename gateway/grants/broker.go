package grants

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	lru "github.com/hashicorp/golang-lru/v2"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// Limiter says whether Vault may be asked about an unknown token, for a client at source.
type Limiter interface {
	Allow(source netip.Addr) bool
}

// Observer counts lookups, for metrics.
type Observer interface {
	// LookupDone is called after every request to the engine's lookup; result
	// is "active", "inactive" or "error".
	LookupDone(result string, took time.Duration)
}

// Tracer makes spans of the lookups for a request. The contexts are those of requests.
type Tracer interface {
	// Lookup begins the span of one request to the engine's lookup, for the
	// request that was the first to need it. Results are an Observer's.
	Lookup(ctx context.Context) (end func(result string))
	// Joined notes that a request waits for a lookup that is under way.
	Joined(ctx context.Context)
}

// Why a token's holder gets no answer, or loses the one in flight. The first
// three are also the causes with which the context of a live request ends.
var (
	// ErrInactive: Vault says that the token is unknown, expired or revoked, without
	// a difference. The answer is 401.
	ErrInactive = errors.New("the token is not active")

	// ErrNotAllowed: the client may not, or no longer, reach the server.
	// The answer is 403.
	ErrNotAllowed = errors.New("the client may not reach the server")

	// ErrUnavailable: Vault does not answer, and its last answer is too old to use.
	// The answer is 503 with Retry-After.
	ErrUnavailable = errors.New("vault cannot be asked")

	// ErrServerGone: the server was deleted from the registry, or re-pointed,
	// while a request to it was in flight.
	ErrServerGone = errors.New("the server's registration has ended")

	// ErrServerDisabled: the server is registered, and no client may reach it. To a request
	// in flight it is gone.
	ErrServerDisabled = fmt.Errorf("%w: it is disabled", ErrServerGone)
)

// Options of a Broker.
type Options struct {
	Vault     config.Vault
	Grants    config.Grants
	KMS       *config.KMS // nil: sealed tokens are refused
	PerClient int         // one client's requests in flight; 0: no bound
	Gateway   string      // its id, for the engine; "": none

	// CallTimeout bounds how long a call to the server of that name may outlive its leased
	// token; "" stands for a call to several. Nil: five minutes.
	CallTimeout func(server string) time.Duration

	Cold     Limiter  // nil: no limit
	Observer Observer // nil: none
	Tracer   Tracer   // nil: no traces
	Log      hclog.Logger
}

// engine has the requests to the secrets engine: [vaultclient.Engine], or a model of it
// in tests. Every error means that the engine has not answered the question.
type engine interface {
	Lookup(ctx context.Context, token vaultclient.UnsealedToken) (*vaultclient.Lookup, error)
	Changes(ctx context.Context, epoch string, index uint64, wait time.Duration) (*vaultclient.Changes, error)
	Servers(ctx context.Context) (*vaultclient.ServerList, error)
	SessionKeys(ctx context.Context) (*vaultclient.SessionKeyList, error)
	DataKeys(ctx context.Context) (*vaultclient.DataKeyList, error)
	Policy(ctx context.Context, digest string) (*vaultclient.Policy, error)
	Pins(ctx context.Context, server string) (*vaultclient.PinSet, error)
}

// opener opens the tokens that clients send. Where the gateway's file has a block
// kms { }, they may be sealed: see sealed.go. Its errors wrap ErrInactive or
// ErrUnavailable.
type opener interface {
	// open returns the token that Vault is asked about.
	open(token string) (vaultclient.UnsealedToken, error)
	// checkDataKey says whether a data key that tokens are sealed under is still good.
	checkDataKey(id string) error
	// keysChanged is called when Vault may have other data keys.
	keysChanged()
	// run keeps the data keys up to date until ctx is done.
	run(ctx context.Context, b *Broker)
	stats() SealStats
}

// Broker stores Vault's answers: grants, the registry of servers, session keys. Any
// goroutine may call its methods. Run keeps it up to date.
type Broker struct {
	options Options
	log     hclog.Logger
	engine  engine
	login   *vaultclient.Login // nil: none is needed

	entitlements *entitlementCache
	opener       opener

	cache     *cache
	negatives *lru.Cache[key, time.Time] // when the request was sent that said no
	live      liveSet
	position  atomic.Pointer[feedPosition]
	feedState atomic.Int32

	// mu orders the publishing of lookups and the applying of changes.
	mu       sync.Mutex
	recent   recentChanges
	outlived map[*entry]struct{} // by calls in flight: see expiry.go

	// changedRoles are the indexes of the last changes of roles with live requests that have
	// not been compared with them yet.
	changedRoles map[string]uint64

	lookupsMu sync.Mutex
	lookups   map[key]*sharedRequest
	slots     chan struct{} // one for each lookup in flight
	coldSlots chan struct{} // and one more for those of unknown tokens

	revalidations *queue[*entry] // live requests whose grants must be confirmed

	back chan struct{} // closed once the feed is up; guarded by mu

	registry     atomic.Pointer[registry]
	wakeRegistry chan struct{}
	pinsMu       sync.Mutex // of those who change the registry or the pins of its servers
	wakePins     chan struct{}
	keys         atomic.Pointer[SessionKeys]
	keysMu       sync.Mutex // of those who fetch keys
	newer        newerKeys
	wakeKeys     chan struct{}

	ends       *queue[End]
	watchersMu sync.Mutex
	watchers   []func(End)

	registryWatchers []func()        // guarded by watchersMu, too
	pinsWatchers     []func(*Server) // likewise

	outage *vaultclient.Outage
}

// New returns a Broker that knows nothing yet. The error is about the options.
func New(options Options) (*Broker, error) {
	login, err := vaultclient.NewLogin(options.Vault, options.Log.Named("login"))
	if err != nil {
		return nil, err
	}
	b, err := newBroker(options, vaultclient.NewEngine(login, options.Vault).For(options.Gateway))
	if err != nil {
		return nil, err
	}
	b.login = login
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
	shared, err := newEntitlementCache(known)
	if err != nil {
		return nil, err
	}
	opener, err := newOpener(options.KMS, options.Log.Named("kms"))
	if err != nil {
		return nil, err
	}
	b := &Broker{
		entitlements:  shared,
		opener:        opener,
		options:       options,
		log:           options.Log,
		engine:        e,
		cache:         newCache(),
		negatives:     negatives,
		lookups:       make(map[key]*sharedRequest),
		slots:         make(chan struct{}, vaultclient.LookupsInFlight),
		coldSlots:     make(chan struct{}, coldInFlight),
		revalidations: newQueue[*entry](),
		back:          make(chan struct{}),
		wakeRegistry:  make(chan struct{}, 1),
		wakePins:      make(chan struct{}, 1),
		wakeKeys:      make(chan struct{}, 1),
		ends:          newQueue[End](),
		outage:        vaultclient.NewOutage(options.Log),
		outlived:      make(map[*entry]struct{}),
		changedRoles:  make(map[string]uint64),
	}
	b.position.Store(&feedPosition{maxAge: options.Grants.MaxStale})
	b.recent.reset(0)
	return b, nil
}

// Run logs in to Vault and keeps everything up to date until ctx is done.
func (b *Broker) Run(ctx context.Context) {
	var running sync.WaitGroup
	if b.login != nil {
		running.Go(func() { b.login.Run(ctx) })
	}
	running.Go(func() { b.runFeed(ctx) })
	running.Go(func() { b.runRegistry(ctx) })
	running.Go(func() { b.runPins(ctx) })
	running.Go(func() { b.runKeys(ctx) })
	running.Go(func() { b.opener.run(ctx, b) })
	running.Go(func() { b.runSweep(ctx) })
	running.Go(func() { b.runNotify(ctx) })
	for range backgroundInFlight {
		running.Go(func() { b.runRevalidations(ctx) })
	}
	running.Wait()
}

// Login returns the gateway's login to Vault.
func (b *Broker) Login() *vaultclient.Login { return b.login }

// LoggedIn reports whether Vault has accepted the gateway's login once.
func (b *Broker) LoggedIn() bool { return b.login == nil || b.login.LoggedIn() }

// Grant returns the grant of the token. The error is ErrInactive,
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
			if g := e.grant.Load(); g != nil && b.position.Load().fresh(g, now) {
				if err := b.checkSeal(g); err != nil {
					return nil, err
				}
				e.markUsed(now)
				return g, nil
			}
		}
		opened, err := b.opener.open(token)
		if err != nil {
			return nil, err
		}
		if err := b.awaitLookup(ctx, lookupRequest{key: k, token: opened, source: source, cold: e == nil}); err != nil {
			return nil, err
		}
		now = time.Now()
	}
	return nil, ErrUnavailable // the grant was taken back as often as it was given
}

// Live reports whether a token of the principal is in the cache, and as far as is known
// active: Vault's answer about it is good, or is being confirmed for a request that lives on it.
func (b *Broker) Live(p Principal) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, v := time.Now(), b.position.Load()
	principal := b.cache.byPrincipal[p]
	if principal == nil {
		return false
	}
	for e := principal.entries; e != nil; e = e.next {
		g := e.grant.Load()
		if g == nil || g.Expired(now) {
			continue
		}
		if _, good := v.lastConfirmed(g); good || e.hasLive() {
			return true
		}
	}
	return false
}

// Heard reports whether a token of the principal is in the cache that has not expired. Where
// Vault's answer about it does not count any more, its next use asks again, and an End tells of
// a "no".
func (b *Broker) Heard(p Principal) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now, heard := time.Now(), false
	b.cache.byPrincipal[p].each(func(e *entry) {
		g := e.grant.Load()
		heard = heard || g != nil && !g.Expired(now)
	})
	return heard
}

// checkSeal says whether the data key that the grant's token is sealed under, if any,
// is still good.
func (b *Broker) checkSeal(g *Grant) error {
	if g.dataKey == "" {
		return nil
	}
	return b.opener.checkDataKey(g.dataKey)
}

// Stats is a look at the Broker's state, for metrics.
type Stats struct {
	Grants    int // in the cache
	Negatives int // remembered
	Feed      FeedState
	FeedSent  time.Time // sending of the request for changes that was answered last
	Servers   int       // registered
	Unpinned  int       // of these, the ones whose pins are not known
	Seals     SealStats
}

// Stats returns the current ones.
func (b *Broker) Stats() Stats {
	s := Stats{
		Grants:    int(b.cache.size.Load()),
		Negatives: b.negatives.Len(),
		Feed:      FeedState(b.feedState.Load()),
		FeedSent:  b.position.Load().sent,
		Seals:     b.opener.stats(),
	}
	if r := b.registry.Load(); r != nil {
		s.Servers, s.Unpinned = len(r.servers), len(r.unpinned())
	}
	return s
}

// awaitLogin waits until the gateway is logged in, or ctx is done.
func (b *Broker) awaitLogin(ctx context.Context) error {
	if b.login == nil {
		return ctx.Err()
	}
	return b.login.Await(ctx)
}

// refetch calls fetch at the start, when woken, and after every interval.
// Failures are repeated with back-off, and at once when the change feed is up again: what it
// could not tell must be fetched before requests pass, and a request that is under way then
// may be one to a node that is gone.
func (b *Broker) refetch(ctx context.Context, what string, woken <-chan struct{}, fetch func(context.Context) error, interval func() time.Duration) {
	failures, inRow := 0, 0
	for b.awaitLogin(ctx) == nil && ctx.Err() == nil {
		back := b.feedBack()
		fetchCtx, cancel := context.WithTimeout(ctx, fetchTimeout)
		if back != nil {
			go func() {
				select {
				case <-back:
					cancel()
				case <-fetchCtx.Done():
				}
			}()
		}
		err := fetch(fetchCtx)
		cancel()
		if err != nil {
			if failures == 0 && ctx.Err() == nil {
				b.log.Error("cannot fetch the "+what+" from Vault: trying again", "error", err)
			}
			failures++
			inRow++
			timer := time.NewTimer(fetchBackoff.After(inRow))
			select {
			case <-back:
				inRow = 0
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
			continue
		}
		inRow = 0
		if failures > 0 {
			b.log.Info("fetched the "+what+" from Vault", "failed_before", failures)
			failures = 0
		}
		timer := time.NewTimer(interval())
		select {
		case <-woken:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}
