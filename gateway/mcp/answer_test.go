package mcp

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
)

func TestTheClientDoesNotGetWhatSpeaksForTheGateway(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		for _, key := range []string{
			"Set-Cookie", "Www-Authenticate", "Alt-Svc", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers",
			"Strict-Transport-Security", "Clear-Site-Data", "Keep-Alive", "Proxy-Authenticate", "Server", "X-Powered-By", "X-Hop", "Location",
		} {
			h.Set(key, "x")
		}
		h.Set("Connection", "X-Hop")
		h.Set("Trailer", "X-Trailer")
		h.Set("X-Accel-Buffering", "no")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Vendor", "v")
		h.Set("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
		gatewaytest.Reply(w, pong)
		h.Set("X-Trailer", "late")
	})
	g := newGateway(t, testConfig(), registration(up))
	r, err := g.Do(t.Context(), ping)
	require.NoError(t, err)
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.NoError(t, r.Body.Close())
	require.Equal(t, pong, string(body))
	require.Empty(t, r.Trailer)
	r.Header.Del("Content-Length")
	require.Equal(t, http.Header{
		"Cache-Control":     {"no-cache"},
		"Content-Type":      {"application/json"},
		"Date":              {"Thu, 01 Jan 1970 00:00:00 GMT"},
		"X-Accel-Buffering": {"no"},
		"X-Vendor":          {"v"},
	}, r.Header)
}

func TestAnswersThatAreNotTheClientsToSeeAreReplaced(t *testing.T) {
	tests := map[string]struct {
		status int
		media  string
		want   int
	}{
		"401":                  {401, "application/json", 502},
		"407":                  {407, "application/json", 502},
		"a redirect":           {302, "text/html", 502},
		"a permanent redirect": {308, "application/json", 502},
		"not modified":         {304, "", 502},
		"an error page":        {500, "text/html", 502},
		"a gateway's timeout":  {504, "text/html", 504},
		"an overloaded server": {503, "text/html", 503},
		"400 passes":           {400, "text/plain", 400},
		"403 passes":           {403, "text/plain", 403},
		"404 passes":           {404, "application/json", 404},
		"405 passes":           {405, "text/plain", 405},
		"500 in JSON passes":   {500, "application/json", 500},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", test.media)
				w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
				w.Header().Set("Www-Authenticate", "Bearer inner")
				w.WriteHeader(test.status)
				if test.status != 304 {
					_, _ = io.WriteString(w, "inner secret")
				}
			})
			g := newGateway(t, testConfig(), registration(up))
			got := g.Ask(t, ping)
			require.Equal(t, test.want, got.Status)
			require.Equal(t, 1, up.Count(), "a redirect is not followed")
			require.NotContains(t, got.Header, "Location")
			require.NotContains(t, got.Header, "Www-Authenticate")
			if test.want == test.status && test.media != "text/html" {
				require.Equal(t, "inner secret", got.Body)
				return
			}
			require.NotContains(t, got.Body, "inner")
			require.Contains(t, got.Body, `"request_id":"request-1"`)
			require.Contains(t, got.Body, `"id":1`)
		})
	}
}

// Whoever registered the server reads in the gateway's log what is wrong with it.
func TestServerThatDoesNotFitIsInTheLog(t *testing.T) {
	tests := map[string]struct {
		status   int
		header   string
		value    string
		want     []string
		message  string
		answered int
	}{
		"a redirect":        {307, "Location", "/mcp/?key=secret", []string{"status=307", "/mcp/", "register the URL"}, "it redirects to another URL", 502},
		"a redirect abroad": {302, "Location", "https://u:secret@login.example/x#secret", []string{"status=302", "location=https://login.example/x"}, "it redirects to another URL", 502},
		"a login":           {401, "Www-Authenticate", "Bearer", []string{"status=401", "correct the headers of its registration"}, "it refuses the gateway's credentials", 502},
		"a limit":           {429, "Retry-After", "7", []string{"status=429"}, "", 429},
		"a page":            {200, "Content-Type", "text/html", []string{"status=200", "content_type=text/html"}, "", 200},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set(test.header, test.value)
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, "x")
			})
			g := newGateway(t, testConfig(), registration(up))
			var log gatewaytest.Log
			g.log = hclog.New(&hclog.LoggerOptions{Output: &log})
			for range 3 {
				got := g.Ask(t, ping)
				require.Equal(t, test.answered, got.Status)
				require.Contains(t, got.Body, test.message)
				require.NotContains(t, got.Body, "login.example")
			}
			for _, want := range test.want {
				require.Contains(t, log.String(), want)
			}
			require.Equal(t, 1, strings.Count(log.String(), "server=up"), "not with every request")
			require.NotContains(t, log.String(), "secret")
			if test.status < 400 && test.status >= 300 {
				g.sink.mu.Lock()
				defer g.sink.mu.Unlock()
				require.Contains(t, g.sink.outcomes[0].Err.Error(), "Location: ")
				require.NotContains(t, g.sink.outcomes[0].Err.Error(), "secret")
			}
		})
	}
}

func TestAServerThatCannotBeReachedIsA502(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dead := "http://" + listener.Addr().String()
	require.NoError(t, listener.Close())
	g := newGateway(t, testConfig(), &grants.Server{Name: "up", ID: "1", Transport: "http", URL: dead + "/?secret=1"})
	got := g.Ask(t, ping)
	require.Equal(t, http.StatusBadGateway, got.Status)
	require.NotContains(t, got.Body, "127.0.0.1")
	require.Contains(t, got.Body, `"id":1`)
	require.Equal(t, []string{"decision allowed", "outcome"}, g.sink.all())
	require.NotContains(t, g.sink.outcomes[0].Err.Error(), "secret")

	got = g.Ask(t, "", ":method", "GET")
	require.Equal(t, http.StatusBadGateway, got.Status)
	require.NotContains(t, got.Body, "jsonrpc")
}

func TestAServerThatHangsIsA504(t *testing.T) {
	release := make(chan struct{})
	up := gatewaytest.NewUpstream(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	c := testConfig()
	c.Upstreams = map[string]config.Upstream{"up": {Timeout: 50 * time.Millisecond, ConnectTimeout: time.Second}}
	g := newGateway(t, c, registration(up))
	require.Equal(t, http.StatusGatewayTimeout, g.Ask(t, ping).Status)
}

func TestAnAnswerThatBreaksOffDoesNotLookComplete(t *testing.T) {
	for name, length := range map[string]string{"of known length": "100000", "of unknown length": ""} {
		t.Run(name, func(t *testing.T) {
			up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, `{"jsonrpc"`)
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			})
			up.Config.ErrorLog = nil
			g := newGateway(t, testConfig(), registration(up))
			r, err := g.Do(t.Context(), ping)
			require.NoError(t, err)
			_, err = io.ReadAll(r.Body)
			require.Error(t, err)
			require.NoError(t, r.Body.Close())
			gatewaytest.Eventually(t, "the outcome", func() bool { return len(g.sink.all()) == 2 })
			require.Error(t, g.sink.outcomes[0].Err)
		})
	}
}

func TestAShortAnswerThatBreaksOffIsA502(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		gatewaytest.Reply(w, `{"jsonrpc"`)
	})
	g := newGateway(t, testConfig(), registration(up))
	require.Equal(t, http.StatusBadGateway, g.Ask(t, ping).Status)
}
