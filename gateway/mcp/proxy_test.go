package mcp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/session"
)

func TestTheServerGetsTheBytesThatWereRead(t *testing.T) {
	up := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	g := newGateway(t, testConfig(), registration(up))
	for _, body := range []string{
		ping,
		" {\"jsonrpc\" : \"2.0\",\n\t\"id\":12345678901234567890, \"method\":\"vendor\\/x\",\"params\":{\"n\":1.10,\"u\":\"\\u00e9\"}}\r\n",
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"big","arguments":{"x":"` + strings.Repeat("y", 300<<10) + `"}}}`,
	} {
		got := g.Ask(t, body)
		require.Equal(t, http.StatusOK, got.Status, got.Body)
		require.Equal(t, pong, got.Body)
		_, sent := up.Last()
		require.Equal(t, body, sent)
	}
	require.Equal(t, []string{"decision allowed", "outcome"}, g.sink.all()[:2])
}

func TestTheServerGetsNothingElseOfTheClients(t *testing.T) {
	up := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	server := registration(up)
	server.Headers = map[string]string{"authorization": "Bearer upstream", "X-Api-Key": "k", "Connection": "x", "mcp-name": "x", "Mcp_Session_Id": "x", "Host": "evil", "Origin": "x", "expect": "x"}
	g := newGateway(t, testConfig(), server)
	got := g.Ask(t, ping,
		"Cookie", "a=b", "X-Forwarded-For", "1.2.3.4", "X-Forwarded-Host", "evil", "Forwarded", "for=1.2.3.4",
		"X-Real-Ip", "1.2.3.4", "Proxy-Authorization", "Basic x", "Origin", "http://evil", "Referer", "http://evil",
		"X-Api-Key", "mine", "Accept-Language", "de", "X-Vendor", "1", "Content-Type", "",
		"Content-Type", "application/json; charset=UTF-8", "Te", "trailers",
		"User-Agent", "agent/1", "Traceparent", "00-a-b-01", "Tracestate", "c=d", "Last-Event-ID", "7",
		"MCP-Protocol-Version", "2025-11-25", "Mcp-Method", "ping", "Mcp-Param-Region", "eu", "Mcp-Vendor", "v", "Mcp-Session_Id", "s")
	require.Equal(t, http.StatusOK, got.Status, got.Body)
	r, _ := up.Last()
	require.Equal(t, http.Header{
		"Accept":               {"application/json, text/event-stream"},
		"Accept-Encoding":      {"identity"},
		"Authorization":        {"Bearer upstream"},
		"Content-Length":       {fmt.Sprint(len(ping))},
		"Content-Type":         {"application/json"},
		"Mcp-Method":           {"ping"},
		"Mcp-Param-Region":     {"eu"},
		"Mcp-Protocol-Version": {"2025-11-25"},
		"Mcp-Vendor":           {"v"},
		"Traceparent":          {"00-a-b-01"},
		"Tracestate":           {"c=d"},
		"User-Agent":           {"agent/1"},
		"X-Api-Key":            {"k"},
	}, r.Header)
	require.Equal(t, "/mcp?key=secret", r.RequestURI)

	got = g.Ask(t, "", ":method", "GET", "Mcp-Session-Id", seal(t, g, "alice", "s"), "Last-Event-ID", "7")
	require.Equal(t, http.StatusOK, got.Status, got.Body)
	r, _ = up.Last()
	require.Equal(t, "7", r.Header.Get("Last-Event-Id"), "it means something in a session alone")
	require.Equal(t, strings.TrimPrefix(up.URL, "http://"), r.Host)
}

// seal makes a session id as the gateway would.
func seal(t *testing.T, g *gateway, client, id string) string {
	t.Helper()
	sealed, err := g.sealer.Seal(session.Owner{ClientID: "id-of-" + client, ServerID: "registration-1"}, id)
	require.NoError(t, err)
	return sealed
}

func TestCredentialsInTheURLAreSentAsBasic(t *testing.T) {
	up := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	server := registration(up)
	server.URL = strings.Replace(up.URL, "http://", "http://user:p%40ss@", 1) + "/mcp#fragment"
	g := newGateway(t, testConfig(), server)
	require.Equal(t, http.StatusOK, g.Ask(t, ping).Status)
	r, _ := up.Last()
	user, password, ok := r.BasicAuth()
	require.True(t, ok)
	require.Equal(t, "user p@ss", user+" "+password)
}

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

func TestMessagesThatCouldBeReadInTwoWaysReachNoServer(t *testing.T) {
	up := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	g := newGateway(t, testConfig(), registration(up))
	tests := map[string]struct {
		body   string
		header []string
		status int
		want   string
	}{
		"a name in capitals": {`{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"get-env","NAME":"echo"}}`, nil, 400, `"id":9,"error":{"code":-32600`},
		"a batch":            {"[" + ping + "]", nil, 400, "-32600"},
		"no JSON":            {"x", nil, 400, `"id":null,"error":{"code":-32700`},
		"a second document":  {ping + ping, nil, 400, "-32700"},
		"a header that lies": {callEcho, []string{"Mcp-Name", "other"}, 400, "-32020"},
		"text":               {ping, []string{"Content-Type", "", "Content-Type", "text/plain"}, 415, "Content-Type"},
		"a charset that hides what the body says": {ping, []string{"Content-Type", "", "Content-Type", "application/json; charset=utf-7"}, 415, "UTF-8"},
		"a charset of one byte a letter":          {ping, []string{"Content-Type", "", "Content-Type", "application/json; profile=x; charset=\"iso-8859-1\""}, 415, "UTF-8"},
		"no Content-Type":                         {ping, []string{"Content-Type", ""}, 415, "Content-Type"},
		"a body too large":                        {`{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":"` + strings.Repeat("x", 1<<20) + `"}}`, nil, 413, "too large"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := g.Ask(t, test.body, test.header...)
			require.Equal(t, test.status, got.Status, got.Body)
			require.Contains(t, got.Body, test.want)
			require.Contains(t, got.Body, "request-1")
		})
	}
	require.Zero(t, up.Count())
	require.NotContains(t, g.sink.all(), "decision allowed")
}

func TestContentTypesOfTheFieldAreTaken(t *testing.T) {
	up := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	g := newGateway(t, testConfig(), registration(up))
	for _, contentType := range []string{
		"application/json;charset=utf-8", "application/json; charset=utf8", "Application/JSON; Charset=UTF8", `application/json; charset="utf-8"`,
		"application/json; charset='UTF-8'", "application/json;", "application/json ; charset = utf-8;", "application/json; odata.metadata=minimal", "application/json; boundary=x; charset=utf-8",
	} {
		got := g.Ask(t, ping, "Content-Type", "", "Content-Type", contentType)
		require.Equal(t, http.StatusOK, got.Status, contentType)
		sent, _ := up.Last()
		require.Equal(t, []string{"application/json"}, sent.Header["Content-Type"], "what the client declares goes no further")
	}
}

// Clients that start anew may still send the id of their last session.
func TestStaleSessionIDOnInitializeMeansNothing(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Mcp-Session-Id", "new")
		gatewaytest.Reply(w, pong)
	})
	g := newGateway(t, testConfig(), registration(up))
	begun := g.Ask(t, initOnce).Header.Get("Mcp-Session-Id")
	for _, stale := range []string{"unknown", begun, strings.Repeat("x", 4000)} {
		got := g.Ask(t, initOnce, "Mcp-Session-Id", stale, "Last-Event-Id", "7")
		require.Equal(t, http.StatusOK, got.Status, got.Body)
		require.NotContains(t, []string{"", stale}, got.Header.Get("Mcp-Session-Id"))
		sent, _ := up.Last()
		require.Empty(t, sent.Header["Mcp-Session-Id"])
		require.Empty(t, sent.Header["Last-Event-Id"])
	}
	require.Equal(t, http.StatusNotFound, g.Ask(t, ping, "Mcp-Session-Id", "unknown").Status, "on any other message it is an unknown session")
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

func TestNothingIsSentWithoutAnAuditLine(t *testing.T) {
	up := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	g := newGateway(t, testConfig(), registration(up))
	g.sink.broken = errors.New("disk full")
	require.Equal(t, http.StatusServiceUnavailable, g.Ask(t, ping).Status)
	require.Zero(t, up.Count())
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

func TestSessionsAreSealedOnceAndRepeated(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Mcp-Session-Id", "inner-session")
		if r.Method == http.MethodPost {
			gatewaytest.Reply(w, pong)
		}
	})
	g := newGateway(t, testConfig(), registration(up))
	opened := g.Ask(t, initOnce)
	sealed := opened.Header.Get("Mcp-Session-Id")
	require.NotEmpty(t, sealed)
	require.NotContains(t, sealed, "inner")

	for _, method := range []string{"POST", "GET", "DELETE"} {
		body := ping
		if method != "POST" {
			body = ""
		}
		got := g.Ask(t, body, ":method", method, "Mcp-Session-Id", sealed)
		require.Equal(t, http.StatusOK, got.Status)
		require.Equal(t, []string{sealed}, got.Header["Mcp-Session-Id"])
		r, _ := up.Last()
		require.Equal(t, "inner-session", r.Header.Get("Mcp-Session-Id"))
		require.Equal(t, method, r.Method)

		before := up.Count()
		for name, pairs := range map[string][]string{
			"another client":          {":token", "bob", "Mcp-Session-Id", sealed},
			"an id of the upstream's": {"Mcp-Session-Id", "inner-session"},
			"a changed id":            {"Mcp-Session-Id", "B" + sealed[1:]},
		} {
			got := g.Ask(t, body, append(pairs, ":method", method)...)
			require.Equal(t, http.StatusNotFound, got.Status, "%s %s", method, name)
			require.NotContains(t, got.Header, "Mcp-Session-Id")
		}
		require.Equal(t, before, up.Count(), "no server was touched")
	}

	repointed := registration(up)
	repointed.ID = "registration-2"
	g.registry.put(repointed)
	require.Equal(t, http.StatusNotFound, g.Ask(t, ping, "Mcp-Session-Id", sealed).Status)
}

func TestTheStatelessEraKnowsNoSessions(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Mcp-Session-Id", "inner-session")
		gatewaytest.Reply(w, pong)
	})
	g := newGateway(t, testConfig(), registration(up))
	body := `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`
	got := g.Ask(t, body, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "ping", "Mcp-Session-Id", "whatever")
	require.Equal(t, http.StatusOK, got.Status)
	require.NotContains(t, got.Header, "Mcp-Session-Id")
	r, _ := up.Last()
	require.NotContains(t, r.Header, "Mcp-Session-Id")
}

func TestWithoutKeysSessionsAreRefusedButNotForgotten(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Mcp-Session-Id", "inner")
		gatewaytest.Reply(w, pong)
	})
	g := newGateway(t, testConfig(), registration(up))
	sealed := g.Ask(t, initOnce).Header.Get("Mcp-Session-Id")
	keys := g.registry.keys
	g.registry.keys = nil
	require.Equal(t, http.StatusServiceUnavailable, g.Ask(t, ping, "Mcp-Session-Id", sealed).Status)
	require.Equal(t, http.StatusServiceUnavailable, g.Ask(t, initOnce).Status)
	g.registry.keys = keys
	require.Equal(t, http.StatusOK, g.Ask(t, ping, "Mcp-Session-Id", sealed).Status)
}

func TestASessionUnderANewerKeyHasTheKeysFetchedBeforeItIsUnknown(t *testing.T) {
	up := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	g := newGateway(t, testConfig(), registration(up))
	older := g.registry.keys
	newer := &grants.SessionKeys{Current: 2, Keys: map[int][32]byte{1: {1}, 2: {2}}, MountID: "mount"}
	fetched := 0
	g.registry.refresh = func() (*grants.SessionKeys, error) {
		fetched++
		return newer, nil
	}
	g.registry.keys = newer
	sealed := seal(t, g, "alice", "s")
	g.registry.keys = older
	require.Equal(t, http.StatusOK, g.Ask(t, ping, "Mcp-Session-Id", sealed).Status)
	require.Equal(t, 1, fetched)
	require.Equal(t, http.StatusOK, g.Ask(t, ping, "Mcp-Session-Id", sealed).Status)
	require.Equal(t, 1, fetched, "a key that is known is not fetched again")

	g.registry.keys = older
	require.Equal(t, http.StatusNotFound, g.Ask(t, ping, ":token", "bob", "Mcp-Session-Id", sealed).Status, "it is not bob's under any key")
	require.Equal(t, 2, fetched)

	g.registry.keys = older
	g.registry.refresh = func() (*grants.SessionKeys, error) { return nil, grants.ErrUnavailable }
	require.Equal(t, http.StatusServiceUnavailable, g.Ask(t, ping, "Mcp-Session-Id", sealed).Status, "the gateway cannot tell")
	require.Equal(t, http.StatusNotFound, g.Ask(t, ping, "Mcp-Session-Id", "made-up").Status)
}

func TestStreamsAreNotBuffered(t *testing.T) {
	events := make(chan string)
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case event := <-events:
				_, _ = io.WriteString(w, event)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	g := newGateway(t, testConfig(), registration(up))
	r, err := g.Do(t.Context(), "", ":method", "GET")
	require.NoError(t, err)
	defer r.Body.Close()
	reader := bufio.NewReader(r.Body)
	for _, line := range []string{"data: 1\n", ": ping\n", "\n", "data: half"} {
		events <- line
		got := make([]byte, len(line))
		_, err := io.ReadFull(reader, got)
		require.NoError(t, err)
		require.Equal(t, line, string(got))
	}
}

// openStream starts a stream that says one event and then nothing, and returns
// it with a channel that is closed when the server sees its end.
func openStream(t *testing.T, c *config.Config, first string, pairs ...string) (*gateway, *http.Response, <-chan struct{}) {
	t.Helper()
	gone := make(chan struct{})
	var once sync.Once
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, first)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		once.Do(func() { close(gone) })
	})
	g := newGateway(t, c, registration(up))
	r, err := g.Do(t.Context(), "", append(pairs, ":method", "GET")...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Body.Close() })
	got := make([]byte, len(first))
	_, err = io.ReadFull(r.Body, got)
	require.NoError(t, err)
	return g, r, gone
}

func TestAClientThatGoesAwayEndsTheServersRequest(t *testing.T) {
	_, r, gone := openStream(t, testConfig(), "data: 1\n\n")
	require.NoError(t, r.Body.Close())
	gatewaytest.Within(t, "the server's request ends", gone)
}

func TestARevocationCutsTheStream(t *testing.T) {
	g, r, gone := openStream(t, testConfig(), "data: 1\n\n")
	g.cut("alice")
	gatewaytest.Within(t, "the server's request ends", gone)
	_, err := io.ReadAll(r.Body)
	require.Error(t, err, "it must not look like the stream's end")
	gatewaytest.Eventually(t, "the outcome", func() bool { return len(g.sink.all()) == 2 })
}

func TestADrainEndsIdleStreamsInOrder(t *testing.T) {
	g, r, gone := openStream(t, testConfig(), "data: 1\n\n")
	g.Drain()
	gatewaytest.Within(t, "the server's request ends", gone)
	rest, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Regexp(t, `^retry: \d+\n\n$`, string(rest))
	again, err := g.Do(t.Context(), "", ":method", "GET")
	require.NoError(t, err)
	_, err = io.ReadAll(again.Body)
	require.NoError(t, err, "a stream that comes during the drain ends too")
	require.NoError(t, again.Body.Close())
}

func TestAnOldStreamEnds(t *testing.T) {
	c := testConfig()
	c.Limits.MaxStreamAge = 20 * time.Millisecond
	_, r, gone := openStream(t, c, "data: 1\n\n")
	gatewaytest.Within(t, "the server's request ends", gone)
	_, err := io.ReadAll(r.Body)
	require.NoError(t, err)
}

func TestASilentStreamIsKeptAlive(t *testing.T) {
	c := testConfig()
	c.Limits.KeepAlive = 5 * time.Millisecond
	_, r, _ := openStream(t, c, "data: 1\n\n")
	got := make([]byte, 6)
	_, err := io.ReadFull(r.Body, got)
	require.NoError(t, err)
	require.Equal(t, ":\n\n:\n\n", string(got))
}

func TestNoCommentIsPutIntoAnEvent(t *testing.T) {
	c := testConfig()
	c.Limits.KeepAlive = time.Millisecond
	proceed := make(chan struct{})
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: {\"a\":\n")
		_ = http.NewResponseController(w).Flush()
		<-proceed
		_, _ = io.WriteString(w, "data: 1}\n\n")
	})
	g := newGateway(t, c, registration(up))
	r, err := g.Do(t.Context(), ping)
	require.NoError(t, err)
	reader := bufio.NewReader(r.Body)
	for line := ""; line != "data: {\"a\":\n"; {
		line, err = reader.ReadString('\n') // comments may come before the event
		require.NoError(t, err)
	}
	// Many ticks, all of which must pass without a comment.
	require.Never(t, func() bool { return false }, 30*time.Millisecond, time.Millisecond)
	close(proceed)
	rest, err := io.ReadAll(reader)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(rest), "data: 1}\n\n"), string(rest))
	require.NoError(t, r.Body.Close())
}

func TestTheServersSlotsAreBounded(t *testing.T) {
	c := testConfig()
	c.Upstreams = map[string]config.Upstream{"up": {Timeout: 10 * time.Second, ConnectTimeout: 10 * time.Second, MaxConcurrent: 1}}
	g, r, gone := openStream(t, c, "data: 1\n\n")
	got := g.Ask(t, ping)
	require.Equal(t, http.StatusServiceUnavailable, got.Status)
	require.NotEmpty(t, got.Header.Get("Retry-After"))
	require.NoError(t, r.Body.Close())
	gatewaytest.Within(t, "the stream ends", gone)
	gatewaytest.Eventually(t, "the slot is free", func() bool {
		again, err := g.Do(t.Context(), "", ":method", "GET")
		require.NoError(t, err)
		require.NoError(t, again.Body.Close())
		return again.StatusCode == http.StatusOK
	})
}

func TestAChangedRegistrationIsUsedAtOnce(t *testing.T) {
	first := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	second := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	g := newGateway(t, testConfig(), registration(first))
	g.Ask(t, ping)
	server := registration(second)
	server.ID = "registration-2"
	g.registry.put(server)
	g.Ask(t, ping)
	require.Equal(t, 1, first.Count())
	require.Equal(t, 1, second.Count())
	g.registry.watch(grants.End{Server: server})
	_, found := g.links.Load("up")
	require.False(t, found)
}

func TestAServerThatCannotBeUsedSaysSoToTheLogAlone(t *testing.T) {
	for name, server := range map[string]*grants.Server{
		"no URL":      {Name: "up", ID: "1", Transport: "http", URL: "ftp://secret@host"},
		"a transport": {Name: "up", ID: "1", Transport: "carrier pigeon"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, testConfig(), server)
			for range 2 {
				got := g.Ask(t, ping)
				require.Equal(t, http.StatusBadGateway, got.Status)
				require.NotContains(t, got.Body, "secret")
				require.NotContains(t, got.Body, "pigeon")
			}
		})
	}
}

func TestAnUpstreamThatSpeaksTLSIsChecked(t *testing.T) {
	up := httptest.NewTLSServer(http.HandlerFunc(gatewaytest.Pongs))
	defer up.Close()
	up.Config.ErrorLog = nil
	g := newGateway(t, testConfig(), &grants.Server{Name: "up", ID: "1", Transport: "http", URL: up.URL})
	require.Equal(t, http.StatusBadGateway, g.Ask(t, ping).Status)
}
