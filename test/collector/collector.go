// Package collector receives a program's telemetry in place of an OpenTelemetry collector:
// OTLP over HTTP in protobuf. It decodes it with the protocol's own definitions.
package collector

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"

	metricsservice "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	traceservice "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Attributes are the attributes of a span or a resource, as text.
type Attributes map[string]string

// Span is a received span.
type Span struct {
	*trace.Span
	Attributes Attributes
	Resource   Attributes
}

// Collector is a receiver of OTLP.
type Collector struct {
	// URL is the value for OTEL_EXPORTER_OTLP_ENDPOINT.
	URL string

	server *httptest.Server

	mu      sync.Mutex
	spans   []Span
	metrics map[string]*metrics.Metric
	about   Attributes // the resource that the metrics are of
	raw     []byte
	errors  []error
}

// Start starts a collector. Close it.
func Start() *Collector {
	c := &Collector{metrics: map[string]*metrics.Metric{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", receive(c, c.addTraces))
	mux.HandleFunc("POST /v1/metrics", receive(c, c.addMetrics))
	c.server = httptest.NewServer(mux)
	c.URL = c.server.URL
	return c
}

// Close stops the collector.
func (c *Collector) Close() { c.server.Close() }

// receive decodes a request, stores its bytes, and records it.
func receive[T any, M interface {
	*T
	proto.Message
}](c *Collector, add func(M)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		content, err := body(r)
		message := M(new(T))
		if err == nil {
			err = proto.Unmarshal(content, message)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil {
			c.errors = append(c.errors, err)
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.raw = append(c.raw, content...)
		add(message)
		w.Header().Set("Content-Type", "application/x-protobuf") // an empty answer means that everything was accepted
	}
}

func body(r *http.Request) ([]byte, error) {
	if media := r.Header.Get("Content-Type"); media != "application/x-protobuf" {
		return nil, fmt.Errorf("%s is sent as %q", r.URL.Path, media)
	}
	reader := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		reader = unzipped
	}
	return io.ReadAll(reader)
}

func (c *Collector) addTraces(request *traceservice.ExportTraceServiceRequest) {
	for _, ofResource := range request.GetResourceSpans() {
		for _, ofScope := range ofResource.GetScopeSpans() {
			for _, span := range ofScope.GetSpans() {
				c.spans = append(c.spans, Span{
					Span: span, Attributes: attributes(span.GetAttributes()), Resource: attributes(ofResource.GetResource().GetAttributes()),
				})
			}
		}
	}
}

func (c *Collector) addMetrics(request *metricsservice.ExportMetricsServiceRequest) {
	for _, ofResource := range request.GetResourceMetrics() {
		c.about = attributes(ofResource.GetResource().GetAttributes())
		for _, ofScope := range ofResource.GetScopeMetrics() {
			for _, metric := range ofScope.GetMetrics() {
				c.metrics[metric.GetName()] = metric
			}
		}
	}
}

func attributes(list []*common.KeyValue) Attributes {
	all := make(Attributes, len(list))
	for _, a := range list {
		switch value := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			all[a.GetKey()] = value.StringValue
		case *common.AnyValue_IntValue:
			all[a.GetKey()] = fmt.Sprint(value.IntValue)
		default:
			all[a.GetKey()] = a.GetValue().String()
		}
	}
	return all
}

// Spans are those received so far, in the order in which they came.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span(nil), c.spans...)
}

// Metrics are the last metrics received, by name, and their resource.
func (c *Collector) Metrics() (byName map[string]*metrics.Metric, of Attributes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	byName = make(map[string]*metrics.Metric, len(c.metrics))
	for name, metric := range c.metrics {
		byName[name] = metric
	}
	return byName, c.about
}

// Raw is every request as it came, but unzipped, as text to search.
func (c *Collector) Raw() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.raw)
}

// Errors are about requests that were not OTLP.
func (c *Collector) Errors() []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]error(nil), c.errors...)
}
