package mcp

import (
	"context"
	"errors"
	"reflect"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/credentials"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/bridge"
	"vault-plugin-secrets-mcp/gateway/mcp/stdio"
)

// children is what the servers that are child processes have in common, under
// one configuration.
type children struct {
	settings config.Stdio
	launcher *stdio.Launcher
}

var errStdioOff = errors.New("the gateway's file has no stdio block: servers that are child processes are off")

// newStdio makes the link to a server that is a child process. linkMu is held.
func (h *Handler) newStdio(server *grants.Server, c *config.Config) (link, error) {
	leased, err := h.credentialsOf(server)
	if err != nil {
		return nil, err
	}
	if c.Stdio == nil {
		return nil, errStdioOff
	}
	children, err := h.childrenOf(c.Stdio)
	if err != nil {
		return nil, err
	}
	if err := children.launcher.Check(server); err != nil {
		return nil, err
	}
	return &bridged{
		server:      server,
		credentials: leased,
		limits:      c.Limits,
		upstream:    c.Upstream(server.Name),
		stdio:       c.Stdio,
		bridge: bridge.New(bridge.Options{
			Dial: func(_ context.Context, c bridge.Credentials, r bridge.Receiver) (bridge.Conn, error) {
				return children.launcher.Start(server, valuesFor(server, setOf(c)), r)
			},
			Pool:             h.childPool,
			Log:              h.log.With("server", server.Name),
			Shared:           server.Shared,
			Stateless:        true,
			HandshakeTimeout: c.Upstream(server.Name).Timeout,
			IdleTimeout:      c.Stdio.IdleTimeout,
		}),
	}, nil
}

// valuesFor are what a child of the server gets: from the credentials, if it has any.
func valuesFor(server *grants.Server, set *credentials.Set) stdio.Values {
	if set == nil {
		return stdio.Values{Env: server.Env, Files: server.Files}
	}
	return stdio.Values{Env: set.Env(), Files: set.Files(), Secrets: set.Secrets()}
}

// childrenOf returns the children of these settings. linkMu is held.
func (h *Handler) childrenOf(settings *config.Stdio) (*children, error) {
	if n := len(h.children); n > 0 && reflect.DeepEqual(h.children[n-1].settings, *settings) {
		return h.children[n-1], nil
	}
	launcher, err := stdio.NewLauncher(settings, h.log)
	if err != nil {
		return nil, err
	}
	// One pool for all: children of the settings before count until they are gone.
	h.childPool.Resize(settings.MaxChildren, settings.MaxChildrenPerClient)
	c := &children{settings: *settings, launcher: launcher}
	h.children = append(h.children, c)
	return c, nil
}

// serves reports whether the link is what the configuration would make, so that
// the sessions on it need not end.
func (b *bridged) serves(c *config.Config) bool {
	return reflect.DeepEqual(b.stdio, c.Stdio) && b.limits == c.Limits && reflect.DeepEqual(b.upstream, c.Upstream(b.server.Name))
}
