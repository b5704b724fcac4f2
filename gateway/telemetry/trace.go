package telemetry

import (
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

const (
	serviceName = "mcp-gateway"
	scope       = "vault-plugin-secrets-mcp/gateway"

	// Routes are the paths of requests with placeholders for the client's values, as
	// the conventions for HTTP want them.
	routeServer    = "/servers/{name}/mcp"
	routeAggregate = "/mcp"
)

func routeOf(path string) string {
	if path == routeAggregate {
		return routeAggregate
	}
	return routeServer
}

// Attributes. Those of MCP and of tools are in OpenTelemetry's conventions for
// generative AI, which are still in development. Those of mcp_gateway are our own, and
// mean the same as in the audit log and in the metrics.
const (
	attrServiceName    = attribute.Key("service.name")
	attrServiceVersion = attribute.Key("service.version")

	attrMethod          = attribute.Key("mcp.method.name")
	attrSession         = attribute.Key("mcp.session.id") // hashed, as in the audit log
	attrProtocolVersion = attribute.Key("mcp.protocol.version")
	attrTool            = attribute.Key("gen_ai.tool.name")
	attrOperation       = attribute.Key("gen_ai.operation.name")
	attrHTTPMethod      = attribute.Key("http.request.method")
	attrHTTPRoute       = attribute.Key("http.route")
	attrHTTPStatus      = attribute.Key("http.response.status_code")
	attrErrorType       = attribute.Key("error.type")

	attrServer    = attribute.Key("mcp_gateway.server")
	attrOutcome   = attribute.Key("mcp_gateway.outcome")
	attrClient    = attribute.Key("mcp_gateway.client")
	attrRequestID = attribute.Key("mcp_gateway.request_id")
	attrLookup    = attribute.Key("mcp_gateway.lookup.result")
)

// Tracer makes spans: one for each request of a client, and below it one for the request
// to the server and one for the lookup in Vault.
type Tracer struct {
	tracer      trace.Tracer
	propagator  propagation.TraceContext
	toolDetails bool
}

func newTracer(provider trace.TracerProvider, toolDetails bool) *Tracer {
	return &Tracer{tracer: provider.Tracer(scope), toolDetails: toolDetails}
}

// Start begins the span of a client's request, within the client's own trace if the
// request names one. See [access.Tracer].
func (t *Tracer) Start(r *http.Request) (context.Context, access.Span) {
	route := routeOf(r.URL.Path)
	ctx := t.propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := t.tracer.Start(ctx, r.Method+" "+route, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attrHTTPMethod.String(r.Method), attrHTTPRoute.String(route)))
	if version := r.Header.Get(protocol.HeaderVersion); protocol.IsVersion(version) {
		span.SetAttributes(attrProtocolVersion.String(version))
	}
	return ctx, &requestSpan{tracer: t, ctx: ctx, span: span, named: r.Method + " " + route}
}

// requestSpan is the span of one request.
type requestSpan struct {
	tracer *Tracer
	ctx    context.Context // of the span, for the spans below it
	span   trace.Span
	named  string // at the start
}

// TraceID is the trace's id if the trace is recorded.
func (s *requestSpan) TraceID() string {
	if !s.span.IsRecording() {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// Upstream begins the span of the request to the server, and puts it into the header for
// the server.
func (s *requestSpan) Upstream(r *access.Request, header http.Header) func(status int, err error) {
	ctx, span := s.tracer.tracer.Start(s.ctx, s.name(r), trace.WithSpanKind(trace.SpanKindClient))
	span.SetAttributes(s.tracer.attributes(r)...)
	delete(header, "Traceparent")
	delete(header, "Tracestate")
	s.tracer.propagator.Inject(ctx, propagation.HeaderCarrier(header))
	return func(status int, err error) {
		if status != 0 {
			span.SetAttributes(attrHTTPStatus.Int(status))
		}
		if err != nil || status >= http.StatusBadRequest {
			// The error's own text may have private data.
			span.SetAttributes(attrErrorType.String("upstream"))
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// End ends the span. The outcome is the same as in the metrics.
func (s *requestSpan) End(r *access.Request, outcome string) {
	s.span.SetName(s.name(r))
	s.span.SetAttributes(s.tracer.attributes(r)...)
	s.span.SetAttributes(attrOutcome.String(outcome), attrRequestID.String(r.ID))
	if r.Grant != nil {
		s.span.SetAttributes(attrClient.String(r.Grant.Client))
	}
	status := r.Status()
	if status != 0 {
		s.span.SetAttributes(attrHTTPStatus.Int(status))
	}
	if outcome != access.ReasonAllowed && outcome != access.ReasonPreflight {
		s.span.SetAttributes(attrErrorType.String(outcome))
	}
	if status >= http.StatusInternalServerError {
		s.span.SetStatus(codes.Error, "")
	}
	s.span.End()
}

// name is the name of a span: the method, and the tool where the settings allow it.
func (s *requestSpan) name(r *access.Request) string {
	if r.Method == "" {
		return s.named
	}
	name := methodLabel(r.Method)
	if tool := s.tracer.tool(r); tool != "" {
		name += " " + tool
	}
	return name
}

// attributes are the known attributes of a request.
func (t *Tracer) attributes(r *access.Request) []attribute.KeyValue {
	all := make([]attribute.KeyValue, 0, 8)
	if r.Server != nil {
		all = append(all, attrServer.String(r.Server.Name))
	}
	if r.Method != "" {
		all = append(all, attrMethod.String(methodLabel(r.Method)))
	}
	if r.Method == protocol.MethodToolsCall {
		all = append(all, attrOperation.String("execute_tool"))
	}
	if tool := t.tool(r); tool != "" {
		all = append(all, attrTool.String(tool))
	}
	if r.Session != "" {
		all = append(all, attrSession.String(r.Session))
	}
	return all
}

// tool returns the name of the called tool, if the settings allow it and if it is a valid
// name: a client may write anything there.
func (t *Tracer) tool(r *access.Request) string {
	if !t.toolDetails || !isToolName(r.Tool) {
		return ""
	}
	return r.Tool
}

// isToolName follows the protocol's rule for the names of tools. That rule would allow
// tokens of the engine, so it refuses their prefixes.
func isToolName(name string) bool {
	const most = 128
	if name == "" || len(name) > most || strings.HasPrefix(name, "mcpt_") || strings.HasPrefix(name, "mcpk_") {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("_-./", rune(c)) {
			return false
		}
	}
	return true
}

// Lookup begins the span of one request to the engine's lookup. See
// [vault-plugin-secrets-mcp/gateway/grants.Tracer].
func (t *Tracer) Lookup(ctx context.Context) func(result string) {
	_, span := t.tracer.Start(ctx, "vault lookup", trace.WithSpanKind(trace.SpanKindClient))
	return func(result string) {
		span.SetAttributes(attrLookup.String(result))
		if result == "error" {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// Joined notes that a request waits for the lookup of another request.
func (*Tracer) Joined(ctx context.Context) {
	trace.SpanFromContext(ctx).AddEvent("waits for the lookup of another request")
}
