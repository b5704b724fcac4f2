package aggregate

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
)

func TestACursorThatWasMadeByHandHasNoServerAskedTwice(t *testing.T) {
	up := modern(t, "x", textResult)
	s := newStage(t, map[string]string{"up": up.URL})
	raw := []byte("\x01\x01\x00\xff\x01") // of tools, with 255 positions
	for i := range 255 {
		raw = binary.AppendUvarint(append(raw, "\x02up\x00"...), uint64(i+1))
	}
	cursor := base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(raw, crc32.ChecksumIEEE(raw)))
	g := s.asks("1", "tools/list", `"cursor":"`+cursor+`"`)
	require.Contains(t, g.body, `"error":{"code":-32602`)
	require.LessOrEqual(t, len(up.sent("tools/list")), 1)
}

func TestAClientThatGivesUpItsListsHasNotMoreAndMoreOnTheirWay(t *testing.T) {
	up := newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
		if method == "server/discover" {
			reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
			return
		}
		<-r.Context().Done()
	})
	s := newStage(t, map[string]string{"up": up.URL})
	s.handler.listWait = time.Minute
	body, pairs := stateless("1", "tools/list", "")
	for i := range 3 * maxAbandoned {
		asked := min(i, maxAbandoned) + 1
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if r, err := s.doWith(ctx, body, pairs...); err == nil {
				_ = r.Body.Close()
			}
		}()
		if asked <= maxAbandoned {
			gatewaytest.Eventually(t, "the server to be asked", func() bool { return len(up.sent("tools/list")) == asked })
			cancel()
			gatewaytest.Eventually(t, "the list to be given up", func() bool {
				state := s.handler.servers.of(stateKey{id: "registration-up"})
				return state.abandonedLists(grants.PrincipalOf("id-alice")) == asked
			})
		}
		<-ended
		cancel()
	}
	require.Len(t, up.sent("tools/list"), maxAbandoned)
	s.vault.Revoke(alice)
	gatewaytest.Eventually(t, "a revocation to end what nobody waits for too", func() bool {
		return s.handler.servers.of(stateKey{id: "registration-up"}).abandonedLists(grants.PrincipalOf("id-alice")) == 0
	})
}

func TestAListOfNothingButRubbishIsSaidOnce(t *testing.T) {
	names := 0
	up := newFake(t, func(w http.ResponseWriter, _ *http.Request, method, body string) {
		if method == "server/discover" {
			reply(w, body, `{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"resultType":"complete"}`)
			return
		}
		names++
		reply(w, body, fmt.Sprintf(`{"tools":[{"name":"a"},%s{"name":"no good %d"}]}`, strings.Repeat("{},", 50_000), names))
	})
	s := newStage(t, map[string]string{"up": up.URL})
	for range 3 {
		require.Equal(t, []string{"up__a"}, toolsIn(t, s.asks("1", "tools/list", "").body))
	}
	require.Less(t, strings.Count(s.log.String(), "left out"), 50)
	require.Contains(t, s.log.String(), "left_out=50001")
}

// A list may be longer than what the network takes while the client does not read.
func TestAClientThatDoesNotReadItsListIsCutAllTheSame(t *testing.T) {
	long := func(name string) string {
		return modern(t, name+`","description":"`+strings.Repeat("x", 4<<20-1024), textResult).URL
	}
	s := newStage(t, map[string]string{"one": long("a"), "two": long("b")})
	conn, err := net.Dial("tcp", strings.TrimPrefix(strings.TrimSuffix(s.url, "/mcp"), "http://"))
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4<<10))
	body, _ := stateless("1", "tools/list", "")
	_, err = fmt.Fprintf(conn, "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nAccept: application/json, text/event-stream\r\n"+
		"Content-Type: application/json\r\nMcp-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/list\r\nContent-Length: %d\r\n\r\n%s", alice, len(body), body)
	require.NoError(t, err)
	_, err = conn.Read(make([]byte, 1))
	require.NoError(t, err, "the answer has begun")
	s.vault.Revoke(alice)
	gatewaytest.Eventually(t, "the request to end", func() bool {
		text, err := os.ReadFile(s.audit)
		require.NoError(t, err)
		for line := range strings.SplitSeq(string(text), "\n") {
			if strings.Contains(line, `"type":"outcome"`) && !strings.Contains(line, `"server"`) {
				return true
			}
		}
		return false
	})
}

func TestASessionKeepsLittleOfWhatItsClientSays(t *testing.T) {
	s := newStage(t, map[string]string{"up": modern(t, "x", textResult).URL})
	long := strings.Repeat("x", 100<<10)
	g := s.ask(strings.Replace(initOnce, `"name":"t"`, `"name":"`+long+`"`, 1))
	require.Contains(t, g.body, `"error":{"code":-32602`)
	require.Zero(t, s.handler.Sessions())
	mine := s.open(alice)
	for name, message := range map[string]string{
		"a level":    `{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"` + long + `"}}`,
		"a resource": `{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"mcp://up/` + long + `"}}`,
	} {
		require.Contains(t, s.ask(message, mine...).body, `"error":{"code":-32602`, name)
	}
	g = s.asks("1", "subscriptions/listen", `"notifications":{"resourceSubscriptions":["mcp://up/x"`+strings.Repeat(`,"mcp://up/x"`, maxSubscriptions)+`]}`)
	require.Contains(t, g.body, `"error":{"code":-32602`)
}

func TestAServerThatDoesNotListenHoldsNobodyUp(t *testing.T) {
	hangs := newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
		switch method {
		case "initialize":
			reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"logging":{}},"serverInfo":{"name":"up","version":"1"}}`)
		case "logging/setLevel", "notifications/roots/list_changed":
			<-r.Context().Done()
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	})
	s := newStage(t, map[string]string{"up": hangs.URL})
	mine := s.open(alice)
	s.handler.listWait = 250 * time.Millisecond
	require.Contains(t, s.ask(`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"debug"}}`, mine...).body, `"result":{}`)
	require.Equal(t, http.StatusAccepted, s.ask(`{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}`, mine...).status)
	require.Len(t, hangs.sent("logging/setLevel"), 1)
}
