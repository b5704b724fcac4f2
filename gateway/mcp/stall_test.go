package mcp

import (
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// TestAnAnswerThatStopsHasATimeout: not its header alone, however it is sent, with
// and without filters. A slow one that goes on has as long as it takes.
func TestAnAnswerThatStopsHasATimeout(t *testing.T) {
	const timeout = 2 * time.Second
	hold := make(chan struct{})
	defer close(hold)
	up := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/length/mcp" {
			w.Header().Set("Content-Length", "39")
		}
		controller := http.NewResponseController(w)
		if r.URL.Path == "/slow/mcp" {
			for part := range strings.SplitSeq(pong, ",") {
				if !strings.HasPrefix(part, "{") {
					part = "," + part
				}
				_, _ = io.WriteString(w, part)
				_ = controller.Flush()
				<-time.After(timeout / 2) // the pause is what is tried
			}
			return
		}
		_, _ = io.WriteString(w, pong[:10])
		_ = controller.Flush()
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	})
	plain, secure := httptest.NewServer(up), httptest.NewTLSServer(up)
	defer plain.Close()
	defer secure.Close()
	certificate := t.TempDir() + "/ca.pem"
	require.NoError(t, os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600))
	t.Run("all at once", func(t *testing.T) {
		for name, base := range map[string]string{"plain": plain.URL, "TLS": secure.URL} {
			for _, rules := range []bool{false, true} {
				for _, path := range []string{"/length/mcp", "/chunked/mcp", "/slow/mcp"} {
					t.Run(name+path, func(t *testing.T) {
						t.Parallel()
						u := config.Upstream{Timeout: timeout, ConnectTimeout: 5 * time.Second}
						if name == "TLS" {
							u.CACertFile = certificate
						}
						wantTimeout(t, base+path, u, rules)
					})
				}
			}
		}
	})
}

func wantTimeout(t *testing.T, url string, u config.Upstream, rules bool) {
	t.Helper()
	c := testConfig()
	c.Upstreams = map[string]config.Upstream{"up": u}
	g := newGateway(t, c, &grants.Server{Name: "up", ID: "1", Transport: grants.TransportHTTP, URL: url})
	if rules {
		g.grants["alice"] = grant(t, "alice", nil, []string{"up/erase"})
	}
	r, err := g.Do(t.Context(), ping)
	require.NoError(t, err)
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	switch {
	case strings.HasSuffix(url, "/slow/mcp"):
		require.NoError(t, err)
		require.Equal(t, pong, string(body))
	case rules || strings.HasSuffix(url, "/length/mcp"): // nothing was passed on yet
		require.Equal(t, http.StatusGatewayTimeout, r.StatusCode, string(body))
		require.Contains(t, string(body), "did not answer in time")
	default:
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "it must not look complete: %d %s", r.StatusCode, body)
	}
}

func TestAServerIsHeardOnWhenToComeBack(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", r.Header.Get("Mcp-Param-After"))
		status, _ := strconv.Atoi(r.Header.Get("Mcp-Param-Status"))
		http.Error(w, "busy", status)
	})
	g := newGateway(t, testConfig(), registration(up))
	for _, c := range []struct {
		status      int
		after, want string
	}{
		{429, "17", "17"},
		{429, "Fri, 31 Dec 2100 23:59:59 GMT", "Fri, 31 Dec 2100 23:59:59 GMT"},
		{503, "17", "17"},
		{503, "soon", "1"},
		{503, "-1", "1"},
		{503, "99999999999999999999", "1"},
		{503, "999999999", "86400"},
		{503, "Fri, 31 Dec 2100 23:59:59 GMT", "86400"},
		{503, "Fri, 31 Dec 1999 23:59:59 GMT", "1"},
	} {
		got := g.Ask(t, ping, "Mcp-Param-Status", strconv.Itoa(c.status), "Mcp-Param-After", c.after)
		require.Equal(t, c.status, got.Status)
		require.Equal(t, c.want, got.Header.Get("Retry-After"), c.after)
	}
}

// TestAnAnswerThatIsTooLargeToBeFilteredSaysSo, and which limit it is.
func TestAnAnswerThatIsTooLargeToBeFilteredSaysSo(t *testing.T) {
	large := `{"jsonrpc":"2.0","id":1,"result":{"content":"` + strings.Repeat("x", 2<<20) + `"}}`
	var stream atomic.Bool
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		if !stream.Load() {
			gatewaytest.Reply(w, large)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: "+large+"\n\n")
	})
	g := newGateway(t, testConfig(), registration(up))
	g.grants["alice"] = grant(t, "alice", nil, []string{"up/erase"})
	for _, streams := range []bool{false, true} {
		stream.Store(streams)
		for request, told := range map[string]string{
			callEcho:  `"The tool has run, but its answer is larger than 1MiB, this gateway's limit (limits.max_list), and was not passed on."`,
			listTools: `"The server's answer is larger than 1MiB, this gateway's limit (limits.max_list), and was not passed on."`,
		} {
			body := g.Ask(t, request).Body
			require.Less(t, len(body), 1000, "the answer itself is passed on")
			require.Contains(t, body, told)
		}
	}
}

// TestAFilteredAnswerMayBeginWithAMark, as some servers have it.
func TestAFilteredAnswerMayBeginWithAMark(t *testing.T) {
	up := gatewaytest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		gatewaytest.Reply(w, "\ufeff"+`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"},{"name":"erase"}]}}`)
	})
	g := newGateway(t, testConfig(), registration(up))
	g.grants["alice"] = grant(t, "alice", nil, []string{"up/erase"})
	require.Equal(t, `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"}]}}`, g.Ask(t, listTools).Body)
}
