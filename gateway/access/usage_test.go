package access

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/usage"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// reports keeps what is reported, as "client token" and "client server/tool".
type reports []string

func (r *reports) ReportUsage(_ context.Context, report *vaultclient.UsageReport) (int, error) {
	*r = nil
	for client, c := range report.Clients {
		for _, token := range c.Tokens {
			*r = append(*r, client+" "+token)
		}
		for server, tools := range c.Servers {
			for _, tool := range tools {
				*r = append(*r, client+" "+server+"/"+tool)
			}
		}
		if len(c.Tokens)+len(c.Servers) == 0 {
			*r = append(*r, client)
		}
	}
	slices.Sort(*r)
	return 0, nil
}

func newRecorder(into *reports) *usage.Recorder {
	r := usage.New(usage.Options{Gateway: "gateway000000001", Engine: into, Log: hclog.NewNullLogger()})
	r.Listed("registration-files", []byte(`{"result":{"tools":[{"name":"read"}]}}`), false)
	return r
}

// asks has the stage's handler decide about a message with the method and the tool.
func asks(method, tool string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		req := FromContext(r.Context())
		req.Method, req.Tool = method, tool
		if f := req.Allow(); f != nil {
			Refuse(w, r, f)
			return
		}
		w.WriteHeader(http.StatusOK)
	}
}

func TestWhatARequestUses(t *testing.T) {
	var reported reports
	var recorder *usage.Recorder
	s := newStage(t, func(o *Options) {
		recorder = newRecorder(&reported)
		o.Usage = recorder
	})
	const token = "id-cursor accessor-cursor"
	for _, tc := range []struct {
		name, method, tool string
		want               reports
	}{
		{"a call of a tool", protocol.MethodToolsCall, "read", reports{token, "id-cursor files/read"}},
		{"a call by a name that nobody has listed", protocol.MethodToolsCall, "rm -rf", reports{token, "id-cursor files/"}},
		{"a prompt", protocol.MethodPromptsGet, "", reports{token, "id-cursor files/"}},
		{"a resource", protocol.MethodResourcesRead, "", reports{token, "id-cursor files/"}},
		{"a subscription", protocol.MethodSubscribe, "", reports{token, "id-cursor files/"}},
		{"a method of an extension", "vendor/search", "", reports{token, "id-cursor files/"}},
		{"the begin of a session", protocol.MethodInitialize, "", reports{token}},
		{"a list", protocol.MethodToolsList, "", reports{token}},
		{"a notification", protocol.MethodInitialized, "", reports{token}},
		{"a task of an earlier call", protocol.MethodTasksGet, "", reports{token}},
		{"a stream, or a response", "", "", reports{token}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			recorder = newRecorder(&reported)
			s.gate.options.Usage = recorder
			s.handle = asks(tc.method, tc.tool)
			response, _ := s.raw(post("/servers/files/mcp", goodToken, "{}"))
			require.Equal(t, http.StatusOK, response.StatusCode)
			recorder.Close(t.Context())
			require.Equal(t, tc.want, reported)
		})
	}
}

func TestWhatIsRefusedIsNotUsed(t *testing.T) {
	var reported reports
	recorder := newRecorder(&reported)
	s := newStage(t, func(o *Options) { o.Usage = recorder })
	s.handle = asks(protocol.MethodToolsCall, "read")
	for _, refused := range []string{
		post("/servers/files/mcp", badToken, "{}"),
		post("/servers/github/mcp", goodToken, "{}"), // which the client may not reach
		post("/servers/nowhere/mcp", goodToken, "{}"),
		post("/servers/files/mcp", goodToken, "{}", "Host: elsewhere"),
	} {
		response, _ := s.raw(refused)
		require.NotEqual(t, http.StatusOK, response.StatusCode)
	}
	s.log.Close() // so that no decision can be recorded
	response, _ := s.raw(post("/servers/files/mcp", goodToken, "{}"))
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	require.Zero(t, recorder.Stats().Rows)
}

// ask returns a whole request through the gate, without a network.
func (s *stage) ask() func() {
	body := strings.NewReader("")
	request := httptest.NewRequestWithContext(s.t.Context(), http.MethodPost, "/servers/files/mcp", body)
	request.Host = "127.0.0.1:8080"
	request.Header.Set("Authorization", "Bearer "+goodToken)
	request.Header.Set("Content-Type", "application/json")
	w := &discard{header: http.Header{}}
	return func() {
		body.Reset("{}")
		clear(w.header)
		s.gate.ServeHTTP(w, request)
		if w.status != http.StatusOK {
			s.t.Fatalf("status %d", w.status)
		}
	}
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { return io.Discard.Write(p) }

// noted returns requests of a gate that notes what is used, and of one that does not.
func noted(t testing.TB) map[string]func() {
	t.Helper()
	var reported reports
	requests := map[string]func(){}
	for name, recorder := range map[string]*usage.Recorder{"noted": newRecorder(&reported), "not noted": nil} {
		s := newStage(t, func(o *Options) { o.Usage = recorder })
		s.handle = asks(protocol.MethodToolsCall, "read")
		requests[name] = s.ask()
		requests[name]()
	}
	return requests
}

func TestNotingWhatIsUsedCostsARequestNoAllocation(t *testing.T) {
	requests := noted(t)
	with, without := testing.AllocsPerRun(500, requests["noted"]), testing.AllocsPerRun(500, requests["not noted"])
	require.LessOrEqual(t, with, without)
}

// BenchmarkNoting is what it costs the gate's part of a request.
func BenchmarkNoting(b *testing.B) {
	requests := noted(b)
	for _, name := range []string{"not noted", "noted", "not noted", "noted"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				requests[name]()
			}
		})
	}
}
