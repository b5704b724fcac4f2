package credentials

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// Observer counts for metrics.
type Observer interface {
	// CredentialsMinted is called when credentials were taken from Vault.
	CredentialsMinted()
	// CredentialsFailed is called when they could not be, with one of the Failure constants.
	CredentialsFailed(failure string)
	// CredentialsRevoked is called when they were given back, with the time since the first
	// attempt to tell Vault. ok is false where Vault has not been told before their end.
	CredentialsRevoked(ok bool, took time.Duration)
}

// Options of a Store.
type Options struct {
	Config *config.Config
	Vault  Vault
	// Live reports whether a token of the principal is known to be active.
	Live     func(grants.Principal) bool
	Observer Observer         // nil: none
	Now      func() time.Time // nil: time.Now
	Log      hclog.Logger
}

// Store has the credentials of all registered servers. Any goroutine may use it.
type Store struct {
	vault      Vault
	live       func(grants.Principal) bool
	observer   Observer
	now        func() time.Time
	log        hclog.Logger
	identities *identities
	revocable  sync.Map // lists of policies whose tokens may end themselves
	revoker    *revoker
	mints      *rate.Limiter
	running    sync.WaitGroup // the holdings

	config  atomic.Pointer[config.Config]
	started time.Time

	mu       sync.Mutex
	servers  map[string]*Server // by name
	holdings map[grants.Principal]map[*holding]struct{}
	counts   map[grants.Principal]int // credentials of each
	total    int
}

// New returns a Store that has nothing yet. Run must be called, and Close at the end.
func New(o Options) (*Store, error) {
	known, err := newIdentities()
	if err != nil {
		return nil, err
	}
	s := &Store{
		vault: o.Vault, live: o.Live, observer: o.Observer, now: o.Now, log: o.Log, identities: known,
		mints:    rate.NewLimiter(0, 0),
		servers:  make(map[string]*Server),
		holdings: make(map[grants.Principal]map[*holding]struct{}),
		counts:   make(map[grants.Principal]int),
	}
	if s.observer == nil {
		s.observer = unobserved{}
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.started = s.now()
	s.revoker = newRevoker(s)
	s.Configure(o.Config)
	return s, nil
}

type unobserved struct{}

func (unobserved) CredentialsMinted()                     {}
func (unobserved) CredentialsFailed(string)               {}
func (unobserved) CredentialsRevoked(bool, time.Duration) {}

// settings are those of the gateway's file; nil without the block.
func (s *Store) settings() *config.UpstreamCredentials { return s.config.Load().UpstreamCredentials }

func (s *Store) upstream(name string) config.Upstream { return s.config.Load().Upstream(name) }

func (s *Store) idleTimeout() time.Duration {
	if settings := s.settings(); settings != nil {
		return settings.IdleTimeout
	}
	return 0
}

// Configure takes another configuration. Requests that begin get credentials by it; those
// under way go on.
func (s *Store) Configure(c *config.Config) {
	old := s.config.Swap(c)
	if settings := c.UpstreamCredentials; settings != nil {
		s.mints.SetLimit(rate.Limit(settings.MintRate))
		s.mints.SetBurst(max(int(settings.MintRate), 1))
	}
	if old == nil {
		return
	}
	same := sameIdentity(old.UpstreamCredentials, c.UpstreamCredentials)
	for _, server := range s.all() {
		name := server.of.Name
		if !same || !slices.Equal(old.Upstream(name).CredentialPaths, c.Upstream(name).CredentialPaths) {
			server.retire()
		}
	}
}

// sameIdentity reports whether both settings give the same credentials.
func sameIdentity(a, b *config.UpstreamCredentials) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.TokenRole == b.TokenRole && a.AliasPrefix == b.AliasPrefix && slices.Equal(a.Policies, b.Policies)
}

// Server returns the credentials of a registration; nil if it has none. The error names the
// mistake in the registration or in the gateway's file, and no value.
func (s *Store) Server(of *grants.Server) (*Server, error) {
	if !of.Leases() {
		if len(of.Files) > 0 {
			return nil, errFiles
		}
		return nil, nil //nolint:nilnil // there are none, and nothing is wrong
	}
	if s.settings() == nil {
		return nil, errOff
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.servers[of.Name]
	if held != nil && held.of == of {
		return held, nil
	}
	p, err := newPlan(of)
	if err != nil {
		return nil, err
	}
	next := &Server{store: s, of: of, plan: p, holdings: make(map[grants.Principal]*holding), retired: make(map[grants.Principal]*holding)}
	s.servers[of.Name] = next
	if held != nil {
		go held.supersede(next) // s.mu is held
	}
	return next, nil
}

var errFiles = fmt.Errorf("the registration has files, and no credentials to put into them")

func (s *Store) principals() []grants.Principal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.holdings))
}

// concerned returns those who hold something and whom an unheard end may concern.
func (s *Store) concerned(end *grants.End) []grants.Principal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return end.Among(maps.Keys(s.holdings))
}

// second is a time in seconds since the start, for times that need not be exact.
func (s *Store) second(now time.Time) int64 { return int64(now.Sub(s.started) / time.Second) }

// of returns the principal's holdings.
func (s *Store) of(p grants.Principal) []*holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*holding, 0, len(s.holdings[p]))
	for h := range s.holdings[p] {
		list = append(list, h)
	}
	return list
}

func (s *Store) all() []*Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Server, 0, len(s.servers))
	for _, server := range s.servers {
		list = append(list, server)
	}
	return list
}

// drop ends the credentials of a registration, and cuts requests in flight.
func (s *Store) drop(server *Server, cause error) {
	s.mu.Lock()
	if s.servers[server.of.Name] == server {
		delete(s.servers, server.of.Name)
	}
	s.mu.Unlock()
	server.close(cause)
}

func (s *Store) add(h *holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holdings[h.principal] == nil {
		s.holdings[h.principal] = make(map[*holding]struct{})
	}
	s.holdings[h.principal][h] = struct{}{}
}

func (s *Store) remove(h *holding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uncountLocked(h)
	delete(s.holdings[h.principal], h)
	if len(s.holdings[h.principal]) == 0 {
		delete(s.holdings, h.principal)
	}
}

// mintWait is how long a mint waits for its turn under mint_rate.
const mintWait = 10 * time.Second

func (s *Store) awaitMint(ctx context.Context) *Error {
	ctx, cancel := context.WithTimeout(ctx, mintWait)
	defer cancel()
	if s.mints.Wait(ctx) != nil {
		return &Error{Failure: FailureBound, Err: errRate}
	}
	return nil
}

var errRate = fmt.Errorf("the gateway makes as many Vault tokens a second as mint_rate of its block upstream_credentials allows")

// Run keeps the credentials in step with the gateway's own login, until ctx is done.
func (s *Store) Run(ctx context.Context) {
	revoking := make(chan struct{})
	go func() {
		defer close(revoking)
		s.revoker.run(ctx)
	}()
	for {
		parent, changed := s.vault.Parent()
		select {
		case <-changed:
			s.replaceAll(time.Until(parent.Ends()))
		case <-ctx.Done():
			<-revoking
			return
		}
	}
}

// replaceAll has all credentials leased again under the gateway's new login, spread over
// the remaining life of the old one, less a reserve.
func (s *Store) replaceAll(left time.Duration) {
	const usual, most = 30 * time.Second, 5 * time.Minute
	if left <= 0 {
		left = usual
	}
	left = min(left/2, most)
	for _, server := range s.all() {
		for _, h := range server.all() {
			h.replaceAt(s.now().Add(spread(left)))
		}
	}
}

// closeTimeout is how long Close waits for Vault.
const closeTimeout = 10 * time.Second

// Close ends all credentials, and waits until Vault has been told. Run must still run.
func (s *Store) Close() {
	for _, server := range s.all() {
		s.drop(server, ErrClosed)
	}
	for _, p := range s.principals() { // of registrations as they were before
		s.endAll(p, ErrClosed)
	}
	ended := make(chan struct{})
	go func() {
		s.running.Wait() // each of them may wait for Vault
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(closeTimeout):
	}
	s.revoker.drain(closeTimeout)
}

// Stats is a look at the Store's state, for metrics.
type Stats struct {
	Principals int // with credentials
	Leases     int // credentials that are held
	Revoking   int // tokens that are still to be revoked
}

// Stats returns the current ones.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Principals: len(s.holdings), Leases: s.total, Revoking: s.revoker.pending()}
}
