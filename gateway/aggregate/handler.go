package aggregate

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
	"vault-plugin-secrets-mcp/gateway/pins"
	"vault-plugin-secrets-mcp/gateway/seal"
)

// Registry is the part of [grants.Broker] that the handler needs.
type Registry interface {
	// OnEnd registers f, which is called whenever access was taken away.
	OnEnd(f func(grants.End))
	// OnRegistry registers f, which is called after every change of the registry.
	OnRegistry(f func())
	// OnPins registers f, which is called for every server whose pins have changed.
	OnPins(f func(*grants.Server))
	// Servers returns all registered servers.
	Servers() map[string]*grants.Server
	// Heard reports whether a token of the principal is known, so that its end is told.
	Heard(p grants.Principal) bool
	// ServersOf returns the servers that the grant allows, by name.
	ServersOf(g *grants.Grant) ([]*grants.Server, error)
}

// Observer counts for metrics what clients do not see.
type Observer interface {
	// ListAbsent is called when a list lacks a server's entries, or has old ones. list is
	// the method.
	ListAbsent(server, list string)
}

// Options of a Handler.
type Options struct {
	Registry Registry
	Config   *config.Config
	Version  string // of the gateway
	Observer Observer
	Log      hclog.Logger
	Sealer   *seal.Sealer // of what clients keep for calls that wait for them
	Pins     *pins.Keeper // nil: pins hold, and nothing is reported

	// Next serves sub-requests: requests to one server.
	Next *mcp.Handler
}

// Handler serves /mcp, behind the access middleware. Close it.
type Handler struct {
	options     Options
	log         hclog.Logger
	config      atomic.Pointer[config.Config]
	streams     sse.Streams
	servers     *serverStates
	pages       *pageCache
	sessions    *sessions
	waiting     *waitingCalls
	watchers    watchers
	closing     context.Context // ends when the handler is closed
	stop        context.CancelFunc
	openStreams streamCounter
	listWait    time.Duration // replaces the configured one; 0: does not
	endedLog    *rate.Limiter // of log lines about sessions that servers have ended
}

// New returns a handler. It connects to no server before the first request for it.
func New(options Options) *Handler {
	h := &Handler{
		options:  options,
		log:      options.Log,
		pages:    newPageCache(maxPageBytes),
		servers:  newServerStates(),
		sessions: newSessions(),
		waiting:  newWaitingCalls(options.Sealer),
		endedLog: rate.NewLimiter(1, 10),
	}
	h.closing, h.stop = context.WithCancel(context.Background())
	h.config.Store(options.Config)
	options.Registry.OnEnd(h.onEnd)
	options.Registry.OnRegistry(h.onRegistry)
	options.Registry.OnPins(h.onPins)
	return h
}

// ServeHTTP serves one request that the access middleware has let through.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := access.FromContext(r.Context())
	if request == nil || request.Grant == nil {
		// Not behind the middleware: the client is not known.
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	x := &exchange{handler: h, w: w, r: r, request: request}
	defer x.release()
	if f := x.serve(); f != nil {
		access.Refuse(x.w, r, f)
	}
}

// Drain ends the streams on which servers send notifications.
func (h *Handler) Drain() { h.streams.Drain() }

// Configure sets the configuration for later requests.
func (h *Handler) Configure(c *config.Config) { h.config.Store(c) }

// Close ends all sessions and all work in the background.
func (h *Handler) Close() {
	h.stop()
	h.waiting.close()
	h.sessions.close()
}

// Sessions returns how many sessions this gateway has.
func (h *Handler) Sessions() int { return h.sessions.size() }

func (h *Handler) settings() *config.Config { return h.config.Load() }

// info is the gateway's own name and version, for servers and clients.
func (h *Handler) info() []byte {
	return protocol.Implementation("mcp-gateway", h.options.Version)
}

// onEnd is called when access was taken away, or may have been.
func (h *Handler) onEnd(end grants.End) {
	switch {
	case end.Server != nil:
		// onRegistry is called too.
	case end.Unheard && end.SignIn != "":
		h.sessions.endSignIn(end.SignIn)
	case end.Unheard:
		h.sessions.endPrincipals(func(p grants.Principal) bool { return end.Concerns(p) && !h.options.Registry.Heard(p) })
	case end.Expired:
		h.sessions.expireToken(end.Grant)
	case end.Lost && !h.options.Registry.Heard(end.Grant.Principal()):
		h.sessions.endPrincipals(func(p grants.Principal) bool { return p == end.Grant.Principal() })
	case end.Lost && end.Grant.SignIn != nil:
		h.sessions.endSignIn(end.Grant.SignIn.Accessor)
	case end.Successor == nil:
		h.sessions.endToken(end.Grant)
	default:
		h.watchers.update(end.Successor, h.reachable)
	}
}

// onRegistry is called when servers were added or removed.
func (h *Handler) onRegistry() {
	ids := make(map[string]bool)
	for _, server := range h.options.Registry.Servers() {
		ids[server.ID] = true
	}
	registered := func(id string) bool { return ids[id] }
	h.servers.retain(registered)
	h.pages.retain(registered)
	h.watchers.update(nil, h.reachable)
}

// onPins is called when the pins of a server have changed: its lists may be others for all clients
// that reach it.
func (h *Handler) onPins(server *grants.Server) {
	for _, w := range h.watchers.of(grants.Principal{}) {
		if w.reaches(server.ID) {
			w.notify(messages.ChangedAll)
		}
	}
}

// reachable returns the ids of the registrations that the grant allows. ok is false while
// the registry is not known.
func (h *Handler) reachable(grant *grants.Grant) (ids []string, ok bool) {
	servers, err := h.options.Registry.ServersOf(grant)
	if err != nil {
		return nil, false
	}
	ids = make([]string, len(servers))
	for i, server := range servers {
		ids[i] = server.ID
	}
	return ids, true
}

// maxUpstreamStreams bounds the streams that are open to servers for one principal. One
// stream of the client can need one of each server.
const maxUpstreamStreams = 4096

// streamCounter counts them.
type streamCounter struct {
	mu   sync.Mutex
	open map[grants.Principal]int
}

func (c *streamCounter) take(principal grants.Principal) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[principal] >= maxUpstreamStreams {
		return false
	}
	c.open = put(c.open, principal, c.open[principal]+1)
	return true
}

func (c *streamCounter) release(principal grants.Principal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[principal]--; c.open[principal] == 0 {
		delete(c.open, principal)
	}
}
