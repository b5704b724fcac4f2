package telemetry

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// TestMetricsKeepTheConventions has Prometheus's own linter read all metrics.
func TestMetricsKeepTheConventions(t *testing.T) {
	m := New("v1.0.0")
	m.Broker(func() grants.Stats { return grants.Stats{} }, func() bool { return true })
	m.Audit(func() access.AuditStats { return access.AuditStats{} })
	m.Certificate(time.Now)
	pins := m.Pins(func() int { return 0 })
	pins.PinsUnapproved("files", "tool", "enforce")
	pins.PinsReported("ok")
	m.RequestStarted()
	m.RequestDone("files", "tools/call", "allowed", time.Millisecond)
	m.LookupDone("active", time.Millisecond)
	problems, err := testutil.GatherAndLint(m.registry)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// TestLabelsAreBounded: a client's texts never make new time series.
func TestLabelsAreBounded(t *testing.T) {
	m := New("v1.0.0")
	for range 3 {
		m.RequestStarted()
	}
	m.RequestDone("files", "mcpt_0123456789", "allowed", time.Millisecond)
	m.RequestDone("files", "some/method", "allowed", time.Millisecond)
	m.RequestDone("", "", "no-token", time.Millisecond)
	require.Equal(t, 2, testutil.CollectAndCount(m.requests))
	require.InDelta(t, 2, testutil.ToFloat64(m.requests.WithLabelValues("files", "other", "allowed")), 0)
	require.Equal(t, 1, testutil.CollectAndCount(m.duration), "a request without a server has no duration to be watched")
}

// TestEventsOfSignInsBeginAtZero, so that an alert sees the first one.
func TestEventsOfSignInsBeginAtZero(t *testing.T) {
	s := New("v1.0.0").SignIn()
	s.SignInEvent("replayed")
	require.Equal(t, len(signInEvents), testutil.CollectAndCount(s.events))
	require.InDelta(t, 1, testutil.ToFloat64(s.events.WithLabelValues("replayed")), 0)
	require.InDelta(t, 0, testutil.ToFloat64(s.events.WithLabelValues("repeated")), 0)
}
