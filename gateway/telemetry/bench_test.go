package telemetry

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
)

const goodToken = "good-token-0123456789"

// warmed is a gate that knows the token already, with a server behind it that
// costs nothing.
func warmed(t testing.TB, tracer access.Tracer) (serve func()) {
	t.Helper()
	vault := grantstest.New(t)
	vault.AddServer("files", "http://127.0.0.1:9/mcp")
	vault.AddToken(goodToken, "cursor", grantstest.Data{"allowed_servers": []string{"files"}})
	log, err := access.OpenAuditLog(config.Audit{File: filepath.Join(t.TempDir(), "audit.log")}, hclog.NewNullLogger())
	require.NoError(t, err)
	caching := config.Grants{
		MaxStale: time.Hour, NegativeTTL: time.Hour, MaxEntries: 1000, Wait: time.Second,
		ColdRate: 1e6, ColdBurst: 1e6, ColdSourceRate: 1e6, ColdSourceBurst: 1e6,
	}
	header := http.Header{}
	gate := access.New(access.Options{
		Broker:   vault.Broker(grants.Options{Grants: caching}),
		Audit:    log,
		Listener: config.Listener{Address: "127.0.0.1:8080"},
		Limits:   config.Limits{MaxBody: 1000},
		Observer: New("v1.0.0"),
		Tracer:   tracer,
		Next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			request := access.FromContext(r.Context())
			request.Method = "tools/call"
			if request.Decide(access.Decision{Allow: true, Reason: access.ReasonAllowed}) != nil {
				access.Refuse(w, r, access.AuditRefusal())
				return
			}
			end := request.TraceUpstream(header)
			end(http.StatusOK, nil)
			w.WriteHeader(http.StatusOK)
			request.Outcome(http.StatusOK, 0, nil)
		}),
	})
	t.Cleanup(func() {
		gate.Close()
		log.Close()
	})
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/servers/files/mcp", strings.NewReader("{}"))
	request.Host = "127.0.0.1:8080"
	request.Header.Set("Authorization", "Bearer "+goodToken)
	request.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	serve = func() {
		recorder := httptest.NewRecorder()
		gate.ServeHTTP(recorder, request)
		require.Equal(t, http.StatusOK, recorder.Code)
	}
	vault.Await("the token to be known", func() bool {
		recorder := httptest.NewRecorder()
		gate.ServeHTTP(recorder, request)
		return recorder.Code == http.StatusOK
	})
	return serve
}

func sdkTracer(t testing.TB) *Tracer {
	t.Helper()
	provider := trace.NewTracerProvider(trace.WithBatcher(tracetest.NewNoopExporter()))
	t.Cleanup(func() { require.NoError(t, provider.Shutdown(context.Background())) })
	return newTracer(provider, false)
}

// BenchmarkWarmRequest measures a request with a known token in the middleware, with its
// audit lines and metrics.
func BenchmarkWarmRequest(b *testing.B) {
	for _, bench := range []struct {
		name   string
		tracer access.Tracer
	}{{"without traces", nil}, {"with traces", sdkTracer(b)}} {
		b.Run(bench.name, func(b *testing.B) {
			serve := warmed(b, bench.tracer)
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
	}
}

// TestTracesCostNothingWhereTheyAreOff: a request that is not traced allocates
// nothing on their behalf.
func TestTracesCostNothingWhereTheyAreOff(t *testing.T) {
	request, header := &access.Request{}, http.Header{}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		end := request.TraceUpstream(header)
		end(http.StatusOK, nil)
	}))
	require.Empty(t, header)
}
