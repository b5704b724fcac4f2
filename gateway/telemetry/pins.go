package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"vault-plugin-secrets-mcp/backend/pin"
)

// Pins counts definitions without approval, and the reports of them. It is a
// [vault-plugin-secrets-mcp/gateway/pins.Observer].
type Pins struct {
	unapproved, reports *prometheus.CounterVec
	refused, lost       prometheus.Counter
}

// Pins adds the metrics of pins. waiting is the number of definitions that wait for a report.
func (m *Metrics) Pins(waiting func() int) *Pins {
	p := &Pins{
		unapproved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "pins_unapproved_total",
			Help: "Definitions that nobody has approved in answers of servers, and calls of names without an approved one, by server, kind and mode: observe, where they pass, or enforce.",
		}, []string{"server", "kind", "mode"}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "pins_reports_total",
			Help: "Reports to Vault of definitions that nobody has approved, by result: ok, failed, refused, or unsupported where the engine or the policy of the gateway's login takes none.",
		}, []string{"result"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "pins_refused_total",
			Help: "Definitions in reports that Vault does not keep: it has too many of the server, or nobody could approve them.",
		}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "pins_lost_total",
			Help: "Times that a definition was not noted for a report, since the server has too many.",
		}),
	}
	for _, result := range [...]string{"ok", "failed", "refused", "unsupported"} {
		p.reports.WithLabelValues(result)
	}
	m.registry.MustRegister(p.unapproved, p.reports, p.refused, p.lost)
	m.gauge("pins_waiting", "Definitions that wait for the next reports.", func() float64 { return float64(waiting()) })
	return p
}

// PinsUnapproved implements the observer of pins.
func (p *Pins) PinsUnapproved(server string, kind pin.Kind, mode pin.Mode) {
	p.unapproved.WithLabelValues(server, string(kind), string(mode)).Inc()
}

// PinsReported implements the observer of pins.
func (p *Pins) PinsReported(result string) { p.reports.WithLabelValues(result).Inc() }

// PinsRefused implements the observer of pins.
func (p *Pins) PinsRefused(definitions int) { p.refused.Add(float64(definitions)) }

// PinsLost implements the observer of pins.
func (p *Pins) PinsLost(definitions int) { p.lost.Add(float64(definitions)) }
