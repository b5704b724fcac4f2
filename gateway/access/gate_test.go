package access

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

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
		"a name that is not valid":          {post("/servers/fi.les/mcp", goodToken, "x"), 404},
		"no name":                           {post("/servers//mcp", goodToken, "x"), 404},
	}
	// What the gateway's own server refuses before the gate knows of a request: a header without
	// one reading, and a target that other parsers do not take.
	early := []string{
		"both lengths", "both lengths in the other order", "both lengths in other spellings", "an upgrade with both lengths", "a folded header", "announced trailers",
		"an absolute target with a user", "an absolute target of a file", "an absolute target without a host", "a target without a path",
	}
	onBothServers(t, func(t *testing.T, netHTTP bool) {
		t.Helper()
		s := newStageOn(t, netHTTP, nil, nil)
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				view := &stage{t: t, server: s.server}
				before := s.count()
				response, body := view.raw(test.request)
				if test.status == 404 && !netHTTP && slices.Contains(early, name) {
					test.status = 400
				}
				require.Equal(t, test.status, response.StatusCode, body)
				if name != "a body that turns out too long" && !strings.Contains(name, "nobody announced") {
					require.Equal(t, before, s.count(), "the handler was reached")
				}
				if test.status != 404 && (netHTTP || !slices.Contains(early, name)) {
					require.Contains(t, body, "request_id")
				}
				require.NotContains(t, body, goodToken)
				require.NotContains(t, body, badToken)
			})
		}
		require.NotContains(t, s.text(), "allow\",\"reason\":\"allowed")
	})
}

// Headers that proxies and clients send with every request, and headers without a meaning
// here.
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

func TestServerThatIsNotAllowedIsLikeOneThatDoesNotExist(t *testing.T) {
	s := newStage(t, nil)
	s.vault.Register("stopped", grantstest.Data{"disabled": true})
	s.vault.Await("the registry", func() bool {
		_, err := s.gate.options.Broker.FindServer("stopped")
		return errors.Is(err, grants.ErrServerDisabled)
	})
	a, bodyA := s.raw(post("/servers/github/mcp", goodToken, "x"))
	b, bodyB := s.raw(post("/servers/nowhere/mcp", goodToken, "x"))
	require.Equal(t, 403, a.StatusCode)
	require.Equal(t, 403, b.StatusCode)
	cut := func(body string) string { before, _, _ := strings.Cut(body, "request_id"); return before }
	require.Equal(t, cut(bodyA), cut(bodyB))
	c, bodyC := s.raw(post("/servers/stopped/mcp", goodToken, "x"))
	require.Equal(t, 403, c.StatusCode)
	require.Equal(t, cut(bodyA), cut(bodyC))
	lines := s.lines(3)
	require.Equal(t, policy.NotInAllowedServers, lines[0]["reason"])
	require.Equal(t, policy.UnknownServer, lines[1]["reason"])
	require.Equal(t, policy.ServerDisabled, lines[2]["reason"])
}

func TestLiveRequestEndsWhenItsTokenIsRevoked(t *testing.T) {
	s := newStage(t, nil)
	s.handle = func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		Refuse(w, r, CutCause(r.Context()))
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
