package grants

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/backend/clock"
	"vault-plugin-secrets-mcp/backend/credential"
	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

const (
	// fetchTimeout bounds one request for the registry or the session keys.
	fetchTimeout = 5 * time.Second

	// refreshAlone is how often the registry is fetched without the change feed,
	// refreshSynced how often with it. The feed tells of every change at once.
	refreshAlone  = 10 * time.Second
	refreshSynced = time.Minute

	// missInterval is the least time between two fetches for a server that is not
	// registered.
	missInterval = time.Second
)

// fetchBackoff is the time between two fetches that failed.
var fetchBackoff = backoff.Backoff{Min: 200 * time.Millisecond, Max: 5 * time.Second}

// Transports of a registered server.
const (
	TransportHTTP  = "http"  // streamable HTTP
	TransportSSE   = "sse"   // HTTP+SSE of 2024-11-05
	TransportStdio = "stdio" // a child process of the gateway
)

// Server is one entry of the registry. It is immutable, but for its [Server.Pins]: a changed
// registration is another Server, so a pointer taken at a request's start stays valid, and
// tells the truth about that request, to its end.
//
// Env, Headers, Files and the query of URL hold the upstream's own credentials. They
// must appear in no log line, no error and no answer.
type Server struct {
	Name string

	// ID identifies the registration. It changes when the server is re-pointed, or
	// deleted and created again. Sessions are bound to it.
	ID string

	Transport string // one of the constants above

	URL     string            // transports http and sse
	Headers map[string]string // transports http and sse: sent on every request

	Command string            // transport stdio: an absolute path, or the name of a program that the gateway's file allows
	Args    []string          // transport stdio
	Env     map[string]string // transport stdio: the child's whole environment

	// Shared allows one child process to serve all clients.
	Shared bool

	// Credentials are leased from Vault for each principal. Values of Headers, Env and
	// Files have placeholders for them.
	Credentials map[string]credential.Spec
	Files       map[string]string // transport stdio: files in the child's home
	// VaultPolicies are those of the Vault token for this server, {{vault.token}}.
	VaultPolicies []string

	pins *atomic.Pointer[Pins] // see [Server.Pins]; nil outside of a registry
}

// Leases reports whether the server has credentials that are leased from Vault for each
// principal. Nothing that it says to one principal counts for another one then.
func (s *Server) Leases() bool { return len(s.Credentials) > 0 || len(s.VaultPolicies) > 0 }

// String names the server and keeps its credentials out of logs.
func (s *Server) String() string {
	if s == nil {
		return "<no server>"
	}
	return s.Name
}

// GoString does the same for %#v.
func (s *Server) GoString() string { return s.String() }

// registry is one snapshot of the registered servers.
type registry struct {
	servers  map[string]*Server
	sorted   []*Server       // by name
	disabled map[string]bool // names of servers that are registered, and stopped
	pinned   map[string]*pinned
	epoch    string
	index    uint64
	sent     time.Time
}

// Server returns the registered server of that name, or nil. One that is disabled counts as
// not registered.
func (b *Broker) Server(name string) *Server {
	return b.registry.Load().server(name)
}

// FindServer is Server for those who must know why there is none: the error is
// ErrUnavailable while the registry is not known, or not known to be true, and
// ErrServerDisabled for a server that is stopped.
func (b *Broker) FindServer(name string) (*Server, error) {
	now := time.Now()
	r, err := b.trueRegistry(now)
	if err != nil {
		return nil, err
	}
	if r.disabled[name] {
		return nil, ErrServerDisabled
	}
	server := r.servers[name]
	if server == nil && clock.Age(now, r.sent) >= missInterval {
		wake(b.wakeRegistry)
	}
	return server, nil
}

// trueRegistry returns the registry if it is known to be true.
func (b *Broker) trueRegistry(now time.Time) (*registry, error) {
	r := b.registry.Load()
	if r == nil {
		return nil, fmt.Errorf("%w: the registry of servers has not been read yet", ErrUnavailable)
	}
	confirmed := r.sent
	if v := b.position.Load(); r.epoch == v.epoch && r.index >= v.servers {
		confirmed = later(confirmed, v.sent)
	}
	if clock.Age(now, confirmed) >= b.options.Grants.MaxStale {
		return nil, fmt.Errorf("%w: the registry of servers is too old", ErrUnavailable)
	}
	return r, nil
}

// ServersOf returns the registered servers that the grant admits, by name. The
// error is that of FindServer.
func (b *Broker) ServersOf(g *Grant) ([]*Server, error) {
	r, err := b.trueRegistry(time.Now())
	if err != nil {
		return nil, err
	}
	return admitted(g, r.sorted), nil
}

func admitted(g *Grant, servers []*Server) []*Server {
	list := make([]*Server, 0, len(servers))
	for _, server := range servers {
		if reaches(g, server) {
			list = append(list, server)
		}
	}
	return list
}

// Servers returns all registered servers.
func (b *Broker) Servers() map[string]*Server {
	r := b.registry.Load()
	if r == nil {
		return nil
	}
	return r.servers
}

// registered says whether the registration is still the present one. The error is
// ErrServerGone, or ErrServerDisabled.
func (b *Broker) registered(s *Server) error {
	r := b.registry.Load()
	switch {
	case r == nil:
		return ErrServerGone
	case r.disabled[s.Name]:
		return ErrServerDisabled
	}
	if current := r.servers[s.Name]; current == nil || current.ID != s.ID {
		return ErrServerGone
	}
	return nil
}

// runRegistry fetches the registry whenever it may have changed.
func (b *Broker) runRegistry(ctx context.Context) {
	b.refetch(ctx, "registry of servers", b.wakeRegistry, b.fetchRegistry, func() time.Duration {
		v := b.position.Load()
		if v.synced {
			return refreshSynced
		}
		// One that must not be older than max_stale is fetched before it is.
		return min(refreshAlone, v.maxAge, b.options.Grants.MaxStale/3)
	})
}

func (b *Broker) fetchRegistry(ctx context.Context) error {
	sent := time.Now()
	answer, err := b.engine.Servers(ctx)
	if err != nil {
		return err
	}
	if v := b.position.Load(); answer.Epoch == v.epoch && answer.Index < v.servers {
		return errOutdated
	}
	old := b.registry.Load()
	next := &registry{
		servers: make(map[string]*Server, len(answer.Servers)), disabled: make(map[string]bool, len(answer.Disabled)),
		pinned: make(map[string]*pinned),
		epoch:  answer.Epoch, index: answer.Index, sent: sent,
	}
	for _, entries := range []map[string]vaultclient.ServerEntry{answer.Servers, answer.Supplied} {
		for name, entry := range entries {
			b.take(old, next, name, entry, false)
		}
	}
	for name, entry := range answer.Pinned {
		b.take(old, next, name, entry, true)
	}
	for _, name := range answer.Disabled {
		next.disabled[name] = true
	}
	next.sort()
	changed := b.install(next, b.pinServers(ctx, old, next))
	if old == nil || !slices.Equal(old.sorted, next.sorted) {
		defer b.notifyRegistry()
	}
	defer b.notifyPins(changed)
	if old != nil {
		b.dropServers(old)
	}
	return nil
}

// take adds a server to next, which takes the place of old. enforced tells that the entry
// stands among those whose pins are enforced.
func (b *Broker) take(old, next *registry, name string, entry vaultclient.ServerEntry, enforced bool) {
	server := serverOf(name, entry)
	pins, err := pinnedBy(entry, enforced)
	if err == nil {
		err = server.check()
	}
	if err != nil {
		b.log.Error("a registered server cannot be used, and is treated as if it were not registered", "server", name, "error", err)
		return
	}
	server.pins = new(atomic.Pointer[Pins])
	if held := old.server(name); held != nil && held.ID == server.ID {
		server.pins = held.pins
		if reflect.DeepEqual(held, server) {
			server = held // an unchanged server keeps its pointer
		}
	}
	next.servers[name] = server
	if pins != nil {
		next.pinned[name] = pins
	}
}

// server returns the server of that name, or nil.
func (r *registry) server(name string) *Server {
	if r == nil {
		return nil
	}
	return r.servers[name]
}

func (r *registry) sort() {
	r.sorted = slices.SortedFunc(maps.Values(r.servers), func(a, b *Server) int { return strings.Compare(a.Name, b.Name) })
}

// dropServers cuts requests and sessions of registrations that were deleted or disabled.
func (b *Broker) dropServers(old *registry) {
	dropped := false
	for _, server := range old.servers {
		if b.registered(server) != nil {
			dropped = true
			b.notify(End{Server: server})
		}
	}
	if dropped {
		b.live.each(func(e *entry) { e.cutServers(b.registered) })
	}
}

// serverOf is the registration of that name.
func serverOf(name string, e vaultclient.ServerEntry) *Server {
	return &Server{
		Name:      name,
		ID:        e.ID,
		Transport: e.Transport,
		URL:       e.URL,
		Headers:   e.Headers,
		Command:   e.Command,
		Args:      e.Args,
		Env:       e.Env,
		Shared:    e.Shared,

		Credentials:   e.Credentials,
		Files:         e.Files,
		VaultPolicies: e.VaultPolicies,
	}
}

// check refuses a server to which the gateway cannot send a request. The engine checks
// more, at the write.
func (s *Server) check() error {
	if s.ID == "" {
		return errors.New("it has no registration id")
	}
	switch s.Transport {
	case TransportHTTP, TransportSSE:
		u, err := url.Parse(s.URL)
		if err != nil {
			return errors.New("its URL does not parse") // the URL may hold a secret
		}
		if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return errors.New("its URL is not an http or https URL with a host")
		}
		return nil
	case TransportStdio:
		if s.Command == "" || strings.Contains(s.Command, "/") && !filepath.IsAbs(s.Command) {
			return errors.New("its command is neither an absolute path nor a bare name")
		}
		return nil
	}
	return fmt.Errorf("transport %q is not known to this gateway", s.Transport)
}
