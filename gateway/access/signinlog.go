package access

import (
	"net/netip"
	"time"
)

// SignInEvent is something that happened in a sign-in, for the audit log. It never has a
// token, a code, a secret or an assertion.
type SignInEvent struct {
	RequestID string     // see [Visit]
	Source    netip.Addr // likewise

	Event  string // what happened: a word
	Reason string // why it was refused: a word; "" if it was not
	Detail string // more about it, in words
	Status int    // of the answer; 0: it is not known yet

	Client      string // the identity: a client's name
	ClientID    string
	Person      string
	EntityID    string
	Application string // its id
	SignIn      string // the accessor of the person's Vault token
	Login       string
	Resource    string
	Accessor    string // of the token that was leased
	Generation  uint64 // of the refresh token; 0: it has none

	// Of a machine's assertion (RFC 7523): whom it is about, and who acts for them (RFC 8693).
	Subject string
	Actor   string
}

// SignInAudit takes the audit lines of sign-ins.
type SignInAudit interface {
	// Record returns once the line is written, or with [ErrAudit]. Nothing may be handed out
	// before that.
	Record(e SignInEvent) error
	// Count counts the refusal of a stranger. There is one line for each source, event, reason
	// and second, so that nobody can fill the disk.
	Count(e SignInEvent)
}

// SignInLog writes the audit lines of sign-ins to the audit log.
type SignInLog struct {
	log      *AuditLog
	refusals *refusalCounts
}

var _ SignInAudit = (*SignInLog)(nil)

// NewSignInAudit returns the log of sign-ins in this audit log. Close it before the log.
func NewSignInAudit(log *AuditLog) *SignInLog {
	return &SignInLog{log: log, refusals: newRefusalCounts(func(l *line) { log.Append(l.b) })}
}

// Record implements [SignInAudit].
func (s *SignInLog) Record(e SignInEvent) error {
	l := new(line)
	l.start(time.Now(), "sign-in")
	l.field("request_id", e.RequestID)
	l.source(e.Source)
	l.field("event", e.Event)
	l.field("client", e.Client)
	l.field("client_id", e.ClientID)
	l.field("person", clip(e.Person))
	l.field("entity_id", e.EntityID)
	l.field("application", clip(e.Application))
	l.field("sign_in", e.SignIn)
	l.field("login", e.Login)
	l.field("resource", clip(e.Resource))
	l.field("accessor", e.Accessor)
	if e.Generation != 0 {
		l.number("generation", int64(e.Generation)) //nolint:gosec // it counts refreshes
	}
	l.field("subject", clip(e.Subject))
	l.field("actor", clip(e.Actor))
	l.field("reason", e.Reason)
	l.field("detail", clip(e.Detail))
	if e.Status != 0 {
		l.number("status", int64(e.Status))
	}
	l.end()
	return s.log.Write(l.b)
}

// Count implements [SignInAudit].
func (s *SignInLog) Count(e SignInEvent) {
	s.refusals.add(refusalKey{event: e.Event, reason: e.Reason}, refusalCount{status: e.Status, addr: e.Source, detail: e.Detail}, e.RequestID)
}

// Close writes the counted refusals.
func (s *SignInLog) Close() { s.refusals.flush() }
