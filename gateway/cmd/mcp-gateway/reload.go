package main

import (
	"reflect"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/gateway/config"
)

// reload answers SIGHUP: it opens the audit log again, reads the certificates again, and
// applies the settings of the file that can change while the gateway runs. If the file
// has a mistake, the old settings stay in effect.
func (g *gateway) reload(load func() (*config.Config, error)) {
	g.audit.Reopen()
	settings, err := load()
	g.metrics.Reloaded(err == nil)
	if err != nil {
		g.log.Error("the configuration has mistakes: the old one stays in effect", "error", err)
		return
	}
	if err := g.configureSignIn(settings); err != nil {
		g.metrics.Reloaded(false)
		g.log.Error("sign-in cannot take the configuration: the old one stays in effect", "error", err)
		return
	}
	for _, name := range fixed(g.settings, settings) {
		g.log.Warn("this part of the configuration takes effect at the next start only", "block", name)
	}
	if g.tls != nil {
		if err := g.tls.load(settings.Listener); err != nil {
			g.metrics.Reloaded(false)
			g.log.Error("the certificates cannot be read: the old ones stay in effect", "error", err)
		}
	}
	g.log.SetLevel(hclog.LevelFromString(settings.Log.Level))
	g.credentials.Configure(settings)
	g.handler.Configure(settings)
	g.all.Configure(settings)
	g.memory.Configure(settings.Limits)
	g.connections.Configure(settings.Listener)
	old := g.gate.Swap(g.newGate(settings))
	old.Close()
	g.log.Info("reloaded the configuration")
}

// fixed names the changed settings that cannot take effect while the gateway runs.
func fixed(old, next *config.Config) []string {
	var names []string
	differ := func(name string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			names = append(names, name)
		}
	}
	differ("vault", old.Vault, next.Vault)
	differ("admin", old.Admin, next.Admin)
	differ("grants", old.Grants, next.Grants)
	differ("kms", old.KMS, next.KMS)
	differ("audit", old.Audit, next.Audit)
	differ("listener address", old.Listener.Address, next.Listener.Address)
	differ("listener proxy_protocol", old.Listener.ProxyProtocol, next.Listener.ProxyProtocol)
	differ("listener http2", old.Listener.HTTP2, next.Listener.HTTP2)
	differ("listener http1", old.Listener.HTTP1, next.Listener.HTTP1)
	differ("listener tls", old.Listener.TLSCertFile != "", next.Listener.TLSCertFile != "")
	differ("limits max_header", old.Limits.MaxHeader, next.Limits.MaxHeader)
	differ("limits per_client_concurrency", old.Limits.PerClientConcurrency, next.Limits.PerClientConcurrency)
	differ("limits max_connections_per_source", old.Limits.MaxConnectionsPerSource, next.Limits.MaxConnectionsPerSource)
	differ("log format", old.Log.Format, next.Log.Format)
	return names
}
