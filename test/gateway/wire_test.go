package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// wire builds the bytes of a request line by line. No HTTP library sends such requests.
type wire struct {
	line    string // "POST /servers/calculator/mcp HTTP/1.1"
	headers []string
	body    string
}

// toolCall is a request as any client sends it.
func toolCall(s *stage.Stage, token string) wire {
	tool := s.At.Tool(stage.Calculator, "add")
	body := harness.CallBody(tool, `{"a":40,"b":2}`)
	return wire{
		line: "POST " + strings.TrimPrefix(s.URL(stage.Calculator), s.Gateway.URL) + " HTTP/1.1",
		headers: []string{
			"Host: " + address(s),
			"Authorization: Bearer " + token,
			"Content-Type: application/json",
			"Accept: application/json, text/event-stream",
			"Mcp-Protocol-Version: " + harness.StatelessEra,
			"Mcp-Method: tools/call",
			"Mcp-Name: " + tool,
			fmt.Sprintf("Content-Length: %d", len(body)),
		},
		body: body,
	}
}

// with returns the request with more header lines.
func (w wire) with(lines ...string) wire {
	w.headers = append(append([]string{}, w.headers...), lines...)
	return w
}

// without returns the request without the named headers.
func (w wire) without(names ...string) wire {
	var kept []string
	for _, line := range w.headers {
		name, _, _ := strings.Cut(line, ":")
		dropped := false
		for _, other := range names {
			dropped = dropped || strings.EqualFold(name, other)
		}
		if !dropped {
			kept = append(kept, line)
		}
	}
	w.headers = kept
	return w
}

func (w wire) text() string {
	return w.line + "\r\n" + strings.Join(w.headers, "\r\n") + "\r\n\r\n" + w.body
}

func address(s *stage.Stage) string { return strings.TrimPrefix(s.Gateway.URL, "http://") }

// quiet is how long a connection is silent once nothing more is to come.
const quiet = 300 * time.Millisecond

// sendText writes text to the gateway and returns the status of each answer, until
// the gateway hangs up or is quiet.
func sendText(t *testing.T, s *stage.Stage, text string) []int {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address(s))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	var statuses []int
	for in := bufio.NewReader(conn); ; {
		response, err := http.ReadResponse(in, nil)
		if err != nil {
			return statuses
		}
		statuses = append(statuses, response.StatusCode)
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if err != nil {
			return statuses // it hung up on what it does not want to read
		}
		if err := conn.SetDeadline(time.Now().Add(quiet)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRequestsThatTwoParsersCouldReadInTwoWaysAreRefused(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	token := s.Client("cursor", nil)
	s.Works(t, token) // sendText does not ask again while Vault is slow
	plain := toolCall(s, token)
	if got := sendText(t, s, plain.text()); len(got) != 1 || got[0] != http.StatusOK {
		t.Fatalf("a usual request is answered %v", got)
	}
	if got := sendText(t, s, plain.with("Connection: close").text()); len(got) != 1 || got[0] != http.StatusOK {
		t.Fatalf("a last request is answered %v", got)
	}
	for _, headers := range [][]string{
		{"Connection: Upgrade", "Upgrade: websocket"},
		{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"},
		{"Connection: close, upgrade"},
	} {
		if got := sendText(t, s, plain.with(headers...).text()); len(got) != 1 || got[0] != http.StatusOK {
			t.Fatalf("a request with an offer to upgrade (%v) is answered %v", headers, got)
		}
	}
	if got := sendText(t, s, withLine(plain, "POST "+s.Gateway.URL+"/servers/"+stage.Calculator+"/mcp/ HTTP/1.1").text()); len(got) != 1 || got[0] != http.StatusOK {
		t.Fatalf("a request for a whole URL is answered %v", got)
	}
	chunked := plain.without("Content-Length").with("Transfer-Encoding: chunked")
	chunked.body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(plain.body), plain.body)
	if got := sendText(t, s, chunked.text()); len(got) != 1 || got[0] != http.StatusOK {
		t.Fatalf("a request in chunks is answered %v", got)
	}
	trailers := chunked
	trailers.body = strings.TrimSuffix(chunked.body, "\r\n") + "Mcp-Name: divide\r\n\r\n"
	smuggled := "0\r\n\r\n" + toolCall(s, token).text()

	second := func(line string) string { return plain.with(line).text() }
	tests := map[string]string{
		"an upgrade that names more":                       plain.with("Connection: Upgrade, Authorization", "Upgrade: websocket").text(),
		"a header named in Connection":                     second("Connection: Authorization"),
		"a header named beside close":                      second("Connection: close, Mcp-Name"),
		"a header named in a second Connection":            plain.with("Connection: keep-alive", "Connection: X-Other").text(),
		"a length beside chunks":                           chunked.with(fmt.Sprintf("Content-Length: %d", len(chunked.body))).text(),
		"chunks beside a length, with more behind":         withBody(plain.with("Transfer-Encoding: chunked"), smuggled).text(),
		"two lengths":                                      second("Content-Length: 0"),
		"two lengths in one header":                        plain.without("Content-Length").with(fmt.Sprintf("Content-Length: %d, 0", len(plain.body))).text(),
		"a length with a sign":                             plain.without("Content-Length").with(fmt.Sprintf("Content-Length: +%d", len(plain.body))).text(),
		"a coding of another name":                         chunked.without("Transfer-Encoding").with("Transfer-Encoding: gzip, chunked").text(),
		"a coding that is hardly chunked":                  chunked.without("Transfer-Encoding").with("Transfer-Encoding: xchunked").text(),
		"two codings":                                      chunked.with("Transfer-Encoding: identity").text(),
		"announced trailers":                               trailers.with("Trailer: Mcp-Name").text(),
		"trailers without announcement":                    trailers.text(),
		"a chunk whose size is not valid":                  withBody(chunked, "zz\r\n"+plain.body+"\r\n0\r\n\r\n").text(),
		"a chunk that is too long for its size":            withBody(chunked, "1\r\n"+plain.body+"\r\n0\r\n\r\n").text(),
		"a second Authorization":                           second("Authorization: Bearer " + token),
		"a second Authorization in other letters":          second("authorization: Bearer " + token),
		"a second Content-Type":                            second("Content-Type: application/json"),
		"a second Host":                                    second("Host: " + address(s)),
		"a second Mcp-Name":                                second("Mcp-Name: add"),
		"a second Mcp-Name in other letters":               second("mcp-name: divide"),
		"a second Mcp-Method":                              second("Mcp-Method: tools/list"),
		"a second Mcp-Protocol-Version":                    second("Mcp-Protocol-Version: " + harness.SessionEra),
		"a second Mcp-Session-Id":                          plain.with("Mcp-Session-Id: a", "Mcp-Session-Id: b").text(),
		"a second Mcp-Param header":                        plain.with("Mcp-Param-A: a", "Mcp-Param-A: b").text(),
		"a space before a colon":                           plain.without("Authorization").with("Authorization : Bearer " + token).text(),
		"a header on two lines":                            second("X-Folded: a\r\n b"),
		"a header without a colon":                         second("X-Nothing"),
		"a NUL in a header":                                second("X-Nul: a\x00b"),
		"no Host":                                          plain.without("Host").text(),
		"another Host":                                     plain.without("Host").with("Host: attacker.example").text(),
		"another Host in the request line":                 withLine(plain, "POST http://attacker.example/servers/"+stage.Calculator+"/mcp HTTP/1.1").text(),
		"the own Host in the request line, without a path": withLine(plain, "POST "+s.Gateway.URL+" HTTP/1.1").text(),
		"an unknown origin":                                second("Origin: https://attacker.example"),
		"an opaque origin":                                 second("Origin: null"),
		"an origin of another port on this machine":        second("Origin: http://127.0.0.1:1"),
		"a compressed body":                                second("Content-Encoding: gzip"),
		"a body that is compressed twice":                  second("Content-Encoding: identity, gzip"),
		"PUT":                                              withLine(plain, "PUT /servers/"+stage.Calculator+"/mcp HTTP/1.1").text(),
		"PATCH":                                            withLine(plain, "PATCH /servers/"+stage.Calculator+"/mcp HTTP/1.1").text(),
		"TRACE":                                            withLine(plain, "TRACE /servers/"+stage.Calculator+"/mcp HTTP/1.1").text(),
		"CONNECT":                                          withLine(plain, "CONNECT "+strings.TrimPrefix(s.Allowed.URL, "http://")+" HTTP/1.1").text(),
		"OPTIONS without an origin":                        withLine(plain, "OPTIONS /servers/"+stage.Calculator+"/mcp HTTP/1.1").text(),
		"GET with a body":                                  withLine(plain, "GET /servers/"+stage.Calculator+"/mcp HTTP/1.1").text(),
		"DELETE with a body":                               withLine(plain, "DELETE /servers/"+stage.Calculator+"/mcp HTTP/1.1").text(),
		"a method in small letters":                        withLine(plain, "post /servers/"+stage.Calculator+"/mcp HTTP/1.1").text(),
		"HTTP/2 without asking":                            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"a header larger than is allowed":                  second("X-Large: " + strings.Repeat("x", 1<<20)),
		"a broken request line":                            "POST\r\n\r\n",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			s := s.In(t)
			s.Forget()
			for _, status := range sendText(t, s, text) {
				if status < 400 || status >= 500 && status != http.StatusNotImplemented && status != http.StatusHTTPVersionNotSupported {
					t.Errorf("answered %d", status)
				}
			}
			s.Untouched(t)
		})
	}
}

func withBody(w wire, body string) wire { w.body = body; return w }

func withLine(w wire, line string) wire { w.line = line; return w }

func TestPathLeadsToNoOtherServer(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	token := s.Client("cursor", nil)
	s.Works(t, token)
	plain := toolCall(s, token)
	for _, path := range []string{
		"/servers/" + stage.Calculator + "/../" + stage.Forbidden + "/mcp",
		"/servers/" + stage.Calculator + "/%2e%2e/" + stage.Forbidden + "/mcp",
		"/servers/" + stage.Calculator + "%2f..%2f" + stage.Forbidden + "/mcp",
		"/servers/" + stage.Calculator + "/mcp/../../" + stage.Forbidden + "/mcp",
		"/servers//" + stage.Forbidden + "/mcp",
		"//servers/" + stage.Forbidden + "/mcp",
		"/servers/" + stage.Forbidden + "%00/mcp",
		"/servers/" + stage.Forbidden + ";x/mcp",
		"/servers/%66orbidden/mcp",
		"/servers/" + strings.ToUpper(stage.Forbidden) + "/mcp",
		"/servers/" + stage.Forbidden + "/mcp?server=" + stage.Calculator,
		"/servers/" + stage.Forbidden + "/mcp#" + stage.Calculator,
		`/servers/` + stage.Calculator + `\..\` + stage.Forbidden + `/mcp`,
		"/SERVERS/" + stage.Forbidden + "/mcp",
	} {
		t.Run(path, func(t *testing.T) {
			s := s.In(t)
			s.Forget()
			for _, status := range sendText(t, s, withLine(plain, "POST "+path+" HTTP/1.1").text()) {
				if status < 300 {
					t.Errorf("answered %d", status)
				}
			}
			s.Untouched(t)
		})
	}
}

func TestNothingOfAClientReachesTheServerButWhatTheProtocolNeeds(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Everywhere(func(s *stage.Stage) {
		t := s.T
		token := s.Client("cursor", nil)
		s.Works(t, token)
		s.Forget()
		got := sendText(t, s, toolCall(s, token).with(
			"Cookie: a=b", "X-Forwarded-For: 10.0.0.1", "X-Forwarded-Host: attacker.example", "Forwarded: for=10.0.0.1",
			"X-Real-Ip: 10.0.0.1", "X-Vault-Token: x", "X-Api-Key: x", "Proxy-Authorization: Basic eA==", "X-Original-Url: /admin",
			"X-Http-Method-Override: DELETE", "Te: trailers", "Expect: 100-continue", "Via: 1.1 x", "Referer: http://x/", "If-None-Match: x", "Range: bytes=0-1",
			"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "User-Agent: test/1",
		).text())
		requests := s.Received()
		if len(requests) != 1 {
			t.Fatalf("answered %v, and the server saw %d requests", got, len(requests))
		}
		passed := map[string]bool{
			"Accept": true, "Content-Type": true, "Content-Length": true, "Last-Event-Id": true, "Traceparent": true, "Tracestate": true,
			"User-Agent": true, "Accept-Encoding": true,
		}
		for name, values := range requests[0].Header {
			if !passed[name] && !strings.HasPrefix(name, "Mcp-") {
				t.Errorf("the server was sent %s: %v", name, values)
			}
		}
		if want := strings.TrimSuffix(strings.TrimPrefix(s.Allowed.URL, "http://"), "/mcp"); requests[0].Host != want || requests[0].Path != "/mcp" {
			t.Errorf("the server was asked for %s at %s", requests[0].Path, requests[0].Host)
		}
	})
}
