package mcp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-mcp/gateway/credentials"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// link is the way to one registered server. It lives as long as the
// registration, and serves requests from any goroutine.
type link interface {
	// call records the decision, asks the server, and fills in the answer. The error
	// is a refusal, or says why the client, which is gone, gets none.
	call(ctx context.Context, a *Answer) error
	// close ends what outlives requests.
	close()
}

// ender is a link that holds more for a client than its requests.
type ender interface {
	// end is called when a token has ended, or lives on with other access. live tells whether
	// the principal has one that is good.
	end(end grants.End, live func(grants.Principal) bool)
}

// linked is a registration with the link to it.
type linked struct {
	server *grants.Server
	link   link

	err   error // why there is no link
	tried time.Time
}

// relinkAfter is how long a registration that the gateway cannot use is left
// alone before it is tried again: the cause may be a missing file.
const relinkAfter = 5 * time.Second

var (
	errServerGone = errors.New("the registration has ended")
	errClosed     = errors.New("the gateway is shutting down")

	errNoCredentials = errors.New("this gateway leases no credentials")
)

// link returns the way to the server.
func (h *Handler) link(server *grants.Server) (link, error) {
	if found, ok := h.links.Load(server.Name); ok {
		if l := found.(*linked); l.server == server && l.link != nil {
			return l.link, nil
		}
	}
	return h.relink(server)
}

// relink makes the link to a registration that has none yet.
func (h *Handler) relink(server *grants.Server) (link, error) {
	h.linkMu.Lock()
	defer h.linkMu.Unlock()
	if h.closed {
		return nil, errClosed
	}
	// The registration may have been changed since the request came. If it is
	// still the same server, the change counts.
	current := h.registry.Server(server.Name)
	if current == nil || current.ID != server.ID {
		return nil, errServerGone
	}
	server = current
	if found, ok := h.links.Load(server.Name); ok {
		l := found.(*linked)
		switch {
		case l.server == server && l.link != nil:
			return l.link, nil
		case l.server == server && time.Since(l.tried) < relinkAfter:
			return nil, l.err
		}
		h.unlink(server.Name)
	}
	l := &linked{server: server, tried: time.Now()}
	l.link, l.err = h.newLink(server)
	if l.err != nil {
		h.log.Error("a registered server cannot be used", "server", server.Name, "error", l.err)
	}
	h.links.Store(server.Name, l)
	return l.link, l.err
}

// unlink drops the link of that name. linkMu is held.
func (h *Handler) unlink(name string) {
	if found, ok := h.links.LoadAndDelete(name); ok {
		if l := found.(*linked); l.link != nil {
			l.link.close()
		}
	}
}

func (h *Handler) newLink(server *grants.Server) (link, error) {
	c := h.settings()
	leased, err := h.credentialsOf(server)
	if err != nil {
		return nil, err
	}
	switch server.Transport {
	case grants.TransportHTTP:
		u, err := newUpstream(server, c.Upstream(server.Name), &c.UpstreamAllow, h.log)
		if err != nil {
			return nil, err
		}
		return &proxy{upstream: u, credentials: leased, limits: c.Limits}, nil
	case grants.TransportSSE:
		return h.newChannels(server, c)
	case grants.TransportStdio:
		return h.newStdio(server, c)
	}
	return nil, fmt.Errorf("transport %q is not supported", server.Transport)
}

// credentialsOf returns the server's credentials; nil if none of them are leased.
func (h *Handler) credentialsOf(server *grants.Server) (*credentials.Server, error) {
	switch {
	case h.credentials != nil:
		return h.credentials.Server(server)
	case server.Leases():
		return nil, errNoCredentials
	}
	return nil, nil //nolint:nilnil // there are none, and nothing is wrong
}

// onEnd hears from the broker that access was taken away. Requests in flight
// are cut by their contexts.
func (h *Handler) onEnd(end grants.End) {
	if end.Server != nil {
		h.linkMu.Lock()
		defer h.linkMu.Unlock()
		if found, ok := h.links.Load(end.Server.Name); ok && found.(*linked).server.ID == end.Server.ID {
			h.unlink(end.Server.Name)
		}
		return
	}
	h.links.Range(func(_, found any) bool {
		if e, ok := found.(*linked).link.(ender); ok {
			e.end(end, h.registry.Live)
		}
		return true
	})
}
