package mcp

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/dial"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/direct"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// upstream is one registered HTTP server: where it is, what it is sent with
// each request, and the connections to it. It lives as long as the
// registration.
type upstream struct {
	server    *grants.Server
	template  *http.Request // URL and Host
	header    http.Header   // the registry's: the server's credentials
	transport *direct.Transport
	timeout   time.Duration  // for the server to begin an answer, and to go on with it; 0: none
	misfits   rate.Sometimes // lines of the log about its answers

	most     int64 // requests in flight; 0: no bound
	inFlight atomic.Int64
}

// newUpstream builds the server's upstream. The error names the mistake in
// the registration or the gateway's file, and holds no credential.
func newUpstream(server *grants.Server, settings config.Upstream, allow *config.UpstreamAllow, log hclog.Logger) (*upstream, error) {
	target, err := url.Parse(server.URL)
	if err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
		return nil, errors.New("the registered URL is not an http or https URL with a host")
	}
	target.Fragment, target.RawFragment = "", ""
	u := &upstream{
		server:  server,
		timeout: settings.Timeout,
		header:  make(http.Header, len(server.Headers)+1),
		most:    int64(settings.MaxConcurrent),
		misfits: rate.Sometimes{Interval: 10 * time.Second},
	}
	if user := target.User; user != nil {
		password, _ := user.Password()
		basic := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		u.header["Authorization"] = []string{"Basic " + basic}
		target.User = nil
	}
	for name, value := range headersOf(server) {
		key := textproto.CanonicalMIMEHeaderKey(name)
		if check.IsReservedHeader(name) {
			log.Warn("a registered header is the gateway's own to send, and is left out", "server", server.Name, "header", key)
			continue
		}
		u.header[key] = []string{value}
	}
	u.template = &http.Request{
		URL:        target,
		Host:       target.Host,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
	}
	tlsConfig, err := dial.TLS(dial.Certificates{Authorities: settings.CACertFile, Cert: settings.ClientCertFile, Key: settings.ClientKeyFile})
	if err != nil {
		return nil, err
	}
	connect, err := dial.By(settings.Proxy, allow, target, settings.ConnectTimeout)
	if err != nil {
		return nil, err
	}
	u.transport = direct.New(direct.Options{
		URL:              target,
		Dial:             u.warnOfProxy(connect, log),
		TLS:              tlsConfig,
		HandshakeTimeout: settings.ConnectTimeout,
		HeaderTimeout:    settings.Timeout,
		Layered:          settings.Proxy != nil && settings.Proxy.URL.Scheme == "https",
	})
	return u, nil
}

// headersOf are the registration's headers. Where some of its values are leased, all of them
// come with the credentials of each request.
func headersOf(server *grants.Server) map[string]string {
	if server.Leases() {
		return nil
	}
	return server.Headers
}

// warnOfProxy has the gateway's log name what a proxy on the way does not do: only whoever
// wrote the gateway's file can change it.
func (u *upstream) warnOfProxy(connect dial.Func, log hclog.Logger) dial.Func {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := connect(ctx, network, address)
		var fault *dial.ProxyError
		if errors.As(err, &fault) && ctx.Err() == nil {
			u.misfits.Do(func() { log.Warn("a server cannot be reached by its proxy", "server", u.server.Name, "error", err) })
		}
		return conn, err
	}
}

// acquire takes one of the server's slots. The caller must release it.
func (u *upstream) acquire() bool {
	if u.inFlight.Add(1) > u.most && u.most > 0 {
		u.inFlight.Add(-1)
		return false
	}
	return true
}

func (u *upstream) release() { u.inFlight.Add(-1) }

// close ends the idle connections. Requests in flight go on: they are cut by
// their contexts.
func (u *upstream) close() { u.transport.Close() }

// headers are those of requests, which are used again.
var headers = sync.Pool{New: func() any { return make(http.Header, 16) }}

// send sends a request, and returns as soon as the answer begins. One whose answer is to be a stream
// may wait for hours.
func (u *upstream) send(ctx context.Context, r *direct.Request, stream bool) (*http.Response, error) {
	if stream {
		return u.transport.Open(ctx, r)
	}
	return u.transport.Send(ctx, r)
}

// hurry has an answer end, other than a stream, with which the server does not go on for
// upstream.timeout.
func (u *upstream) hurry(response *http.Response) {
	if mediaType(protocol.First(response.Header, protocol.HeaderContentType)) != protocol.MediaEventStream {
		direct.Hurry(response, u.timeout)
	}
}
