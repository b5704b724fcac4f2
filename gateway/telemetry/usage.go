package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"vault-plugin-secrets-mcp/gateway/usage"
)

// Usage counts reports of usage. It is a [usage.Observer].
type Usage struct {
	reports       *prometheus.CounterVec
	refused, lost prometheus.Counter
}

// Usage adds the metrics of usage.
func (m *Metrics) Usage(stats func() usage.Stats) *Usage {
	u := &Usage{
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "usage_reports_total",
			Help: "Reports of usage to Vault, by result: ok, failed, or unsupported where the engine or the policy of the gateway's login takes none.",
		}, []string{"result"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "usage_rows_refused_total",
			Help: "Clients, tokens and tools in reports that Vault does not keep, since they are gone.",
		}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "usage_lost_total",
			Help: "Uses for which the gateway had no room, or which Vault was not told of in time. The days are not complete in Vault.",
		}),
	}
	for _, result := range [...]string{"ok", "failed", "unsupported"} {
		u.reports.WithLabelValues(result)
	}
	m.registry.MustRegister(u.reports, u.refused, u.lost)
	m.gauge("usage_rows", "Clients, tokens and tools that were used today or yesterday.", func() float64 { return float64(stats().Rows) })
	m.gauge("usage_rows_waiting", "Those of them that wait for the next report.", func() float64 { return float64(stats().Waiting) })
	return u
}

// UsageReported implements [usage.Observer].
func (u *Usage) UsageReported(result string) { u.reports.WithLabelValues(result).Inc() }

// UsageRefused implements [usage.Observer].
func (u *Usage) UsageRefused(rows int) { u.refused.Add(float64(rows)) }

// UsageLost implements [usage.Observer].
func (u *Usage) UsageLost(rows int) { u.lost.Add(float64(rows)) }
