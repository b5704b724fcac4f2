package dial

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http/httpproxy"
	"golang.org/x/net/idna"

	"vault-plugin-secrets-mcp/gateway/config"
)

// By returns a function that connects to the server at target: through the proxy, or as [To]
// does where there is none, or where it is not for this server.
//
// Through a proxy the gateway does not see the address that is dialled. It can check only
// the URL: an address in it as if it were dialled, and a name by the list's names alone.
func By(proxy *config.Proxy, allow *config.UpstreamAllow, target *url.URL, timeout time.Duration) (Func, error) {
	if proxy == nil {
		return To(allow, target.Hostname(), timeout), nil
	}
	rules := httpproxy.Config{HTTPProxy: proxy.URL.String(), HTTPSProxy: proxy.URL.String(), NoProxy: strings.Join(proxy.NoProxy, ",")}
	by, err := rules.ProxyFunc()(target)
	if err != nil || by == nil {
		return To(allow, target.Hostname(), timeout), err
	}
	t := &tunnel{proxy: proxy, allow: allow, timeout: timeout}
	if proxy.URL.Scheme == "https" {
		if t.tls, err = TLS(Certificates{Authorities: proxy.CACertFile}); err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
		}
		t.tls.ServerName = proxy.URL.Hostname()
		t.tls.NextProtos = []string{"http/1.1"}
	}
	return t.dial, nil
}

// ProxyError describes the failure of a proxy. It has no secrets.
type ProxyError struct {
	proxy string // host and port
	what  string
	err   error // nil: the proxy has answered
}

func (e *ProxyError) Error() string {
	text := "the proxy " + e.proxy + " " + e.what
	if e.err != nil {
		text += ": " + e.err.Error()
	}
	return text
}

func (e *ProxyError) Unwrap() error { return e.err }

// tunnel opens ways through a proxy, by CONNECT (RFC 9110 section 9.3.6). Servers of plain
// HTTP are reached so, too: then every proxy passes events of a stream on as they come, and
// no header for the proxy is on the way to a server.
type tunnel struct {
	proxy   *config.Proxy
	allow   *config.UpstreamAllow
	tls     *tls.Config // nil: the proxy is spoken to without
	timeout time.Duration
}

// dial has the form of [Func]. The timeout is for all of it.
func (t *tunnel) dial(ctx context.Context, _, address string) (net.Conn, error) {
	target, err := t.target(address)
	if err != nil {
		return nil, err
	}
	password := ""
	if t.proxy.PasswordFile != "" {
		if password, err = config.ReadProxyPassword(t.proxy.PasswordFile); err != nil {
			return nil, t.failed("is not asked, for want of its password", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	conn, err := t.connect(ctx)
	if err != nil {
		return nil, t.failed("cannot be reached", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = t.ask(conn, target, password)
	if !stop() {
		err = t.failed("has not opened a way to "+target+" in time", context.Cause(ctx))
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (t *tunnel) failed(what string, err error) error {
	return &ProxyError{proxy: t.proxy.URL.Host, what: what, err: err}
}

// target checks where the proxy is asked to connect, and returns it as it is written in a
// request.
func (t *tunnel) target(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("%w: it does not parse", errAddress)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		err = checkAddress(t.allow, allowsHost(t.allow, host), addr)
		if err == nil && addr.Zone() != "" { // almost any text, which would be in the request
			err = fmt.Errorf("%w: %s has a zone, which means nothing to a proxy", errAddress, addr.WithZone(""))
		}
		return address, err
	}
	if strings.ContainsFunc(host, func(c rune) bool { return c > 127 }) {
		if host, err = idna.Lookup.ToASCII(host); err != nil {
			return "", fmt.Errorf("%w: its name is not valid", errAddress)
		}
	}
	switch {
	case !httpguts.ValidHostHeader(host) || strings.ContainsAny(host, "/?#@:"):
		return "", fmt.Errorf("%w: its name is not valid", errAddress)
	case endsInNumber(host):
		return "", fmt.Errorf("%w: %s is another way to write an address, which could not be checked", errAddress, host)
	case !allowsHost(t.allow, host):
		return "", fmt.Errorf("%w: the name %s is not in upstream_allow, and only the proxy sees its address", errAddress, host)
	}
	return net.JoinHostPort(host, port), nil
}

// endsInNumber reports whether a proxy may take the name for an address of IPv4, in one of
// the forms that inet_aton reads: 2852039166, 0xa9fea9fe, 169.254.43518, with a dot at the end.
func endsInNumber(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	last := host[strings.LastIndexByte(host, '.')+1:]
	if digits, hex := strings.CutPrefix(last, "0x"); hex {
		return strings.Trim(digits, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// connect reaches the proxy itself, whose address is the file's and not a registration's.
func (t *tunnel) connect(ctx context.Context) (net.Conn, error) {
	port := t.proxy.URL.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[t.proxy.URL.Scheme]
	}
	d := &net.Dialer{KeepAlive: keepAlive}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(t.proxy.URL.Hostname(), port))
	if err != nil || t.tls == nil {
		return conn, err
	}
	secured := tls.Client(conn, t.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secured, nil
}

// maxProxyHeader bounds the header of a proxy's answer, in bytes.
const maxProxyHeader = 64 << 10

// ask sends CONNECT and reads the answer.
func (t *tunnel) ask(conn net.Conn, target, password string) error {
	request := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n"
	if t.proxy.Username != "" {
		request += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(t.proxy.Username+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		return t.failed("does not take the request", err)
	}
	reader := bufio.NewReader(io.LimitReader(conn, maxProxyHeader))
	for {
		answer, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // it ends with the connection
		switch {
		case err != nil:
			// The error may quote the proxy's answer.
			return t.failed("does not answer as an HTTP proxy does", nil)
		case answer.StatusCode < 200 && answer.StatusCode != http.StatusSwitchingProtocols:
			continue
		case answer.StatusCode < 200 || answer.StatusCode > 299:
			return t.failed(t.refusal(answer, target), nil)
		case reader.Buffered() > 0:
			return t.failed("sends data that belongs to no answer", nil)
		}
		return nil
	}
}

// refusal names the cause of a refusal, as far as the status shows it.
func (t *tunnel) refusal(answer *http.Response, target string) string {
	switch answer.StatusCode {
	case http.StatusProxyAuthRequired, http.StatusUnauthorized: // the second is tinyproxy's
		return t.unauthorized(answer)
	case http.StatusForbidden, http.StatusMethodNotAllowed:
		return fmt.Sprintf("does not allow a way to %s (status %d): its rules must allow CONNECT to that host and port", target, answer.StatusCode)
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return fmt.Sprintf("cannot reach %s (status %d)", target, answer.StatusCode)
	}
	return fmt.Sprintf("does not open a way to %s (status %d)", target, answer.StatusCode)
}

// schemeForm is the name of a way to authenticate (RFC 9110 section 11.1).
var schemeForm = regexp.MustCompile(`^[A-Za-z0-9-]{1,20}`)

func (t *tunnel) unauthorized(answer *http.Response) string {
	status := fmt.Sprintf(" (status %d)", answer.StatusCode)
	if t.proxy.Username == "" {
		return "asks for authentication" + status + ": give its block a username and a password_file"
	}
	basic := answer.StatusCode == http.StatusUnauthorized
	var offered []string
	for _, challenge := range answer.Header.Values("Proxy-Authenticate") {
		scheme := schemeForm.FindString(challenge)
		basic = basic || strings.EqualFold(scheme, "Basic")
		offered = append(offered, scheme)
	}
	if basic {
		return "refuses the username and the password" + status + ": correct username, or the content of password_file"
	}
	return "takes no Basic authentication" + status + ", which is all that the gateway has. It offers: " + strings.Join(offered[:min(len(offered), 5)], ", ")
}
