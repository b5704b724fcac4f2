package dial

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

func parsed(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	require.NoError(t, err)
	return u
}

// passwordFile is a file with the text.
func passwordFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// connect dials the target by the proxy, and returns the error and the answer to a GET
// there.
func connect(t *testing.T, proxy *config.Proxy, allow *config.UpstreamAllow, target string) (string, error) {
	t.Helper()
	u := parsed(t, target)
	by, err := By(proxy, allow, u, 5*time.Second)
	require.NoError(t, err)
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "80")
	}
	conn, err := by(t.Context(), "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody)
	require.NoError(t, err)
	require.NoError(t, r.Write(conn))
	answer, err := http.ReadResponse(bufio.NewReader(conn), r)
	require.NoError(t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return string(body), answer.Body.Close()
}

func hello(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello to "+r.Host+r.Header.Get("Proxy-Authorization"))
	}))
	t.Cleanup(s.Close)
	return s
}

func TestAProxyKnowsNamesThatTheGatewayDoesNot(t *testing.T) {
	up := hello(t).Listener.Addr().String()
	names := map[string]string{"up.test:80": up, "xn--mnchen-3ya.test:80": up, "10.1.2.3:80": up, "[2001:db8::1]:80": up}
	for _, kind := range []string{"http", "https"} {
		t.Run(kind, func(t *testing.T) {
			settings := &config.Proxy{Username: "mcp", PasswordFile: passwordFile(t, "sesame\n")}
			var proxy *gatewaytest.Proxy
			if kind == "https" {
				proxy = gatewaytest.NewTLSProxy(t, names)
				settings.CACertFile = filepath.Join(t.TempDir(), "ca.pem")
				require.NoError(t, os.WriteFile(settings.CACertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: proxy.Certificate().Raw}), 0o600))
			} else {
				proxy = gatewaytest.NewProxy(t, names)
			}
			settings.URL = parsed(t, proxy.URL)
			proxy.Demand("mcp", "sesame")
			for target, host := range map[string]string{
				"http://up.test/": "up.test", "http://münchen.test/": "münchen.test", "http://10.1.2.3/": "10.1.2.3", "http://[2001:db8::1]/": "[2001:db8::1]",
			} {
				got, err := connect(t, settings, &config.UpstreamAllow{}, target)
				require.NoError(t, err, target)
				if host != "münchen.test" {
					require.Equal(t, "hello to "+host, got, "and nothing of the proxy's password")
				}
			}
			require.Len(t, proxy.Requests(), 4)
		})
	}
}

// An address that a proxy resolves cannot be checked; the URL's own text is.
func TestAddressesInURLsAreCheckedThoughAProxyDials(t *testing.T) {
	proxy := gatewaytest.NewProxy(t, nil)
	settings := &config.Proxy{URL: parsed(t, proxy.URL)}
	everywhere := config.UpstreamAllow{Prefixes: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	names := config.UpstreamAllow{Hosts: []string{"*.example.com", "2852039166"}}
	for name, test := range map[string]struct {
		host  string
		allow config.UpstreamAllow
		want  string // "": the proxy is asked
	}{
		"a name":                               {"up.test", config.UpstreamAllow{}, ""},
		"a name that is listed":                {"up.example.com", names, ""},
		"a name that is not listed":            {"up.test", names, "is not in upstream_allow"},
		"a name where every address is listed": {"up.test", everywhere, "only the proxy sees its address"},
		"an address":                           {"10.1.2.3", config.UpstreamAllow{}, ""},
		"an address that is listed":            {"10.1.2.3", everywhere, ""},
		"an address that is not listed":        {"10.1.2.3", names, "is not in upstream_allow"},
		"a metadata service":                   {"169.254.169.254", everywhere, "link-local"},
		"a metadata service that is listed":    {"169.254.169.254", config.UpstreamAllow{Hosts: []string{"169.254.169.254"}}, "link-local"},
		"in IPv6":                              {"[::ffff:169.254.169.254]", everywhere, "link-local"},
		"in IPv6 with a zone":                  {"[fe80::1%25eth0]", everywhere, "link-local"},
		"in one number":                        {"2852039166", config.UpstreamAllow{}, "another way to write an address"},
		"in one number that is listed":         {"2852039166", names, "another way to write an address"},
		"in hexadecimal":                       {"0xA9FEA9FE", config.UpstreamAllow{}, "another way to write an address"},
		"in two parts":                         {"169.16689662", config.UpstreamAllow{}, "another way to write an address"},
		"in octal":                             {"0251.0376.0251.0376", config.UpstreamAllow{}, "another way to write an address"},
		"with a dot at its end":                {"169.254.169.254.", config.UpstreamAllow{}, "another way to write an address"},
		"with a hexadecimal end":               {"169.254.0xa9.0xfe", config.UpstreamAllow{}, "another way to write an address"},
		"in digits of another width":           {"１６９.２５４.１６９.２５４", config.UpstreamAllow{}, "another way to write an address"},
		"with other dots":                      {"169。254。169。254", config.UpstreamAllow{}, "another way to write an address"},
		"a name that IDNA does not take":       {"a\u200eb.test", config.UpstreamAllow{}, "its name is not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			u := parsed(t, "http://"+test.host+"/")
			by, err := By(settings, &test.allow, u, 5*time.Second)
			require.NoError(t, err)
			before := len(proxy.Requests())
			_, err = by(t.Context(), "tcp", net.JoinHostPort(u.Hostname(), "80"))
			require.Error(t, err)
			if test.want == "" {
				require.Len(t, proxy.Requests(), before+1)
				return
			}
			require.ErrorIs(t, err, errAddress)
			require.ErrorContains(t, err, test.want)
			require.Len(t, proxy.Requests(), before, "the proxy is not asked")
		})
	}
}

func TestATargetCannotBreakOutOfTheRequestToAProxy(t *testing.T) {
	proxy := gatewaytest.NewProxy(t, nil)
	tunnel := &tunnel{proxy: &config.Proxy{URL: parsed(t, proxy.URL)}, allow: &config.UpstreamAllow{}, timeout: time.Second}
	for _, host := range []string{"a\r\nX: y", "a b", "a/b", "a?b", "a#b", "user@a", "", "a\x00b", "2001:db8::1%a b", "2001:db8::1%eth0"} {
		_, err := tunnel.dial(t.Context(), "tcp", net.JoinHostPort(host, "80"))
		require.ErrorIs(t, err, errAddress, "%q", host)
	}
	require.Empty(t, proxy.Requests())
}

func TestWhichServersAreReachedWithoutTheProxy(t *testing.T) {
	nowhere := parsed(t, "http://127.0.0.1:1")
	for rule, hosts := range map[string]map[string]bool{
		"":                 {"up.test": false, "localhost": true, "127.0.0.1": true, "[::1]": true, "10.1.2.3": false},
		"up.test":          {"up.test": true, "UP.test": true, "a.up.test": true, "b.test": false},
		".up.test":         {"up.test": false, "a.up.test": true},
		"*.up.test":        {"up.test": false, "a.up.test": true},
		"up.test:8080":     {"up.test": false, "up.test:8080": true},
		"10.1.2.3":         {"10.1.2.3": true, "10.1.2.4": false},
		"10.0.0.0/8":       {"10.1.2.3": true, "11.1.2.3": false, "name.test": false},
		"[2001:db8::1]:80": {"[2001:db8::2]": false},
		"*":                {"up.test": true, "10.1.2.3": true},
	} {
		for host, direct := range hosts {
			settings := &config.Proxy{URL: nowhere}
			if rule != "" {
				settings.NoProxy = []string{"other.example.com", rule}
			}
			by, err := By(settings, &config.UpstreamAllow{}, parsed(t, "http://"+host+"/mcp"), time.Second)
			require.NoError(t, err)
			ended, cancel := context.WithCancel(t.Context())
			cancel() // so that nothing is reached
			u := parsed(t, "http://"+host)
			_, err = by(ended, "tcp", net.JoinHostPort(u.Hostname(), "80"))
			var fault *ProxyError
			require.Error(t, err)
			require.Equal(t, direct, !errors.As(err, &fault), "%s with %q: %v", host, rule, err)
		}
	}
}

func TestAPasswordIsReadForEachConnection(t *testing.T) {
	proxy := gatewaytest.NewProxy(t, map[string]string{"up.test:80": hello(t).Listener.Addr().String()})
	settings := &config.Proxy{URL: parsed(t, proxy.URL), Username: "mcp", PasswordFile: passwordFile(t, "old")}
	proxy.Demand("mcp", "old")
	_, err := connect(t, settings, &config.UpstreamAllow{}, "http://up.test/")
	require.NoError(t, err)
	proxy.Demand("mcp", "new")
	_, err = connect(t, settings, &config.UpstreamAllow{}, "http://up.test/")
	require.ErrorContains(t, err, "refuses the username and the password (status 407)")
	require.NoError(t, os.WriteFile(settings.PasswordFile, []byte("new\n"), 0o600))
	_, err = connect(t, settings, &config.UpstreamAllow{}, "http://up.test/")
	require.NoError(t, err)
	require.NoError(t, os.Remove(settings.PasswordFile))
	_, err = connect(t, settings, &config.UpstreamAllow{}, "http://up.test/")
	require.ErrorContains(t, err, "for want of its password")
}

// answering is a proxy that answers every request with the text, and then waits.
func answering(t *testing.T, text string) *config.Proxy {
	t.Helper()
	var network net.ListenConfig
	listener, err := network.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, text)
			}
			if !strings.HasPrefix(text, "HTTP/1.1 200") && text != "" {
				_ = conn.Close()
			}
		}
	}()
	return &config.Proxy{URL: parsed(t, "http://"+listener.Addr().String())}
}

func TestAProxysRefusalIsToldClearly(t *testing.T) {
	const secret = "hunter2-of-the-proxy"
	for name, test := range map[string]struct {
		answer   string
		username string
		want     string
	}{
		"no credentials":      {"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"" + secret + "\"\r\n\r\n", "", "asks for authentication (status 407): give its block a username and a password_file"},
		"wrong credentials":   {"HTTP/1.1 407 x\r\nProxy-Authenticate: basic\r\n\r\n", "u", "refuses the username and the password (status 407)"},
		"as tinyproxy has it": {"HTTP/1.1 401 x\r\nProxy-Authenticate: Basic realm=\"" + secret + "\"\r\n\r\n", "u", "refuses the username and the password (status 401)"},
		"another scheme":      {"HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM " + secret + "\r\n\r\n", "u", "It offers: Negotiate, NTLM"},
		"a rule":              {"HTTP/1.1 403 x\r\n\r\n" + secret, "", "does not allow a way to up.test:80 (status 403)"},
		"no such server":      {"HTTP/1.1 502 " + secret + "\r\n\r\n", "", "cannot reach up.test:80 (status 502)"},
		"a redirect":          {"HTTP/1.1 302 x\r\nLocation: http://" + secret + "/\r\n\r\n", "", "does not open a way to up.test:80 (status 302)"},
		"something else":      {secret + "\r\n\r\n", "", "does not answer as an HTTP proxy does"},
		"nothing":             {"\r\n", "", "does not answer as an HTTP proxy does"},
		"a switch":            {"HTTP/1.1 101 x\r\n\r\n", "", "does not open a way to up.test:80 (status 101)"},
		"data without a call": {"HTTP/1.1 200 x\r\n\r\n" + secret, "", "sends data that belongs to no answer"},
		"an endless header":   {"HTTP/1.1 200 x\r\nX: " + strings.Repeat("x", maxProxyHeader) + "\r\n\r\n", "", "does not answer as an HTTP proxy does"},
	} {
		t.Run(name, func(t *testing.T) {
			settings := answering(t, test.answer)
			if test.username != "" {
				settings.Username, settings.PasswordFile = test.username, passwordFile(t, secret)
			}
			_, err := connect(t, settings, &config.UpstreamAllow{}, "http://up.test/")
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), secret)
			var fault *ProxyError
			require.ErrorAs(t, err, &fault)
		})
	}
}

func TestAProxyMayAnswerMoreThanOnce(t *testing.T) {
	settings := answering(t, "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 204 x\r\n\r\n")
	by, err := By(settings, &config.UpstreamAllow{}, parsed(t, "http://up.test/"), time.Second)
	require.NoError(t, err)
	conn, err := by(t.Context(), "tcp", "up.test:80")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

func TestAProxyThatDoesNotAnswerIsGivenUp(t *testing.T) {
	settings := answering(t, "")
	by, err := By(settings, &config.UpstreamAllow{}, parsed(t, "http://up.test/"), 50*time.Millisecond)
	require.NoError(t, err)
	_, err = by(t.Context(), "tcp", "up.test:80")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "has not opened a way to up.test:80 in time")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	by, err = By(settings, &config.UpstreamAllow{}, parsed(t, "http://up.test/"), time.Minute)
	require.NoError(t, err)
	_, err = by(ctx, "tcp", "up.test:80")
	require.ErrorIs(t, err, context.Canceled)
}

func TestAProxyOfHTTPSMustProveItsName(t *testing.T) {
	proxy := gatewaytest.NewTLSProxy(t, nil)
	_, err := connect(t, &config.Proxy{URL: parsed(t, proxy.URL), Username: "u", PasswordFile: passwordFile(t, "p")}, &config.UpstreamAllow{}, "http://up.test/")
	require.ErrorContains(t, err, "cannot be reached")
	require.ErrorContains(t, err, "certificate")
	require.Empty(t, proxy.Requests())
}

// FuzzTarget: whatever a registration's host is, nothing that a proxy might take for a
// forbidden address passes, and nothing breaks out of the request's line.
func FuzzTarget(f *testing.F) {
	for _, host := range []string{"a.test", "169.254.169.254", "0xa9fea9fe", "１６９.254.169.254", "a b", "[::1]", "::ffff:169.254.169.254", "xn--a"} {
		f.Add(host)
	}
	t := &tunnel{allow: &config.UpstreamAllow{}}
	f.Fuzz(func(tt *testing.T, host string) {
		got, err := t.target(net.JoinHostPort(host, "80"))
		if err != nil {
			return
		}
		require.NotContains(tt, strings.TrimSuffix(got, ":80"), "\r")
		require.NotContains(tt, got, "\n")
		require.NotContains(tt, got, " ")
		name, _, err := net.SplitHostPort(got)
		require.NoError(tt, err)
		if addr, err := netip.ParseAddr(name); err == nil {
			require.False(tt, never(addr), got)
		} else {
			require.False(tt, endsInNumber(name), got)
		}
	})
}
