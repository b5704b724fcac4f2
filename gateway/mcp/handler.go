package mcp

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/credentials"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/bridge"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
	"vault-plugin-secrets-mcp/gateway/mcp/session"
	"vault-plugin-secrets-mcp/gateway/pins"
)

// Registry is what the handler needs of [grants.Broker].
type Registry interface {
	// Server returns the present registration of that name, or nil.
	Server(name string) *grants.Server
	// SessionKeys returns the keys for session ids, or nil if there are none.
	SessionKeys() *grants.SessionKeys
	// RefreshSessionKeys has SessionKeys return what Vault has now.
	RefreshSessionKeys(ctx context.Context) error
	// OnEnd has f called whenever access was taken away.
	OnEnd(f func(grants.End))
	// Live reports whether a token of the principal is known, and active.
	Live(p grants.Principal) bool
}

// Credentials are those of servers that are leased from Vault: [credentials.Store].
type Credentials interface {
	// Server returns the credentials of a registration; nil if none of them are leased.
	Server(server *grants.Server) (*credentials.Server, error)
}

// Options of a Handler.
type Options struct {
	Registry    Registry
	Credentials Credentials  // nil: servers that have some are refused
	Pins        *pins.Keeper // nil: pins hold, and nothing is reported
	Config      *config.Config
	ToolLists   ToolLists // nil: nobody wants them
	Log         hclog.Logger
}

// Handler serves /servers/{name}/mcp, behind the access middleware. It must be
// closed.
type Handler struct {
	registry    Registry
	credentials Credentials
	pins        *pins.Keeper
	toolLists   ToolLists
	log         hclog.Logger
	sealer      *session.Sealer
	tasks       *taskIDs
	streams     sse.Streams

	config atomic.Pointer[config.Config]

	links  sync.Map   // name -> *linked
	linkMu sync.Mutex // of those who change links

	childPool *bridge.Pool

	// Guarded by linkMu.
	children []*children
	closed   bool
}

// New returns a handler. It reaches no server before the first request for it.
func New(options Options) *Handler {
	h := &Handler{
		registry:    options.Registry,
		credentials: options.Credentials,
		pins:        options.Pins,
		toolLists:   options.ToolLists,
		log:         options.Log,
		childPool:   bridge.NewPool(0, 0),
		sealer:      session.NewSealer(options.Registry.SessionKeys),
		tasks:       newTaskIDs(options.Registry),
	}
	h.config.Store(options.Config)
	options.Registry.OnEnd(h.onEnd)
	return h
}

// ServeHTTP serves one request that the access middleware has let pass.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request := access.FromContext(r.Context())
	if request == nil || request.Server == nil || request.Grant == nil {
		// Not wired behind the middleware: nothing is known about the client.
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	a := &Answer{exchange: exchange{request: request, method: r.Method, header: r.Header}}
	defer a.release()
	f := a.read(r, h.settings().Limits.MaxBody)
	if f == nil {
		if err := h.call(r.Context(), a); err == nil {
			a.serve(w, r)
			return
		} else if f, _ = errors.AsType[*access.Refusal](err); f == nil {
			return // the client is gone
		}
	}
	access.Refuse(w, r, f)
}

// Drain ends the streams on which servers speak of their own accord, so that
// their clients connect to another gateway. Requests in flight go on.
func (h *Handler) Drain() { h.streams.Drain() }

// Judge returns the judge of the server's definitions, by its pins as they are now; nil if
// it has none. Ask for it whenever a message comes: see [pins.Keeper.Of].
func (h *Handler) Judge(server *grants.Server) *pins.Judge { return h.pins.Of(server) }

// CallTimeout is the timeout of the server of that name; "" stands for the longest of all.
func (h *Handler) CallTimeout(server string) time.Duration {
	c := h.settings()
	if server != "" {
		return c.Upstream(server).Timeout
	}
	longest := c.Upstream("").Timeout
	for name := range c.Upstreams {
		longest = max(longest, c.Upstream(name).Timeout)
	}
	return longest
}

// Configure takes another configuration. Requests in flight go on under the one
// that they came under, and so do child processes that it does not concern.
func (h *Handler) Configure(c *config.Config) {
	h.linkMu.Lock()
	defer h.linkMu.Unlock()
	h.config.Store(c)
	h.links.Range(func(name, found any) bool {
		if b, ok := found.(*linked).link.(*bridged); !ok || !b.serves(c) {
			h.unlink(name.(string))
		}
		return true
	})
}

// Close ends everything that outlives a request: connections, sessions, and
// child processes, for whose end it waits.
func (h *Handler) Close() {
	h.linkMu.Lock()
	h.closed = true
	h.links.Range(func(name, _ any) bool {
		h.unlink(name.(string))
		return true
	})
	children := h.children
	h.linkMu.Unlock()
	for _, c := range children {
		c.launcher.Wait()
	}
}

func (h *Handler) settings() *config.Config { return h.config.Load() }

// exchange is one request on its way to a server.
type exchange struct {
	request *access.Request
	method  string      // of HTTP
	header  http.Header // the client's
	server  *grants.Server
	grant   *grants.Grant // that the request is judged by
	rules   *policy.Rules // of the grant; nil: everything passes

	pins     *pins.Judge // judges by the server's pins when the request came; nil if it has none
	enforced bool        // definitions without approval do not pass

	keepsInstructions bool // see Call

	message   envelope.Envelope
	body      *buffer // the message's bytes; nil without a message: GET and DELETE
	borrowed  bool    // the caller releases the body
	rpcID     []byte  // the message's id, once the body is released
	stateless bool    // of the era without sessions
	tasks     bool    // the answer may name tasks
}

// release gives the message's bytes back.
func (x *exchange) release() {
	if x.body != nil && !x.borrowed {
		x.body.giveBack(x.request)
	}
	x.body = nil
}

// giveBack releases the buffer, for which the request has reserved room.
func (b *buffer) giveBack(request *access.Request) {
	if kept := b.kept(); kept > 0 {
		_ = request.Reserve(-kept) // giving back does not fail
	}
	b.release()
}

// read takes the request's message, if it has one, and makes sure that it can
// be read in one way only.
func (x *exchange) read(r *http.Request, limit int64) *access.Refusal {
	if r.Method != http.MethodPost {
		return nil
	}
	if !isJSON(protocol.First(r.Header, protocol.HeaderContentType)) {
		return &access.Refusal{
			Status:  http.StatusUnsupportedMediaType,
			Reason:  access.ReasonBadRequest,
			Detail:  "Content-Type",
			Message: "Content-Type must be application/json, in UTF-8.",
		}
	}
	if limit > 0 && r.ContentLength > limit {
		return bodyTooLarge()
	}
	var err error
	if x.body, err = readBody(r, limit, x.request.Reserve); err != nil {
		return access.BodyRefusal(err)
	}
	if limit > 0 && int64(len(x.body.data)) > limit {
		return bodyTooLarge()
	}
	if x.message, err = envelope.Parse(x.body.data); err != nil {
		return x.malformed(err)
	}
	return x.describe()
}

// describe tells the audit log what the message is, and makes sure that the header
// says what it says.
func (x *exchange) describe() *access.Refusal {
	x.request.Method = access.Bounded(x.message.Method)
	if i, names := itemOf(&x.message, x.body.data); names {
		x.request.NameItem(i.kind, i.name)
	}
	if err := x.message.CheckHeader(x.header); err != nil {
		return x.malformed(err)
	}
	x.stateless = x.message.Stateless(x.header)
	return nil
}

// id returns the id of the request's message as it stands there; nil if it is
// no request.
func (x *exchange) id() []byte {
	if x.body == nil || x.message.Kind != envelope.Request {
		return x.rpcID
	}
	return x.message.IDOf(x.body.data)
}

// decide records that the request may reach the server. Nothing of it may be
// sent before.
func (x *exchange) decide() *access.Refusal {
	return x.request.Allow()
}

// retryAfter is what a client is told to wait where the reason passes soon.
const retryAfter = time.Second
