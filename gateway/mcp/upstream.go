package mcp

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
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
	tlsConfig, err := upstreamTLS(settings)
	if err != nil {
		return nil, err
	}
	u.transport = &http.Transport{
		// No proxy from the environment: the address that is dialled would be
		// the proxy's, and could not be checked.
		DialContext:           dial.To(allow, target.Hostname(), settings.ConnectTimeout),
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

func upstreamTLS(settings config.Upstream) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if settings.CACertFile != "" {
		pem, err := os.ReadFile(settings.CACertFile)
		if err != nil {
			return nil, fmt.Errorf("ca_cert_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_cert_file: %s holds no certificate", settings.CACertFile)
		}
	}
	if settings.ClientCertFile == "" {
		return c, nil
	}
	// Read at each handshake, so that a renewed certificate is used at once.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(settings.ClientCertFile, settings.ClientKeyFile)
		if err != nil {
			return nil, fmt.Errorf("client_cert_file: %w", err)
		}
		return &pair, nil
	}
	_, err := c.GetClientCertificate(nil)
	return c, err
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
