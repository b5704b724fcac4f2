package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vault-plugin-secrets-mcp/gateway/credentials"
)

// Credentials counts the credentials that the gateway leases from Vault for servers. It
// is a [credentials.Observer].
type Credentials struct {
	minted   prometheus.Counter
	failures *prometheus.CounterVec
	revoked  *prometheus.HistogramVec
}

// Credentials adds the credentials of servers that are leased from Vault. Its metrics are zero
// until the gateway leases some.
func (m *Metrics) Credentials(stats func() credentials.Stats) *Credentials {
	c := &Credentials{
		minted: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "credential_mints_total",
			Help: "Times that credentials of a server were taken from Vault for one client, replacements included.",
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "credential_failures_total",
			Help: "Times that credentials of a server could not be had, by failure.",
		}, []string{"failure"}),
		revoked: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "credential_revocation_duration_seconds",
			Help:    "Time from the end of credentials until Vault had ended them, by result: revoked, or expired where Vault could not be told.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600},
		}, []string{"result"}),
	}
	m.registry.MustRegister(c.minted, c.failures, c.revoked)
	m.gauge("credentials", "Credentials of servers that are leased from Vault at present.", func() float64 { return float64(stats().Leases) })
	m.gauge("credential_principals", "Clients for which credentials of servers are leased at present.", func() float64 { return float64(stats().Principals) })
	m.gauge("credential_revocations_pending", "Vault tokens of credentials that have ended, and that Vault has not ended yet.", func() float64 { return float64(stats().Revoking) })
	return c
}

// CredentialsMinted implements [credentials.Observer].
func (c *Credentials) CredentialsMinted() { c.minted.Inc() }

// CredentialsFailed implements [credentials.Observer].
func (c *Credentials) CredentialsFailed(failure string) { c.failures.WithLabelValues(failure).Inc() }

// CredentialsRevoked implements [credentials.Observer].
func (c *Credentials) CredentialsRevoked(ok bool, took time.Duration) {
	result := "revoked"
	if !ok {
		result = "expired"
	}
	c.revoked.WithLabelValues(result).Observe(took.Seconds())
}
