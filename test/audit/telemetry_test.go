package audit

import (
	"encoding/hex"
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"

	"vault-plugin-secrets-mcp/test/collector"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// A client's own trace, and its own span in it (W3C Trace Context).
const (
	clientTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	clientSpan  = "00f067aa0ba902b7"
)

// traced is a stage whose gateway sends traces and metrics to a collector, at its end
// at the latest.
type traced struct {
	*stage.Stage
	collector *collector.Collector
}

func newTraced(t *testing.T, s *stage.Stage, env ...string) *traced {
	t.Helper()
	c := collector.Start()
	t.Cleanup(c.Close)
	view := *s.In(t)
	view.Gateway = view.StartGateway(harness.GatewayOptions{Env: append([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL}, env...)})
	view.Forget()
	return &traced{Stage: &view, collector: c}
}

// call calls a tool of the calculator as part of the client's own trace.
func (s *traced) call(t *testing.T, token, server, tool string) harness.Response {
	t.Helper()
	return s.Do(http.MethodPost, s.Gateway.ServerURL(server), token, http.Header{
		"Content-Type":         {"application/json"},
		"Accept":               {"application/json, text/event-stream"},
		"Mcp-Protocol-Version": {harness.StatelessEra},
		"Mcp-Method":           {"tools/call"},
		"Mcp-Name":             {tool},
		"Traceparent":          {"00-" + clientTrace + "-" + clientSpan + "-01"},
		"Tracestate":           {"vendor=1"},
	}, harness.CallBody(tool, `{"a":40,"b":2}`))
}

// span returns the one span that has all of the attributes.
func (s *traced) span(t *testing.T, kind trace.Span_SpanKind, want collector.Attributes) collector.Span {
	t.Helper()
	var found []collector.Span
	for _, span := range s.collector.Spans() {
		matches := span.GetKind() == kind
		for key, value := range want {
			matches = matches && span.Attributes[key] == value
		}
		if matches {
			found = append(found, span)
		}
	}
	require.Len(t, found, 1, "%v among %v", want, s.collector.Spans())
	return found[0]
}

func TestTelemetry(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	token, retired := s.Client("traced", nil), s.Client("retired", nil)
	s.Write("mcp/revoke-client/retired", harness.Map{})
	secrets := secretWords{"a token": token, "a revoked token": retired, "a token nobody issued": harness.UnissuedToken(t), "a malformed one": "mcpt_0123456789abcdef"}

	t.Run("A request is a span in the client's own trace", func(t *testing.T) {
		s := newTraced(t, s, "OTEL_SERVICE_NAME=edge-gateway", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test")
		require.Equal(t, http.StatusOK, s.call(t, token, stage.Calculator, "multiply").Status)
		sent := s.Allowed.Requests()[0].Header
		s.Gateway.Stop()
		require.Empty(t, s.collector.Errors())

		server := s.span(t, trace.Span_SPAN_KIND_SERVER, collector.Attributes{"mcp_gateway.outcome": "allowed"})
		require.Equal(t, clientTrace, hex.EncodeToString(server.GetTraceId()))
		require.Equal(t, clientSpan, hex.EncodeToString(server.GetParentSpanId()))
		require.Equal(t, "tools/call", server.GetName())
		requestID := server.Attributes["mcp_gateway.request_id"]
		require.Equal(t, collector.Attributes{
			"mcp.method.name": "tools/call", "mcp.protocol.version": harness.StatelessEra, "gen_ai.operation.name": "execute_tool",
			"mcp_gateway.server": stage.Calculator, "mcp_gateway.outcome": "allowed", "mcp_gateway.client": "traced", "mcp_gateway.request_id": requestID,
			"http.request.method": "POST", "http.route": "/servers/{name}/mcp", "http.response.status_code": "200",
		}, server.Attributes)
		require.Equal(t, "edge-gateway", server.Resource["service.name"])
		require.Equal(t, "test", server.Resource["deployment.environment.name"])
		require.NotEmpty(t, server.Resource["service.instance.id"])

		lookup := s.span(t, trace.Span_SPAN_KIND_CLIENT, collector.Attributes{"mcp_gateway.lookup.result": "active"})
		require.Equal(t, server.GetSpanId(), lookup.GetParentSpanId())

		upstream := s.span(t, trace.Span_SPAN_KIND_CLIENT, collector.Attributes{"mcp_gateway.server": stage.Calculator, "http.response.status_code": "200"})
		require.Equal(t, server.GetSpanId(), upstream.GetParentSpanId())
		require.Equal(t, []string{"00-" + clientTrace + "-" + hex.EncodeToString(upstream.GetSpanId()) + "-01"}, sent["Traceparent"])
		require.Equal(t, []string{"vendor=1"}, sent["Tracestate"])

		for _, line := range s.Gateway.Audit() {
			require.Equal(t, clientTrace, line["trace_id"])
			require.Equal(t, requestID, line["request_id"])
		}
		require.NotContains(t, s.collector.Raw(), "multiply", "the tool's name is told without OTEL_LOG_TOOL_DETAILS")
		require.Nil(t, secrets.in(s.collector.Raw()))
	})

	t.Run("Tools are named where OTEL_LOG_TOOL_DETAILS says so", func(t *testing.T) {
		s := newTraced(t, s, "OTEL_LOG_TOOL_DETAILS=1", "OTEL_METRICS_EXPORTER=none")
		s.call(t, token, stage.Calculator, "multiply")
		s.call(t, token, stage.Calculator, token) // a client's mistake must not end in a trace
		s.Gateway.Stop()
		span := s.span(t, trace.Span_SPAN_KIND_SERVER, collector.Attributes{"gen_ai.tool.name": "multiply"})
		require.Equal(t, "tools/call multiply", span.GetName())
		require.Nil(t, secrets.in(s.collector.Raw()))
		metrics, _ := s.collector.Metrics()
		require.Empty(t, metrics, "OTEL_METRICS_EXPORTER=none")
	})

	t.Run("Refusals are spans with their reasons", func(t *testing.T) {
		s := newTraced(t, s)
		for _, bearer := range secrets {
			s.call(t, bearer, stage.Forbidden, "multiply")
		}
		s.Do(http.MethodPost, s.Gateway.ServerURL(stage.Calculator)+"?access_token="+token, token, http.Header{"Content-Type": {"application/json"}}, `{"method":"`+token+`"}`)
		s.Do(http.MethodPost, s.Gateway.ServerURL(stage.Calculator), token, http.Header{"Content-Type": {"application/json"}},
			`{"jsonrpc":"2.0","id":1,"method":"`+retired+`"}`)
		s.Do(http.MethodGet, s.Gateway.ServerURL(token), "", nil, "")
		s.Gateway.Stop()
		refused := s.span(t, trace.Span_SPAN_KIND_SERVER, collector.Attributes{"mcp_gateway.outcome": "not-in-allowed-servers"})
		require.Equal(t, "403", refused.Attributes["http.response.status_code"])
		require.Equal(t, "not-in-allowed-servers", refused.Attributes["error.type"])
		require.Equal(t, trace.Status_STATUS_CODE_UNSET, refused.GetStatus().GetCode(), "a client's fault is not an error of the gateway")
		s.span(t, trace.Span_SPAN_KIND_SERVER, collector.Attributes{"mcp_gateway.outcome": "malformed-token", "http.response.status_code": "401"})
		s.span(t, trace.Span_SPAN_KIND_SERVER, collector.Attributes{"mcp_gateway.outcome": "no-token", "http.response.status_code": "401"})
		require.Nil(t, secrets.in(s.collector.Raw()))
	})

	t.Run("A call on the endpoint for all servers is one trace", func(t *testing.T) {
		s := newTraced(t, s)
		answer := s.Do(http.MethodPost, s.Gateway.URL+"/mcp", token, http.Header{
			"Content-Type":         {"application/json"},
			"Accept":               {"application/json, text/event-stream"},
			"Mcp-Protocol-Version": {harness.StatelessEra},
			"Mcp-Method":           {"tools/call"},
			"Mcp-Name":             {stage.Calculator + "__multiply"},
			"Traceparent":          {"00-" + clientTrace + "-" + clientSpan + "-01"},
		}, harness.CallBody(stage.Calculator+"__multiply", `{"a":40,"b":2}`))
		require.Contains(t, answer.Body, "80")
		s.Gateway.Stop()
		server := s.span(t, trace.Span_SPAN_KIND_SERVER, nil)
		require.Equal(t, "/mcp", server.Attributes["http.route"])
		require.Equal(t, "allowed", server.Attributes["mcp_gateway.outcome"])
		upstream := s.span(t, trace.Span_SPAN_KIND_CLIENT, collector.Attributes{"mcp_gateway.server": stage.Calculator, "mcp.method.name": "tools/call"})
		require.Equal(t, server.GetSpanId(), upstream.GetParentSpanId())
		for _, span := range s.collector.Spans() {
			require.Equal(t, clientTrace, hex.EncodeToString(span.GetTraceId()))
		}
		for _, line := range s.Gateway.Audit() {
			require.Equal(t, clientTrace, line["trace_id"])
		}
		require.NotContains(t, s.collector.Raw(), "multiply")
		require.Nil(t, secrets.in(s.collector.Raw()))
	})

	t.Run("Metrics are those of Prometheus", func(t *testing.T) {
		s := newTraced(t, s, "OTEL_TRACES_EXPORTER=none")
		s.call(t, token, stage.Calculator, "multiply")
		scraped := s.Gateway.Metrics()
		s.Gateway.Stop()
		metrics, of := s.collector.Metrics()
		require.Equal(t, "mcp-gateway", of["service.name"])
		for _, family := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(scraped, -1) {
			require.Contains(t, metrics, family[1])
		}
		points := metrics["mcp_gateway_requests_total"].GetSum().GetDataPoints()
		require.Len(t, points, 1)
		require.InDelta(t, 1, points[0].GetAsDouble(), 0)
		require.Empty(t, s.collector.Spans(), "OTEL_TRACES_EXPORTER=none")
		require.Nil(t, secrets.in(s.collector.Raw()))
	})

	t.Run("Nothing is sent where it is switched off", func(t *testing.T) {
		s := newTraced(t, s, "OTEL_SDK_DISABLED=true")
		s.call(t, token, stage.Calculator, "multiply")
		sent := s.Allowed.Requests()[0].Header
		s.Gateway.Stop()
		require.Empty(t, s.collector.Raw())
		require.Equal(t, []string{"00-" + clientTrace + "-" + clientSpan + "-01"}, sent["Traceparent"], "the client's own trace goes on to the server")
		for _, line := range s.Gateway.Audit() {
			require.NotContains(t, line, "trace_id")
		}
	})

	t.Run("A mistake in the environment ends the start", func(t *testing.T) {
		s := s.In(t)
		gateway := s.StartGateway(harness.GatewayOptions{
			NotReady: true, Env: []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
		})
		<-gateway.Process.Done()
		require.ErrorContains(t, gateway.Process.Err(), `OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" is not supported: use http/protobuf`)
	})
}
