package telemetry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/hashicorp/go-hclog"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// flushTimeout bounds the last transmission, at the end.
const flushTimeout = 5 * time.Second

// Export sends traces and metrics to an OpenTelemetry collector. The SDK itself reads the
// environment's settings that are not in [Settings]: endpoints, headers, certificates,
// sampling, batching.
type Export struct {
	tracer  *Tracer // nil: no traces
	closers []func(context.Context) error
	log     hclog.Logger
}

// Open starts the exports of the settings. It reads the metrics from [Metrics], where
// Prometheus reads them too. So both are equal, and a request costs nothing more.
func Open(ctx context.Context, settings Settings, m *Metrics, version string, log hclog.Logger) (*Export, error) {
	e := &Export{log: log}
	if !settings.Traces && !settings.Metrics {
		return e, nil
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("telemetry", "error", err) }))
	otel.SetLogger(funcr.New(func(_, text string) { log.Debug("telemetry", "detail", text) }, funcr.Options{RenderArgsHook: withoutValues}))
	about, err := describe(ctx, version)
	if err != nil {
		return nil, fmt.Errorf("telemetry: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	if settings.Traces {
		exporter, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("telemetry: traces: %w", err)
		}
		provider := trace.NewTracerProvider(trace.WithBatcher(exporter), trace.WithResource(about))
		e.closers = append(e.closers, provider.Shutdown)
		e.tracer = newTracer(provider, settings.ToolDetails)
	}
	if settings.Metrics {
		exporter, err := otlpmetrichttp.New(ctx)
		if err != nil {
			e.Close()
			return nil, fmt.Errorf("telemetry: metrics: %w", err)
		}
		reader := metric.NewPeriodicReader(exporter, metric.WithProducer(bridge.NewMetricProducer(bridge.WithGatherer(m.registry))))
		provider := metric.NewMeterProvider(metric.WithReader(reader), metric.WithResource(about))
		e.closers = append(e.closers, provider.Shutdown)
	}
	log.Info("sending telemetry by OTLP", "traces", settings.Traces, "metrics", settings.Metrics, "tool_names", settings.ToolDetails)
	return e, nil
}

// withoutValues keeps values that the SDK could not parse out of the log: the headers for
// the collector have a credential.
func withoutValues(pairs []any) []any {
	kept := slices.Clone(pairs)
	for i := 1; i < len(kept); i += 2 {
		switch kept[i-1] {
		case "input", "value", "key":
			kept[i] = "…"
		}
	}
	return kept
}

// describe names this process. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override
// these attributes.
func describe(ctx context.Context, version string) (*resource.Resource, error) {
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithService(), // an instance id, since there are many gateways
		resource.WithAttributes(attrServiceName.String(serviceName), attrServiceVersion.String(version)),
		resource.WithFromEnv(),
	)
	if errors.Is(err, resource.ErrPartialResource) || errors.Is(err, resource.ErrSchemaURLConflict) {
		return about, nil // a few attributes are missing
	}
	return about, err
}

// Tracer makes the spans; nil if no traces are sent.
func (e *Export) Tracer() *Tracer { return e.tracer }

// Close sends the rest.
func (e *Export) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	for _, end := range e.closers {
		if err := end(ctx); err != nil {
			e.log.Warn("not all telemetry could be sent", "error", err)
		}
	}
	e.closers = nil
}
