package mcp

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
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

	got = g.Ask(t, "", ":method", "GET", "Mcp-Session-Id", sealID(t, g, "alice", "s"), "Last-Event-ID", "7")
	require.Equal(t, http.StatusOK, got.Status, got.Body)
	r, _ = up.Last()
	require.Equal(t, "7", r.Header.Get("Last-Event-Id"), "it means something in a session alone")
	require.Equal(t, strings.TrimPrefix(up.URL, "http://"), r.Host)
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

func TestNothingIsSentWithoutAnAuditLine(t *testing.T) {
	up := gatewaytest.NewUpstream(t, gatewaytest.Pongs)
	g := newGateway(t, testConfig(), registration(up))
	g.sink.broken = errors.New("disk full")
	require.Equal(t, http.StatusServiceUnavailable, g.Ask(t, ping).Status)
	require.Zero(t, up.Count())
}
