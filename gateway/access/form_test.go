package access

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A connection continues after an offer that the gateway ignores: the next bytes are a
// request, and neither a frame nor another client's.
func TestConnectionGoesOnAfterAnUpgradeThatIsIgnored(t *testing.T) {
	s := newStage(t, nil)
	conn, err := net.Dial("tcp", s.server.address)
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

func TestAmbiguousRequestEndsItsConnection(t *testing.T) {
	onBothServers(t, func(t *testing.T, netHTTP bool) {
		t.Helper()
		s := newStageOn(t, netHTTP, nil, nil)
		smuggled := post("/servers/files/mcp", goodToken, "0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 5") +
			post("/servers/files/mcp", goodToken, "smuggled")
		response, _ := s.raw(smuggled)
		require.Equal(t, 400, response.StatusCode)
		require.True(t, response.Close)
		require.Zero(t, s.count())
	})
}

func TestRequestsInARowOnOneConnectionAreToldApart(t *testing.T) {
	s := newStage(t, nil)
	conn, err := net.Dial("tcp", s.server.address)
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
