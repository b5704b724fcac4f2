package telemetry

import "github.com/prometheus/client_golang/prometheus"

// SignIn counts the events of sign-ins. It is a [signin.Observer].
//
// [signin.Observer]: vault-plugin-secrets-mcp/gateway/signin
type SignIn struct{ events *prometheus.CounterVec }

// signInEvents are all of them, so that each is 0 from the beginning: an alert on the increase
// of one would miss its first otherwise.
var signInEvents = [...]string{
	"begun", "login", "refused", "consent", "denied", "code", "token", "refreshed", "repeated", "replayed", "ended", "machine",
}

func newSignIn() *SignIn {
	s := &SignIn{events: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "sign_in_events_total",
		Help: "Events of sign-ins, by event. A refresh token that is repeated within its grace may be a thief's; one that is replayed has ended its sign-in.",
	}, []string{"event"})}
	for _, event := range signInEvents {
		s.events.WithLabelValues(event)
	}
	return s
}

// SignIn returns the counter of sign-ins, which is zero until there are some.
func (m *Metrics) SignIn() *SignIn { return m.signIn }

// SignInEvent implements signin.Observer.
func (s *SignIn) SignInEvent(event string) { s.events.WithLabelValues(event).Inc() }
