package mcp

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/dial"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// connBuffer is the size of a connection's buffers. Most messages fit, with
// their headers; what does not is passed around them.
const connBuffer = 2 << 10

// upstream is one registered HTTP server: where it is, what it is sent with
// each request, and the connections to it. It lives as long as the
// registration.
type upstream struct {
	server    *grants.Server
	template  *http.Request // URL and Host
	header    http.Header   // the registry's: the server's credentials
	transport *http.Transport
	direct    bool // without TLS on the way, so that a connection can be seen to be idle
	idle      idleConns
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
	u.direct = target.Scheme == "http" && canTellIdle && (settings.Proxy == nil || settings.Proxy.URL.Scheme == "http")
	u.transport = &http.Transport{
		// No Proxy of its own: the way by one is a matter of dialling.
		DialContext:           u.warnOfProxy(connect, log),
		TLSClientConfig:       tlsConfig,
		TLSHandshakeTimeout:   settings.ConnectTimeout,
		ResponseHeaderTimeout: settings.Timeout,
		MaxIdleConnsPerHost:   maxIdleConns,
		// Each stream holds a connection, and so a pair of these.
		WriteBufferSize:        connBuffer,
		ReadBufferSize:         connBuffer,
		IdleConnTimeout:        idleConnTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // answers go on as they came
		MaxResponseHeaderBytes: maxResponseHeader,
	}
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
func (u *upstream) close() {
	u.idle.close()
	u.transport.CloseIdleConnections()
}
