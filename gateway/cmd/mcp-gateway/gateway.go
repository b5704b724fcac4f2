package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/pires/go-proxyproto"

	"vault-plugin-secrets-mcp/backend/version"
	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/aggregate"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/credentials"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/http1"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/pins"
	"vault-plugin-secrets-mcp/gateway/seal"
	"vault-plugin-secrets-mcp/gateway/telemetry"
	"vault-plugin-secrets-mcp/gateway/usage"
)

const (
	// readHeaderTimeout and readTimeout bound the time in which a client must send a
	// request's headers, and the whole request. The server has no write timeout,
	// since streams last: the connections themselves bound each write.
	readHeaderTimeout = 10 * time.Second
	readTimeout       = time.Minute

	// idleTimeout bounds the wait of a connection for the next request. It is longer
	// than in the usual load balancers, so that they close the connection and not
	// the gateway.
	idleTimeout = 2 * time.Minute

	// firstRequest bounds the time for the first request of a client that connected
	// just before the listener closed.
	firstRequest = time.Second

	// proxyHeaderTimeout bounds the time in which a proxy must send the PROXY
	// protocol's header.
	proxyHeaderTimeout = 5 * time.Second
)

// gateway is the running program.
type gateway struct {
	log     hclog.Logger
	broker  *grants.Broker
	audit   *access.AuditLog
	memory  *access.Memory
	rates   access.ClientRates
	metrics *telemetry.Metrics
	export  *telemetry.Export
	usage   *usage.Recorder
	pins    *pins.Keeper
	handler *mcp.Handler

	credentials *credentials.Store
	all         *aggregate.Handler
	signIn      *signIn
	tls         *certificates // nil: plain HTTP
	settings    *config.Config

	gate     atomic.Pointer[access.Gate]
	draining atomic.Bool

	connections   *access.Connections
	main          server
	admin         *http.Server
	mainListener  net.Listener
	adminListener net.Listener
}

// newGateway prepares everything. It reports problems of the machine: ports in use, files
// that cannot be written.
func newGateway(settings *config.Config, log hclog.Logger) (g *gateway, err error) {
	g = &gateway{log: log, settings: settings, metrics: telemetry.New(version.Number())}
	defer func(made *gateway) { // a return of nil has set g to it
		if err != nil {
			made.close()
		}
	}(g)
	wanted, err := telemetry.Environment(os.Getenv)
	if err != nil {
		return nil, err
	}
	if g.export, err = telemetry.Open(context.Background(), wanted, g.metrics, version.Number(), log.Named("telemetry")); err != nil {
		return nil, err
	}
	if g.audit, err = access.OpenAuditLog(settings.Audit, log.Named("audit")); err != nil {
		return nil, err
	}
	id, err := usage.NewID()
	if err != nil {
		return nil, err
	}
	options := grants.Options{
		Vault:     settings.Vault,
		Gateway:   id,
		Grants:    settings.Grants,
		KMS:       settings.KMS,
		PerClient: settings.Limits.PerClientConcurrency,
		Cold:      access.NewColdLimiter(settings.Grants),
		Observer:  g.metrics,
		Log:       log.Named("grants"),

		CallTimeout: func(server string) time.Duration { return g.handler.CallTimeout(server) },
	}
	if tracer := g.export.Tracer(); tracer != nil {
		options.Tracer = tracer
	}
	if g.broker, err = grants.New(options); err != nil {
		return nil, err
	}
	g.metrics.Audit(g.audit.Stats)
	if stats := g.audit.SyslogStats(); stats != nil {
		g.metrics.Syslog(stats)
	}
	g.metrics.Broker(g.broker.Stats, g.broker.LoggedIn)
	if err := g.makeCredentials(settings); err != nil {
		return nil, err
	}
	g.usage = g.newUsage(id)
	g.pins = g.newPins()
	g.handler = mcp.New(mcp.Options{
		Registry: g.broker, Credentials: g.credentials, Pins: g.pins, Config: settings, ToolLists: g.usage, Log: log.Named("mcp"),
	})
	g.all = aggregate.New(aggregate.Options{
		Registry: g.broker, Config: settings, Version: version.Number(), Observer: g.metrics, Next: g.handler, Log: log.Named("mcp.all"),
		Pins:   g.pins,
		Sealer: seal.New(g.broker.SessionKeys),
	})
	g.metrics.Aggregate(g.all.Sessions)
	g.metrics.RateLimited(g.rates.Refused)
	g.memory = access.NewMemory(settings.Limits)
	g.signIn = g.newSignIn()
	if err := g.configureSignIn(settings); err != nil {
		return nil, err
	}
	g.gate.Store(g.newGate(settings))
	if err := g.listen(); err != nil {
		return nil, err
	}
	g.makeServers()
	return g, nil
}

// newGate returns the middleware for these settings.
func (g *gateway) newGate(settings *config.Config) *access.Gate {
	options := access.Options{
		Broker:    g.broker,
		Audit:     g.audit,
		Listener:  settings.Listener,
		Limits:    settings.Limits,
		Memory:    g.memory,
		Rates:     &g.rates,
		Observer:  g.metrics,
		Usage:     g.usage,
		Next:      g.handler,
		Aggregate: g.all,
	}
	if tracer := g.export.Tracer(); tracer != nil {
		options.Tracer = tracer
	}
	g.gateSignIn(&options, settings)
	return access.New(options)
}

// listen opens both listeners.
func (g *gateway) listen() error {
	var network net.ListenConfig
	var err error
	if g.mainListener, err = network.Listen(context.Background(), "tcp", g.settings.Listener.Address); err != nil {
		return fmt.Errorf("listener: %w", err)
	}
	g.log.Info("listening for MCP clients", "address", g.mainListener.Addr().String(), "tls", g.settings.Listener.TLSCertFile != "")
	if g.adminListener, err = network.Listen(context.Background(), "tcp", g.settings.Admin.Address); err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	g.log.Info("listening for health and metrics", "address", g.adminListener.Addr().String())
	g.connections = access.NewConnections(g.settings.Listener, g.settings.Limits, g.log.Named("http"))
	g.mainListener = g.connections.Pace(g.mainListener)
	if g.settings.Listener.ProxyProtocol {
		g.mainListener = expectProxyHeader(g.mainListener, g.settings.Listener)
	}
	if g.settings.Listener.TLSCertFile != "" {
		if g.tls, err = loadCertificates(g.settings.Listener); err != nil {
			return err
		}
		g.metrics.Certificate(g.tls.expires)
		g.mainListener = g.tls.wrap(g.mainListener)
	}
	return nil
}

// expectProxyHeader requires the PROXY protocol's header from trusted proxies. Others
// must not send one, and count as the client.
func expectProxyHeader(listener net.Listener, settings config.Listener) net.Listener {
	return &proxyproto.Listener{
		Listener:          listener,
		ReadHeaderTimeout: proxyHeaderTimeout,
		ConnPolicy: func(options proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
			if access.Trusted(settings.TrustedProxies, options.Upstream) {
				return proxyproto.REQUIRE, nil
			}
			return proxyproto.SKIP, nil
		},
	}
}

// server serves MCP clients.
type server interface {
	Serve(listener net.Listener) error
	Shutdown(ctx context.Context) error
	Close() error
}

// makeMain returns the server for MCP clients.
func (g *gateway) makeMain() server {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.gate.Load().ServeHTTP(w, r) })
	log := serverLog(g.log.Named("http"))
	h2 := g.makeHTTP2(handler)
	if g.settings.Listener.HTTP1 == config.NetHTTP {
		if h2 != nil {
			g.mainListener = h2.Split(g.mainListener)
		}
		g.mainListener = g.connections.Watch(g.mainListener)
		return withHTTP2(h2, g.netHTTP(handler, log))
	}
	main := &http1.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    g.settings.Limits.MaxHeader,
		ConnContext:       access.ConnContext,
		ErrorLog:          log,
	}
	if h2 != nil {
		main.NextProto = h2.Take
	}
	return withHTTP2(h2, main)
}

// netHTTP returns a server of net/http's for MCP clients.
func (g *gateway) netHTTP(handler http.Handler, log *stdlog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    g.settings.Limits.MaxHeader,
		ConnContext:       access.ConnContext,
		ErrorLog:          log,
	}
}

func (g *gateway) makeServers() {
	g.main = g.makeMain()
	routes := http.NewServeMux()
	routes.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	routes.HandleFunc("GET /readyz", g.ready)
	routes.Handle("GET /metrics", g.metrics.Handler())
	g.admin = &http.Server{
		Handler:           routes,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      readTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          serverLog(g.log.Named("admin")),
	}
}

// serverLog takes the messages of net/http. Most are failed handshakes, which any client
// can cause. A panic is an error.
func serverLog(log hclog.Logger) *stdlog.Logger {
	return stdlog.New(serverLogWriter{log}, "", 0)
}

type serverLogWriter struct{ log hclog.Logger }

func (w serverLogWriter) Write(p []byte) (int, error) {
	text := strings.TrimSuffix(string(p), "\n")
	if strings.HasPrefix(text, "http: panic") || strings.HasPrefix(text, "http2: panic") {
		w.log.Error(text)
	} else {
		w.log.Debug(text)
	}
	return len(p), nil
}

// ready reports whether the gateway should get requests. It does not look at outages of
// Vault: known tokens continue to work.
func (g *gateway) ready(w http.ResponseWriter, _ *http.Request) {
	switch {
	case g.draining.Load():
		http.Error(w, "draining", http.StatusServiceUnavailable)
	case !g.broker.LoggedIn():
		http.Error(w, "not logged in to Vault yet", http.StatusServiceUnavailable)
	case g.broker.Servers() == nil || g.broker.SessionKeys() == nil:
		http.Error(w, "logged in to Vault, but the engine has not answered yet", http.StatusServiceUnavailable)
	default:
		_, _ = io.WriteString(w, "ready\n")
	}
}

// run serves until ctx is done, and then waits for the requests in flight.
func (g *gateway) run(ctx context.Context) error {
	var running sync.WaitGroup
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	running.Go(func() { g.broker.Run(background) })
	running.Go(func() { g.credentials.Run(background) })
	stopUsage, stopPins := report(background, g.usage), report(background, g.pins)
	failed := make(chan error, 2)
	running.Go(func() { failed <- g.main.Serve(g.mainListener) })
	running.Go(func() { failed <- g.admin.Serve(g.adminListener) })
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	g.drain()
	g.all.Close()
	g.handler.Close()
	g.credentials.Close() // while Vault can still be told
	stopUsage()           // likewise
	stopPins()            // likewise
	stop()
	running.Wait()
	g.close()
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// drain ends the gateway in good order. At first it still takes requests, but each answer
// ends its connection. Then it takes no more, and waits for those in flight.
func (g *gateway) drain() {
	settings := g.settings.Listener
	g.log.Info("draining", "delay", settings.DrainDelay.String(), "timeout", settings.DrainTimeout.String())
	g.draining.Store(true)
	g.gate.Load().Drain()
	g.handler.Drain()
	g.all.Drain()
	<-time.After(settings.DrainDelay)
	_ = g.mainListener.Close()
	g.connections.AwaitFirst(firstRequest)
	ctx, cancel := context.WithTimeout(context.Background(), g.settings.Listener.DrainTimeout)
	defer cancel()
	if err := g.main.Shutdown(ctx); err != nil {
		g.log.Warn("cutting requests that are still in flight at the end of drain_timeout", "error", err)
		_ = g.main.Close()
	}
	_ = g.admin.Close()
	g.log.Info("stopped")
}

// close releases the resources of newGateway.
func (g *gateway) close() {
	if g.all != nil {
		g.all.Close()
	}
	if g.handler != nil {
		g.handler.Close()
	}
	if gate := g.gate.Load(); gate != nil {
		gate.Close()
	}
	if g.signIn != nil {
		g.signIn.audit.Close()
	}
	if g.audit != nil {
		g.audit.Close()
	}
	if g.export != nil {
		g.export.Close()
	}
	for _, listener := range []net.Listener{g.mainListener, g.adminListener} {
		if listener != nil {
			_ = listener.Close()
		}
	}
}
