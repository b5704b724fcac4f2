package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/http2"
)

// makeHTTP2 returns the server for clients that choose HTTP/2; nil if there are none.
func (g *gateway) makeHTTP2(handler http.Handler) *http2.Server {
	if !g.settings.Listener.HTTP2 || g.tls == nil {
		return nil
	}
	log := g.log.Named("http2")
	s := http2.New(g.netHTTP(access.Streams(handler), serverLog(log)))
	warn := rate.Sometimes{Interval: 10 * time.Second}
	s.Suspect = func(remote net.Addr, what string) {
		warn.Do(func() { log.Warn("a client misuses its connection: "+what, "client", remote.String()) })
	}
	return s
}

// servers are the one for HTTP/1.1 and the one for HTTP/2.
type servers struct {
	server
	http2 *http2.Server
}

// withHTTP2 adds HTTP/2 to a server, unless it is nil.
func withHTTP2(h2 *http2.Server, main server) server {
	if h2 == nil {
		return main
	}
	return servers{main, h2}
}

// Serve serves both.
func (s servers) Serve(listener net.Listener) error {
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { _ = s.http2.Serve() })
	return s.server.Serve(listener)
}

// Shutdown ends both in good order.
func (s servers) Shutdown(ctx context.Context) error {
	var err error
	var running sync.WaitGroup
	running.Go(func() { err = s.http2.Shutdown(ctx) })
	other := s.server.Shutdown(ctx)
	running.Wait()
	return errors.Join(other, err)
}

// Close ends both at once.
func (s servers) Close() error { return errors.Join(s.server.Close(), s.http2.Close()) }
