package http1

import (
	"bufio"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const closing = "Connection: close"

func withLines(lines ...string) string {
	return "GET / HTTP/1.1\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// refused are requests that could be read in two ways, with the status of their answer.
var refused = map[string]struct{ request, want string }{
	"a bare LF behind the request line":     {"GET / HTTP/1.1\nHost: a\r\n\r\n", "400"},
	"a bare LF behind a header":             {"GET / HTTP/1.1\r\nHost: a\n\r\n", "400"},
	"a bare LF at the header's end":         {"GET / HTTP/1.1\r\nHost: a\r\n\n", "400"},
	"bare LFs alone":                        {"GET / HTTP/1.1\nHost: a\n\n", "400"},
	"a bare CR in a value":                  {withLines("Host: a", "X: a\rb"), "400"},
	"NUL in a value":                        {withLines("Host: a", "X: a\x00b"), "400"},
	"a folded line":                         {withLines("Host: a", "X: a", " b"), "400"},
	"a folded line first":                   {withLines(" Host: a"), "400"},
	"a space before the colon":              {withLines("Host: a", "Content-Length : 0"), "400"},
	"a tab before the colon":                {withLines("Host: a", "Content-Length\t: 0"), "400"},
	"no colon":                              {withLines("Host: a", "nothing"), "400"},
	"no name":                               {withLines("Host: a", ": x"), "400"},
	"a name that is no token":               {withLines("Host: a", "X(y): z"), "400"},
	"no Host":                               {withLines("X: y"), "400"},
	"two Hosts":                             {withLines("Host: a", "Host: a"), "400"},
	"two Hosts of HTTP/1.0":                 {"GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n", "400"},
	"a Host of no valid form":               {withLines("Host: a b"), "400"},
	"two lengths":                           {withLines("Host: a", "Content-Length: 3", "Transfer-Encoding: chunked"), "400"},
	"two lengths, the other way":            {withLines("Host: a", "transfer-encoding: chunked", "content-length: 3"), "400"},
	"a length twice":                        {withLines("Host: a", "Content-Length: 3", "Content-Length: 3"), "400"},
	"lengths in a list":                     {withLines("Host: a", "Content-Length: 3, 3"), "400"},
	"a length with a sign":                  {withLines("Host: a", "Content-Length: +3"), "400"},
	"a negative length":                     {withLines("Host: a", "Content-Length: -3"), "400"},
	"an empty length":                       {withLines("Host: a", "Content-Length:"), "400"},
	"a length beyond 63 bits":               {withLines("Host: a", "Content-Length: 9223372036854775808"), "400"},
	"a length with an underscore":           {withLines("Host: a", "Content-Length: 1_0"), "400"},
	"a tab behind a length":                 {withLines("Host: a", "Content-Length: 0\t"), "400"},
	"a tab behind a coding":                 {withLines("Host: a", "Transfer-Encoding: chunked \t "), "400"},
	"another coding":                        {withLines("Host: a", "Transfer-Encoding: gzip"), "501"},
	"another coding as well":                {withLines("Host: a", "Transfer-Encoding: gzip, chunked"), "501"},
	"chunked twice":                         {withLines("Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), "501"},
	"chunked with an odd byte":              {withLines("Host: a", "Transfer-Encoding: \x0bchunked"), "400"},
	"chunked of HTTP/1.0":                   {"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "400"},
	"HTTP/2.0":                              {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
	"HTTP/1.2":                              {"GET / HTTP/1.2\r\nHost: a\r\n\r\n", "505"},
	"HTTP/0.9":                              {"GET / HTTP/0.9\r\nHost: a\r\n\r\n", "505"},
	"a version of two digits":               {"GET / HTTP/1.11\r\nHost: a\r\n\r\n", "400"},
	"a version in small letters":            {"GET / http/1.1\r\nHost: a\r\n\r\n", "400"},
	"no version":                            {"GET /\r\nHost: a\r\n\r\n", "400"},
	"two spaces":                            {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	"a space in the target":                 {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	"a space behind the version":            {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "400"},
	"a tab in the request line":             {"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	"a byte beyond ASCII in the target":     {"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	"a fragment":                            {"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	"a target that is neither path nor URL": {"GET a HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	"a target of another scheme":            {"GET a://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	"a target with an odd host":             {"GET http://a\"b/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	"a name in the target":                  {"GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	"a target with a scheme and no host":    {"GET http:a HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	"a method that is no token":             {"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	"two empty lines first":                 {"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
	"TLS":                                   {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", "400"},
	"CONNECT":                               {"CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", "405"},
	"another expectation":                   {withLines("Host: a", "Expect: 200-ok"), "417"},
	"announced trailers":                    {withLines("Host: a", "Transfer-Encoding: chunked", "Trailer: X"), "400"},
	"too many fields":                       {withLines("Host: a", strings.TrimSuffix(strings.Repeat("a:\r\n", 256), "\r\n")), "431"},
}

func TestRequestsThatCouldBeReadInTwoWaysAreRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(http.ResponseWriter, *http.Request) { t.Error("the handler has run") })
	for name, test := range refused {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := s.raw(test.request)
			require.Equal(t, test.want, strings.Fields(answer + " . .")[1], "%q", answer)
			require.Contains(t, answer, "\r\nConnection: close\r\n")
			require.Equal(t, 1, strings.Count(answer, "HTTP/1.1 "), "no more than one answer")
		})
	}
}

// accepted are requests that are valid, some of them in an odd way.
var accepted = map[string]string{
	"a plain one":        "POST /servers/a-b/mcp HTTP/1.1\r\nHost: localhost:8080\r\nContent-Length: 2\r\nX-a: 1\r\nx-A: 2\r\nmcp-session-ID:  x y \t\r\n\r\nhi",
	"chunks":             "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n1;a;b=c\r\nh\r\n01\r\ni\r\n0\r\n\r\n",
	"a query":            "GET /a?b=c&d HTTP/1.1\r\nHost: a\r\n\r\n",
	"escapes":            "GET /a%2fb/%41%20;x=(y) HTTP/1.1\r\nHost: a\r\n\r\n",
	"two slashes":        "GET //a/b HTTP/1.1\r\nHost: a\r\n\r\n",
	"a whole URL":        "GET http://b:81/c?d HTTP/1.1\r\nHost: a\r\n\r\n",
	"a star":             "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
	"HTTP/1.0":           "GET / HTTP/1.0\r\n\r\n",
	"HTTP/1.0 and Host":  "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx",
	"connection options": "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, CLOSE\r\nUpgrade: h2c\r\n\r\n",
	"bytes beyond ASCII": "GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa4\xff\r\n\r\n",
	"an empty Host":      "GET / HTTP/1.1\r\nHost:\r\n\r\n",
	"an empty value":     "GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t \r\n\r\n",
}

// What http.Server hands to a handler, this server does too.
func TestRequestsReachTheHandlerAsThoseOfNetHTTP(t *testing.T) {
	for name, request := range accepted {
		t.Run(name, func(t *testing.T) {
			ours := readAll([]byte(request), 1)
			require.Len(t, ours, 1)
			theirs, err := readTheirs([]byte(request), 0)
			require.NoError(t, err)
			require.Equal(t, len(request), theirs.next)
			requireSame(t, theirs, &ours[0])
		})
	}
}

func TestEmptyLineBeforeARequestIsBorne(t *testing.T) {
	t.Parallel()
	s := newStage(t, echo)
	conn := s.dial()
	_, err := conn.Write([]byte(post("one") + "\r\n" + post("two", "Content-Length: 3", closing)))
	require.NoError(t, err)
	from := bufio.NewReader(conn)
	for _, want := range []string{"one", "two"} {
		_, body := answer(t, from, "POST")
		require.Equal(t, want, body)
	}
}

func TestHeaderIsBoundedBeforeItIsParsed(t *testing.T) {
	t.Parallel()
	s := newStage(t, echo, func(s *Server) { s.MaxHeaderBytes = 10000 })
	padded := func(size int) string {
		start, end := "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: ", "\r\n\r\n"
		return start + strings.Repeat("x", size-len(start)-len(end)) + end
	}
	require.Equal(t, "HTTP/1.1 200 OK", status(s.raw(padded(10000))))
	require.Equal(t, "HTTP/1.1 431 Request Header Fields Too Large", status(s.raw(padded(10001))))
	require.Equal(t, "HTTP/1.1 431 Request Header Fields Too Large", status(s.raw(padded(100000))))
	require.Equal(t, "HTTP/1.1 431 Request Header Fields Too Large", status(s.raw(strings.Repeat("x", 100000))), "even if it would not be valid")
}
