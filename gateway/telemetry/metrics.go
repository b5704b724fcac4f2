// Package telemetry counts requests, lookups and refusals for Prometheus. Where an
// OpenTelemetry collector is configured, it sends it these metrics and a span for every
// request.
//
// Labels are few and bounded: names of registered servers, methods of the protocol,
// reasons of refusals. Tokens, clients and tools are never labels. Spans also name the
// client, and the tool where the settings allow it. The tool's name comes from the client,
// so it is checked first. A token is never in a span.
package telemetry

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

const namespace = "mcp_gateway"

// Metrics are the gateway's.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	lookups  *prometheus.HistogramVec
	absences *prometheus.CounterVec
	inFlight prometheus.Gauge
	reloaded prometheus.Gauge
	signIn   *SignIn

	outcomes children[outcome, prometheus.Counter] // of requests
	took     children[string, prometheus.Observer] // of duration
}

// outcome are the labels of a request.
type outcome struct{ server, method, outcome string }

// children are those metrics of a vector that requests use: to find one by its labels takes the
// vector itself longer, and memory.
type children[K comparable, M any] struct {
	mu    sync.RWMutex
	known map[K]M
}

// of returns the metric of those labels, which add makes at the first time.
func (c *children[K, M]) of(labels K, add func(K) M) M {
	c.mu.RLock()
	m, ok := c.known[labels]
	c.mu.RUnlock()
	if ok {
		return m
	}
	m = add(labels) // twice gives the same one
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = make(map[K]M)
	}
	c.known[labels] = m
	return m
}

// New returns metrics that are all zero, for a gateway of that version.
func New(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "requests_total",
			Help: "Requests of MCP clients, by server, method and outcome: allowed, or the reason of the refusal.",
		}, []string{"server", "method", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "request_duration_seconds",
			Help:    "Time from a request's headers to the end of its answer, streams included.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600, 3600},
		}, []string{"server"}),
		lookups: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "lookup_duration_seconds",
			Help:    "Time that Vault took to answer about one token, by result: active, inactive or error.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
		}, []string{"result"}),
		absences: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "list_absences_total",
			Help: "Lists of /mcp in which a server's entries were missing, or older than they should be, by server and list.",
		}, []string{"server", "list"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "requests_in_flight",
			Help: "Requests in progress, streams included, with the requests that a request to /mcp causes at each server.",
		}),
	}
	m.reloaded = prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "config_last_reload_successful",
		Help: "0 after a SIGHUP that found a mistake in the configuration or its certificates: the old ones are in effect.",
	})
	m.reloaded.Set(1)
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info",
		Help:        "Always 1; the version is the label.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.signIn = newSignIn()
	m.registry.MustRegister(m.signIn.events, m.requests, m.duration, m.lookups, m.absences, m.inFlight, m.reloaded, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// gauge adds a gauge whose value is computed when Prometheus reads it.
func (m *Metrics) gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, value))
}

// Audit adds the state of the audit log.
func (m *Metrics) Audit(stats func() access.AuditStats) {
	m.gauge("audit_up", "1 while the audit log can be written. Otherwise requests that would be allowed are refused.", func() float64 {
		return boolean(stats().Up)
	})
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: namespace, Name: "audit_lines_lost_total",
		Help: "Lines that could not be written to the audit log. A decision among them was answered 503.",
	}, func() float64 { return float64(stats().Lost) }))
}

// RateLimited adds the requests that were refused for the rate limits of their clients.
func (m *Metrics) RateLimited(refused func() int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: namespace, Name: "client_rate_limited_total",
		Help: "Requests that were refused because their clients had sent more than their rate limits allow.",
	}, func() float64 { return float64(refused()) }))
}

// Syslog adds the state of the syslog server that gets audit lines.
func (m *Metrics) Syslog(stats func() access.AuditStats) {
	m.gauge("audit_syslog_up", "1 while the syslog server takes audit lines.", func() float64 { return boolean(stats().Up) })
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: namespace, Name: "audit_syslog_lines_lost_total",
		Help: "Audit lines that did not go to the syslog server, because too many waited for it.",
	}, func() float64 { return float64(stats().Lost) }))
}

// Certificate adds the end of the listener's certificate.
func (m *Metrics) Certificate(expires func() time.Time) {
	m.gauge("tls_certificate_expiry_timestamp_seconds", "When the listener's certificate ends, in seconds since 1970.", func() float64 {
		return float64(expires().Unix())
	})
}

// Reloaded records the result of a reload of the configuration.
func (m *Metrics) Reloaded(successful bool) { m.reloaded.Set(boolean(successful)) }

// Broker adds the state of the grants and of the change feed.
func (m *Metrics) Broker(stats func() grants.Stats, loggedIn func() bool) {
	gauge := m.gauge
	gauge("grants", "Tokens whose grants are in the cache.", func() float64 { return float64(stats().Grants) })
	gauge("negative_answers", "Tokens that Vault said no to, and that are remembered.", func() float64 { return float64(stats().Negatives) })
	gauge("servers", "Registered servers.", func() float64 { return float64(stats().Servers) })
	gauge("pins_unknown", "Pinned servers whose approvals Vault has not answered. Those whose pins are enforced are not available.", func() float64 { return float64(stats().Unpinned) })
	gauge("feed_up", "1 while the change feed answers: a revocation then takes effect within a second.", func() float64 {
		return boolean(stats().Feed == grants.FeedUp)
	})
	gauge("feed_age_seconds", "Time since the sending of the request for changes that was answered last.", func() float64 {
		sent := stats().FeedSent
		if sent.IsZero() {
			return -1
		}
		return time.Since(sent).Seconds()
	})
	gauge("kms_data_keys", "Data keys of sealed tokens that Vault has for this gateway.", func() float64 { return float64(stats().Seals.DataKeys) })
	gauge("kms_data_keys_usable", "Those of them that AWS KMS has unwrapped, and that are good.", func() float64 { return float64(stats().Seals.Usable) })
	gauge("kms_confirmed_age_seconds", "Time since AWS KMS confirmed the data key that it confirmed the longest ago.", func() float64 {
		confirmed := stats().Seals.Confirmed
		if confirmed.IsZero() {
			return -1
		}
		return time.Since(confirmed).Seconds()
	})
	gauge("vault_logged_in", "1 once Vault has accepted the gateway's login.", func() float64 { return boolean(loggedIn()) })
}

// Aggregate adds the state of /mcp.
func (m *Metrics) Aggregate(sessions func() int) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: namespace, Name: "sessions",
		Help: "Sessions of /mcp that live on this gateway.",
	}, func() float64 { return float64(sessions()) }))
}

// ListAbsent counts a list of /mcp in which a server's entries are missing.
func (m *Metrics) ListAbsent(server, list string) {
	m.absences.WithLabelValues(server, methodLabel(list)).Inc()
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// RequestStarted counts the start of a request.
func (m *Metrics) RequestStarted() { m.inFlight.Inc() }

// RequestDone counts its end. See [vault-plugin-secrets-mcp/gateway/access.Observer].
func (m *Metrics) RequestDone(server, method, reason string, took time.Duration) {
	m.inFlight.Dec()
	m.outcomes.of(outcome{server, methodLabel(method), reason}, func(o outcome) prometheus.Counter {
		return m.requests.WithLabelValues(o.server, o.method, o.outcome)
	}).Inc()
	if server != "" {
		m.took.of(server, func(server string) prometheus.Observer { return m.duration.WithLabelValues(server) }).Observe(took.Seconds())
	}
}

// LookupDone counts an answer of Vault about a token.
func (m *Metrics) LookupDone(result string, took time.Duration) {
	m.lookups.WithLabelValues(result).Observe(took.Seconds())
}

// methodLabel keeps texts of clients from becoming labels.
func methodLabel(method string) string {
	if method == "" || protocol.IsClientMethod(method) {
		return method
	}
	switch method {
	case "tasks/get", "tasks/list", "tasks/result", "tasks/cancel", "tasks/update":
		return method
	}
	return "other"
}
