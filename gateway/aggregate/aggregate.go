package aggregate

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

// Registry is what the handler needs of [grants.Broker].
type Registry interface {
	// OnEnd has f called whenever access was taken away.
	OnEnd(f func(grants.End))
	// OnRegistry has f called after every change of the registry.
	OnRegistry(f func())
	// Servers returns all that are registered.
	Servers() map[string]*grants.Server
	// ServersOf returns the servers that the grant admits, by name.
	ServersOf(g *grants.Grant) ([]*grants.Server, error)
}

// Observer is told of what clients do not see, for metrics.
type Observer interface {
	// ListAbsent is called when a server's entries are missing in a list, or
	// are older than they should be. list is the method.
	ListAbsent(server, list string)
}

// Options of a Handler.
type Options struct {
	Registry Registry
	Config   *config.Config
	Version  string // of the gateway
	Observer Observer
	Log      hclog.Logger

	// Next serves the parts: requests to one server.
	Next *mcp.Handler
}

// Handler serves /mcp, behind the access middleware. It must be closed.
type Handler struct {
	options   Options
	log       hclog.Logger
	config    atomic.Pointer[config.Config]
	streams   sse.Streams
	servers   knowledge
	pages     *pages
	sessions  *sessions
	watchers  watchers
	closing   context.Context // ends when the handler is closed
	stop      context.CancelFunc
	upstreams upstreams
	budget    time.Duration // instead of the configured wait for lists; 0: that
	losses    *rate.Limiter // of lines in the log about sessions that servers have ended
}

// New returns a handler. It reaches no server before the first request for it.
func New(options Options) *Handler {
	h := &Handler{
		options:  options,
		log:      options.Log,
		pages:    newPages(maxPageBytes),
		sessions: newSessions(),
		losses:   rate.NewLimiter(1, 10),
	}
	h.closing, h.stop = context.WithCancel(context.Background())
	h.config.Store(options.Config)
	options.Registry.OnEnd(h.onEnd)
	options.Registry.OnRegistry(h.onRegistry)
	return h
}

// ServeHTTP serves one request that the access middleware has let pass.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := access.FromContext(r.Context())
	if request == nil || request.Grant == nil {
		// Not wired behind the middleware: nothing is known about the client.
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	x := &exchange{handler: h, w: w, r: r, request: request}
	defer x.release()
	if f := x.serve(); f != nil {
		access.Refuse(w, r, f)
	}
}

// Drain ends the streams on which servers speak of their own accord.
func (h *Handler) Drain() { h.streams.Drain() }

// Configure takes another configuration, for requests to come.
func (h *Handler) Configure(c *config.Config) { h.config.Store(c) }

// Close ends all sessions, and what goes on behind answers.
func (h *Handler) Close() {
	h.stop()
	h.sessions.close()
}

// Sessions is the number of those that live on this gateway.
func (h *Handler) Sessions() int { return h.sessions.size() }

func (h *Handler) settings() *config.Config { return h.config.Load() }

// onEnd hears from the broker that access was taken away, or may have been.
func (h *Handler) onEnd(end grants.End) {
	switch {
	case end.Server != nil:
		// onRegistry follows, or came before.
	case end.Successor == nil:
		h.sessions.endToken(end.Grant.ClientID, end.Grant.Accessor)
	default:
		h.watchers.changed(end.Successor, h.reach)
	}
}

// onRegistry hears that servers have come or gone.
func (h *Handler) onRegistry() {
	ids := make(map[string]bool)
	for _, server := range h.options.Registry.Servers() {
		ids[server.ID] = true
	}
	registered := func(id string) bool { return ids[id] }
	h.servers.retain(registered)
	h.pages.retain(registered)
	h.watchers.changed(nil, h.reach)
}
