package access

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

// Tokens of the tests. The custom form will do.
const (
	goodToken  = "good-token-0123456789"
	otherToken = "other-token-0123456789"
	badToken   = "bad-token-0123456789"
)

// stage is a gate behind a real socket, before a handler that records what
// reaches it.
type stage struct {
	t       *testing.T
	vault   *grantstest.Vault
	gate    *Gate
	server  *httptest.Server
	audit   string
	log     *AuditLog
	mu      sync.Mutex
	reached []*Request
	handle  http.HandlerFunc
}

func newStage(t *testing.T, change func(*Options)) *stage {
	t.Helper()
	return newStageOn(t, nil, change)
}

// newStageOn is newStage with connections that are bounded.
func newStageOn(t *testing.T, connections *Connections, change func(*Options)) *stage {
	t.Helper()
	s := &stage{t: t, vault: grantstest.New(t), audit: filepath.Join(t.TempDir(), "audit.log")}
	s.vault.AddServer("files", "http://127.0.0.1:9/mcp")
	s.vault.AddServer("github", "http://127.0.0.1:9/mcp")
	s.vault.AddToken(goodToken, "cursor", grantstest.Data{"allowed_servers": []string{"files"}})
	log, err := OpenAuditLog(config.Audit{File: s.audit}, hclog.NewNullLogger())
	require.NoError(t, err)
	s.log = log
	caching := config.Grants{
		MaxStale: 30 * time.Second, NegativeTTL: 30 * time.Second, MaxEntries: 1000, Wait: time.Second,
		ColdRate: 1e6, ColdBurst: 1e6, ColdSourceRate: 1e6, ColdSourceBurst: 1e6,
	}
	options := Options{
		Broker:   s.vault.Broker(grants.Options{Grants: caching, Cold: NewColdLimiter(caching)}),
		Audit:    log,
		Listener: config.Listener{Address: "127.0.0.1:8080"},
		Limits:   config.Limits{MaxBody: 1000},
		Next:     http.HandlerFunc(s.next),
	}
	if change != nil {
		change(&options)
	}
	s.gate = New(options)
	s.server = httptest.NewUnstartedServer(s.gate)
	if connections == nil {
		s.server.Listener = WatchFraming(s.server.Listener)
	} else {
		s.server.Listener = connections.Watch(connections.Pace(smallBuffers{s.server.Listener}))
	}
	s.server.Config.ConnContext = ConnContext
	s.server.Start()
	t.Cleanup(func() {
		s.server.Close()
		s.gate.Close()
		log.Close()
	})
	return s
}

func (s *stage) next(w http.ResponseWriter, r *http.Request) {
	req := FromContext(r.Context())
	s.mu.Lock()
	s.reached = append(s.reached, req)
	handle := s.handle
	s.mu.Unlock()
	if handle != nil {
		handle(w, r)
		return
	}
	content, err := io.ReadAll(r.Body)
	if err != nil {
		Refuse(w, r, BodyRefusal(err))
		return
	}
	req.Method = "tools/call"
	if err := req.Decide(Decision{Allow: true, Reason: ReasonAllowed}); err != nil {
		Refuse(w, r, AuditRefusal())
		return
	}
	_, _ = w.Write(content)
	req.Outcome(http.StatusOK, int64(len(content)), nil)
}

func (s *stage) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.reached)
}

// raw sends bytes as they are and returns the first answer.
func (s *stage) raw(request string) (*http.Response, string) {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
	require.NoError(s.t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, request)
	require.NoError(s.t, err)
	return s.answer(bufio.NewReader(conn))
}

func (s *stage) answer(from *bufio.Reader) (*http.Response, string) {
	s.t.Helper()
	response, err := http.ReadResponse(from, nil)
	require.NoError(s.t, err)
	content, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	require.NoError(s.t, response.Body.Close())
	return response, string(content)
}

// post is a good request with more header lines.
func post(path, token, body string, lines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n", path)
	if token != "" {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", token)
	}
	for _, line := range lines {
		b.WriteString(line + "\r\n")
	}
	if !strings.Contains(b.String(), "Transfer-Encoding") {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	return b.String() + "\r\n" + body
}

// target is a good request to another target.
func target(target string) string { return post(target, goodToken, "x") }

// lines waits until the audit log has n lines, and returns them.
func (s *stage) lines(n int) []map[string]any {
	s.t.Helper()
	var lines []map[string]any
	s.vault.Await(fmt.Sprintf("%d audit lines", n), func() bool {
		content, err := os.ReadFile(s.audit)
		require.NoError(s.t, err)
		lines = nil
		for line := range bytes.Lines(content) {
			var entry map[string]any
			require.NoError(s.t, json.Unmarshal(line, &entry), string(line))
			lines = append(lines, entry)
		}
		return len(lines) >= n
	})
	return lines
}

func TestGoodRequestReachesTheHandlerWithItsGrant(t *testing.T) {
	s := newStage(t, nil)
	response, body := s.raw(post("/servers/files/mcp", goodToken, "hello"))
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "hello", body)
	require.Equal(t, 1, s.count())
	req := s.reached[0]
	require.Equal(t, "cursor", req.Grant.Client)
	require.Equal(t, "files", req.Server.Name)
	require.Equal(t, netip.MustParseAddr("127.0.0.1"), req.Source)

	lines := s.lines(2)
	require.Equal(t, "decision", lines[0]["type"])
	require.Equal(t, "allow", lines[0]["decision"])
	require.Equal(t, "tools/call", lines[0]["method"])
	require.Equal(t, "accessor-cursor", lines[0]["accessor"])
	require.Equal(t, "outcome", lines[1]["type"])
	require.EqualValues(t, 200, lines[1]["status"])
	require.EqualValues(t, 5, lines[1]["bytes"])
	require.Equal(t, lines[0]["request_id"], lines[1]["request_id"])
}

func TestRequestThatMayNotPassReachesNothing(t *testing.T) {
	const good = "Authorization: Bearer " + goodToken
	tests := map[string]struct {
		request string
		status  int
	}{
		"no token":                          {post("/servers/files/mcp", "", "x"), 401},
		"an unknown token":                  {post("/servers/files/mcp", badToken, "x"), 401},
		"a token of another scheme":         {post("/servers/files/mcp", "", "x", "Authorization: Basic Z29vZDp0b2tlbg=="), 401},
		"an empty token":                    {post("/servers/files/mcp", "", "x", "Authorization: Bearer "), 401},
		"a scheme alone":                    {post("/servers/files/mcp", "", "x", "Authorization: Bearer"), 401},
		"a token without a scheme":          {post("/servers/files/mcp", "", "x", "Authorization: "+goodToken), 401},
		"a token with a space inside":       {post("/servers/files/mcp", "", "x", "Authorization: Bearer good token-0123456789"), 401},
		"a malformed token":                 {post("/servers/files/mcp", "", "x", "Authorization: Bearer mcpt_short"), 401},
		"a token in the query":              {post("/servers/files/mcp?access_token="+goodToken, "", "x"), 401},
		"a token in a cookie":               {post("/servers/files/mcp", "", "x", "Cookie: token="+goodToken), 401},
		"two tokens":                        {post("/servers/files/mcp", goodToken, "x", "Authorization: Bearer "+badToken), 400},
		"the same token twice":              {post("/servers/files/mcp", goodToken, "x", good), 400},
		"a server that is not allowed":      {post("/servers/github/mcp", goodToken, "x"), 403},
		"a server that does not exist":      {post("/servers/nowhere/mcp", goodToken, "x"), 403},
		"a method of no MCP client":         {strings.Replace(post("/servers/files/mcp", goodToken, "x"), "POST", "PUT", 1), 405},
		"TRACE":                             {strings.Replace(post("/servers/files/mcp", goodToken, "x"), "POST", "TRACE", 1), 405},
		"OPTIONS without an origin":         {strings.Replace(post("/servers/files/mcp", goodToken, ""), "POST", "OPTIONS", 1), 405},
		"a GET with a body":                 {strings.Replace(post("/servers/files/mcp", goodToken, "x"), "POST", "GET", 1), 400},
		"a DELETE with a body":              {strings.Replace(post("/servers/files/mcp", goodToken, "x"), "POST", "DELETE", 1), 400},
		"an upgrade that names more":        {post("/servers/files/mcp", goodToken, "x", "Connection: Upgrade, Authorization", "Upgrade: websocket"), 400},
		"an upgrade with both lengths":      {post("/servers/files/mcp", goodToken, "0\r\n\r\n", "Connection: Upgrade", "Upgrade: h2c", "Transfer-Encoding: chunked", "Content-Length: 5"), 400},
		"a Connection header that names":    {post("/servers/files/mcp", goodToken, "x", "Connection: close, Authorization"), 400},
		"a second Connection header":        {post("/servers/files/mcp", goodToken, "x", "Connection: keep-alive", "Connection: Mcp-Session-Id"), 400},
		"two content types":                 {post("/servers/files/mcp", goodToken, "x", "Content-Type: text/plain"), 400},
		"two session ids":                   {post("/servers/files/mcp", goodToken, "x", "Mcp-Session-Id: a", "Mcp-Session-Id: b"), 400},
		"two names in two spellings":        {post("/servers/files/mcp", goodToken, "x", "Mcp-Name: a", "MCP-NAME: b"), 400},
		"two parameters":                    {post("/servers/files/mcp", goodToken, "x", "Mcp-Param-City: a", "Mcp-Param-City: b"), 400},
		"an encoded body":                   {post("/servers/files/mcp", goodToken, "x", "Content-Encoding: gzip"), 415},
		"two encodings":                     {post("/servers/files/mcp", goodToken, "x", "Content-Encoding: identity", "Content-Encoding: gzip"), 415},
		"a body that is announced too long": {post("/servers/files/mcp", goodToken, strings.Repeat("x", 1001)), 413},
		"a body that turns out too long":    {post("/servers/files/mcp", goodToken, "3e9\r\n"+strings.Repeat("x", 1001)+"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), 413},
		"announced trailers":                {post("/servers/files/mcp", goodToken, "1\r\nx\r\n0\r\nX-Late: 1\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: X-Late"), 400},
		"trailers nobody announced":         {post("/servers/files/mcp", goodToken, "1\r\nx\r\n0\r\nAuthorization: late\r\n\r\n", "Transfer-Encoding: chunked"), 400},
		"both lengths":                      {post("/servers/files/mcp", goodToken, "0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 5"), 400},
		"both lengths in the other order":   {post("/servers/files/mcp", goodToken, "0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"), 400},
		"both lengths in other spellings":   {post("/servers/files/mcp", goodToken, "0\r\n\r\n", "content-LENGTH:5", "Transfer-Encoding:\tChunked"), 400},
		"a folded header":                   {post("/servers/files/mcp", goodToken, "x", "X-Fold: a", "\tContent-Length: 5"), 400},
		"another host":                      {strings.Replace(post("/servers/files/mcp", goodToken, "x"), "Host: 127.0.0.1:8080", "Host: evil.example", 1), 403},
		"a web page of an origin":           {post("/servers/files/mcp", goodToken, "x", "Origin: https://evil.example"), 403},
		"a web page without one":            {post("/servers/files/mcp", goodToken, "x", "Origin: null"), 403},
		"an absolute target of another":     {target("http://evil.example/servers/files/mcp"), 403},
		"an absolute target with a user":    {target("http://a:b@127.0.0.1:8080/servers/files/mcp"), 400},
		"an absolute target of a file":      {target("file://127.0.0.1:8080/servers/files/mcp"), 400},
		"an absolute target without a host": {target("http:///servers/files/mcp"), 400},
		"a target without a path":           {target("http:servers/files/mcp"), 404},
		"another path":                      {post("/servers/files/mcp/x", goodToken, "x"), 404},
		"two slashes behind":                {post("/servers/files/mcp//", goodToken, "x"), 404},
		"two slashes before":                {post("//servers/files/mcp", goodToken, "x"), 404},
		"a path without its end":            {post("/servers/files", goodToken, "x"), 404},
		"a path above":                      {post("/servers/files/../files/mcp", goodToken, "x"), 404},
		"an encoded path":                   {post("/servers/fil%65s/mcp", goodToken, "x"), 404},
		"a name that is none":               {post("/servers/fi.les/mcp", goodToken, "x"), 404},
		"no name":                           {post("/servers//mcp", goodToken, "x"), 404},
	}
	s := newStage(t, nil)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			view := &stage{t: t, server: s.server}
			before := s.count()
			response, body := view.raw(test.request)
			require.Equal(t, test.status, response.StatusCode, body)
			if test.status != 413 && !strings.Contains(name, "nobody announced") {
				require.Equal(t, before, s.count(), "the handler was reached")
			}
			if test.status != 404 {
				require.Contains(t, body, "request_id")
			}
			require.NotContains(t, body, goodToken)
			require.NotContains(t, body, badToken)
		})
	}
	require.NotContains(t, s.text(), "allow\",\"reason\":\"allowed")
}

// text is the whole audit log, written to its end.
func (s *stage) text() string {
	s.gate.Close()
	s.log.Close()
	content, err := os.ReadFile(s.audit)
	require.NoError(s.t, err)
	return string(content)
}

// What proxies and clients send with every request, and what means nothing here.
func TestRequestOfTheFieldReachesTheHandler(t *testing.T) {
	tests := map[string]string{
		"nginx's snippet for WebSockets":      post("/servers/files/mcp", goodToken, "x", "Connection: upgrade"),
		"the same with the client's Upgrade":  post("/servers/files/mcp", goodToken, "x", "Connection: upgrade", "Upgrade: websocket"),
		"Java's HttpClient, and curl --http2": post("/servers/files/mcp", goodToken, "x", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"),
		"the last one of a connection":        post("/servers/files/mcp", goodToken, "x", "Connection: close, Upgrade", "Upgrade: h2c"),
		"several offers":                      post("/servers/files/mcp", goodToken, "x", "Connection: keep-alive", "Connection: Upgrade", "Upgrade: h2c", "Upgrade: websocket, TLS/1.0"),
		"an offer that Connection lacks":      post("/servers/files/mcp", goodToken, "x", "Upgrade: h2c"),
		"libwww-perl":                         post("/servers/files/mcp", goodToken, "x", "Connection: TE, close", "TE: deflate, gzip;q=0.3"),
		"an empty Connection":                 post("/servers/files/mcp", goodToken, "x", "Connection: "),
		"HTTP/1.0, nginx's default":           strings.Replace(post("/servers/files/mcp", goodToken, "x", "Connection: close"), "HTTP/1.1", "HTTP/1.0", 1),
		"a slash behind":                      post("/servers/files/mcp/", goodToken, "x"),
		"an absolute target":                  target("http://127.0.0.1:8080/servers/files/mcp"),
		"an absolute target with TLS":         target("https://localhost/servers/files/mcp/"),
		"an absolute target that counts":      strings.Replace(target("http://localhost/servers/files/mcp"), "Host: 127.0.0.1:8080", "Host: evil.example", 1),
	}
	s := newStage(t, nil)
	for name, request := range tests {
		t.Run(name, func(t *testing.T) {
			view := &stage{t: t, server: s.server}
			before := s.count()
			response, body := view.raw(request)
			require.Equal(t, http.StatusOK, response.StatusCode, body)
			require.Equal(t, "x", body)
			require.Empty(t, response.Header.Get("Upgrade"))
			require.Equal(t, before+1, s.count())
		})
	}
}

// A connection goes on after an offer that was passed over: what follows is a
// request, and neither a frame nor another's.
func TestConnectionGoesOnAfterAnUpgradeThatIsIgnored(t *testing.T) {
	s := newStage(t, nil)
	conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, post("/servers/files/mcp", goodToken, "one", "Connection: Upgrade", "Upgrade: h2c")+
		post("/servers/files/mcp", goodToken, "two")+post("/servers/files/mcp", "", "three"))
	require.NoError(t, err)
	from := bufio.NewReader(conn)
	for _, want := range []int{200, 200, 401} {
		response, _ := s.answer(from)
		require.Equal(t, want, response.StatusCode)
	}
	require.Equal(t, 2, s.count())
}

// Programs behind CGI read such a name as one with dashes.
func TestHeadersWhoseNamesAreAmbiguousAreDropped(t *testing.T) {
	s := newStage(t, nil)
	var got http.Header
	s.handle = func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }
	response, _ := s.raw(post("/servers/files/mcp", goodToken, "x", "Mcp-Session_Id: a", "mcp_session_id: b", "Mcp-Param-A_B: c", "X_Forwarded_For: d",
		"Mcp-Session.Id: e", "Authorizatio_n: f", "Content_Length: 9", "Transfer_Encoding: chunked", "Mcp-Session-Id: kept", "Mcp-Param-City: kept"))
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, http.Header{
		"Authorization": {"Bearer " + goodToken}, "Content-Type": {"application/json"}, "Content-Length": {"1"},
		"Mcp-Session-Id": {"kept"}, "Mcp-Param-City": {"kept"},
	}, got)
}

func TestWrongURLIsToldTheRightOnes(t *testing.T) {
	s := newStage(t, nil)
	for _, path := range []string{"/servers", "/servers/", "/servers/files", "/servers/files/", "/servers/files/sse", "/servers/files/mcp/x", "/servers/fi.les/mcp"} {
		response, body := s.raw(post(path, goodToken, "x"))
		require.Equal(t, http.StatusNotFound, response.StatusCode, path)
		require.Contains(t, body, "/servers/NAME/mcp", path)
		require.NotContains(t, body, "token", path)
	}
	for _, path := range []string{"/", "/sse", "/mcpx", "/register", "/.well-known/oauth-protected-resource/servers/files/mcp", "/servers/files/mcp/.well-known/openid-configuration"} {
		response, body := s.raw(post(path, goodToken, "x"))
		require.Equal(t, http.StatusNotFound, response.StatusCode, path)
		require.Contains(t, body, "There is no sign-in at this gateway", path)
		require.Contains(t, body, "/servers/NAME/mcp", path)
	}
}

func TestEveryBadTokenGetsTheSameAnswer(t *testing.T) {
	s := newStage(t, nil)
	s.vault.AddToken(otherToken, "bound", grantstest.Data{"token_bound_cidrs": []string{"10.0.0.0/8"}})
	s.vault.AddToken("expired-token-123", "late", grantstest.Data{"expires_at": time.Now().Add(-time.Hour).Format(time.RFC3339)})
	s.vault.AddToken("revoked-token-123", "gone", nil)
	s.vault.Revoke("revoked-token-123")
	var first string
	for _, token := range []string{badToken, "mcpt_malformed", "short", otherToken, "expired-token-123", "revoked-token-123"} {
		response, body := s.raw(post("/servers/files/mcp", token, "x"))
		require.Equal(t, 401, response.StatusCode, token)
		require.Equal(t, challengeBadToken, response.Header.Get("WWW-Authenticate"), token)
		response.Header.Del("Date")
		var content map[string]map[string]string
		require.NoError(t, json.Unmarshal([]byte(body), &content))
		delete(content["error"], "request_id")
		got := fmt.Sprint(response.Header, content)
		if first == "" {
			first = got
		}
		// Content-Length varies with the length of the request id.
		require.Equal(t, stripLength(first), stripLength(got), token)
	}
	response, _ := s.raw(post("/servers/files/mcp", "", "x"))
	require.Equal(t, challengeNoToken, response.Header.Get("WWW-Authenticate"), "no error where no token was sent (RFC 6750, section 3.1)")
}

func stripLength(s string) string {
	before, after, _ := strings.Cut(s, "Content-Length:[")
	_, after, _ = strings.Cut(after, "]")
	return before + after
}

func TestServerThatIsNotAllowedIsLikeOneThatDoesNotExist(t *testing.T) {
	s := newStage(t, nil)
	a, bodyA := s.raw(post("/servers/github/mcp", goodToken, "x"))
	b, bodyB := s.raw(post("/servers/nowhere/mcp", goodToken, "x"))
	require.Equal(t, 403, a.StatusCode)
	require.Equal(t, 403, b.StatusCode)
	cut := func(body string) string { before, _, _ := strings.Cut(body, "request_id"); return before }
	require.Equal(t, cut(bodyA), cut(bodyB))
	lines := s.lines(2)
	require.Equal(t, policy.NotInAllowedServers, lines[0]["reason"])
	require.Equal(t, policy.UnknownServer, lines[1]["reason"])
}

func TestAmbiguousRequestEndsItsConnection(t *testing.T) {
	s := newStage(t, nil)
	smuggled := post("/servers/files/mcp", goodToken, "0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 5") +
		post("/servers/files/mcp", goodToken, "smuggled")
	response, _ := s.raw(smuggled)
	require.Equal(t, 400, response.StatusCode)
	require.True(t, response.Close)
	require.Zero(t, s.count())
}

func TestRequestsInARowOnOneConnectionAreToldApart(t *testing.T) {
	s := newStage(t, nil)
	conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	requests := []string{
		post("/servers/files/mcp", goodToken, "one"),
		post("/servers/files/mcp", goodToken, "3\r\ntwo\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
		post("/servers/files/mcp", goodToken, "5;ext=1\r\nthree\r\n1\r\n!\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
		post("/servers/files/mcp", goodToken, "Transfer-Encoding: chunked\nContent-Length: 3\n"),
		"GET /servers/files/mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: bearer   " + goodToken + "\r\n\r\n",
		post("/servers/files/mcp", goodToken, "last", "Connection: close"),
	}
	go func() {
		for _, c := range []byte(strings.Join(requests, "")) { // byte by byte
			if _, err := conn.Write([]byte{c}); err != nil {
				return
			}
		}
	}()
	from := bufio.NewReader(conn)
	for i, want := range []string{"one", "two", "three!", "Transfer-Encoding: chunked\nContent-Length: 3\n", "", "last"} {
		response, body := s.answer(from)
		require.Equal(t, 200, response.StatusCode, i)
		require.Equal(t, want, body)
	}
}

func TestLiveRequestEndsWhenItsTokenIsRevoked(t *testing.T) {
	s := newStage(t, nil)
	s.handle = func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		Refuse(w, r, Cut(r.Context()))
	}
	done := make(chan int, 1)
	go func() {
		response, _ := s.raw(post("/servers/files/mcp", goodToken, "x"))
		done <- response.StatusCode
	}()
	s.vault.Await("the request", func() bool { return s.count() == 1 })
	s.vault.Revoke(goodToken)
	require.Equal(t, 401, <-done)
}

func TestVaultThatCannotBeAskedIsA503(t *testing.T) {
	s := newStage(t, nil)
	response, _ := s.raw(post("/servers/files/mcp", goodToken, "x"))
	require.Equal(t, 200, response.StatusCode)
	for _, status := range []int{500, 503, 429, 404, 400, 403} {
		s.vault.Fail(status)
		response, body := s.raw(post("/servers/files/mcp", badToken+fmt.Sprint(status), "x"))
		require.Equal(t, 503, response.StatusCode, body)
		require.NotEmpty(t, response.Header.Get("Retry-After"))
		require.Empty(t, response.Header.Get("WWW-Authenticate"), "nothing is said about the token")
	}
	s.vault.Fail(0)
	response, _ = s.raw(post("/servers/files/mcp", badToken+"500", "x"))
	require.Equal(t, 401, response.StatusCode)
}

func TestUnknownTokensAreRateLimitedBySource(t *testing.T) {
	limits := config.Grants{ColdRate: 1000, ColdBurst: 1000, ColdSourceRate: 0.001, ColdSourceBurst: 5}
	l := NewColdLimiter(limits)
	allowed := func(source string) int {
		n := 0
		for range 20 {
			if l.Allow(netip.MustParseAddr(source)) {
				n++
			}
		}
		return n
	}
	require.Equal(t, 5, allowed("192.0.2.1"))
	require.Equal(t, 5, allowed("192.0.2.2"))
	require.Equal(t, 5, allowed("2001:db8:1:2::1"))
	require.Equal(t, 0, allowed("2001:db8:1:2:ffff::9"), "one /64 is one source")
	require.Equal(t, 5, allowed("2001:db8:1:3::1"))

	limits.ColdRate, limits.ColdBurst = 0.001, 7
	l = NewColdLimiter(limits)
	require.Equal(t, 5, allowed("192.0.2.1"))
	require.Equal(t, 2, allowed("192.0.2.2"), "all of them together")
}

func TestFloodOfBadTokensIsBoundedInVaultAndInTheAuditLog(t *testing.T) {
	caching := config.Grants{
		MaxStale: 30 * time.Second, NegativeTTL: 30 * time.Second, MaxEntries: 1000, Wait: time.Second,
		ColdRate: 1, ColdBurst: 20, ColdSourceRate: 1, ColdSourceBurst: 20,
	}
	s := newStage(t, nil)
	s.gate.options.Broker = s.vault.Broker(grants.Options{Grants: caching, Cold: NewColdLimiter(caching)})
	client := s.server.Client()
	statuses := map[int]int{}
	for i := range 500 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.server.URL+"/servers/files/mcp", strings.NewReader("x"))
		require.NoError(t, err)
		request.Header.Set("Authorization", fmt.Sprintf("Bearer %s%d", badToken, i))
		response, err := client.Do(request)
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, response.Body)
		require.NoError(t, response.Body.Close())
		statuses[response.StatusCode]++
	}
	require.Less(t, s.vault.Lookups(), 40)
	require.Greater(t, statuses[429], 400)
	require.Less(t, strings.Count(s.text(), "\n"), 20)
}
