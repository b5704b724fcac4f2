package access

import (
	"errors"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/backend/token"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// auditor is the Sink of the middleware: it writes audit lines, one JSON object
// each. docs/gateway.md describes them field by field.
type auditor struct {
	log        *AuditLog
	refusals   *refusalCounts // of requests without a known token
	limited    *limitedCounts // of clients that exceed their rates
	lineBuffer sync.Pool
}

func newAuditor(log *AuditLog) *auditor {
	a := &auditor{log: log}
	a.lineBuffer.New = func() any { return new(line) }
	a.refusals = newRefusalCounts(func(l *line) { log.Append(l.b) })
	a.limited = newLimitedCounts(func(l *line) { log.Append(l.b) })
	return a
}

// line builds one audit line.
type line struct{ b []byte }

func (l *line) start(now time.Time, kind string) {
	l.b = append(l.b[:0], `{"time":"`...)
	l.b = appendTime(l.b, now)
	l.b = append(l.b, `","type":"`...)
	l.b = append(l.b, kind...)
	l.b = append(l.b, '"')
}

// field appends a member, unless its value is empty. Keys are constants.
func (l *line) field(key, value string) {
	if value == "" {
		return
	}
	l.key(key)
	l.b = protocol.AppendString(l.b, value)
}

func (l *line) key(key string) {
	l.b = append(l.b, `,"`...)
	l.b = append(l.b, key...)
	l.b = append(l.b, `":`...)
}

func (l *line) number(key string, value int64) {
	l.key(key)
	l.b = strconv.AppendInt(l.b, value, 10)
}

func (l *line) list(key string, values []string) {
	if len(values) == 0 {
		return
	}
	l.key(key)
	for i, value := range values {
		l.b = append(l.b, "[,"[min(i, 1)])
		l.b = protocol.AppendString(l.b, value)
	}
	l.b = append(l.b, ']')
}

func (l *line) source(value netip.Addr) {
	if !value.IsValid() {
		return
	}
	l.key("source")
	l.b = append(l.b, '"')
	l.b = value.WithZone("").AppendTo(l.b)
	l.b = append(l.b, '"')
}

func (l *line) end() { l.b = append(l.b, "}\n"...) }

// request appends the fields that identify the request. Every line about it has them.
func (l *line) request(r *Request) {
	l.field("request_id", r.ID)
	l.source(r.Source)
	if r.Grant != nil {
		l.field("client", r.Grant.Client)
		l.field("client_id", r.Grant.ClientID)
		l.field("accessor", r.Grant.Accessor)
		l.person(r.Grant.SignIn)
	}
	l.field("server", r.auditedServer())
	l.field("http_method", r.httpMethod)
	l.field("method", clip(r.Method))
	l.field("tool", clip(r.Tool))
	l.field("prompt", clip(r.Prompt))
	l.field("resource", clip(r.ResourceURI))
	l.field("session", r.Session)
	l.field("trace_id", r.traceID())
}

// person appends who has signed in, and with what.
func (l *line) person(s *grants.SignIn) {
	if s == nil {
		return
	}
	l.field("person", clip(s.Person))
	l.field("entity_id", s.EntityID)
	l.field("application", clip(s.Application))
	l.field("sign_in", s.Accessor)
}

func (l *line) decision(d Decision) {
	verdict := "deny"
	if d.Allow {
		verdict = "allow"
	}
	l.field("decision", verdict)
	l.field("reason", d.Reason)
	l.field("detail", clip(d.Detail))
}

// issued is a token of the engine's own, or the beginning of one.
var issued = regexp.MustCompile("(" + token.Prefix + "|" + token.SealedPrefix + ")[0-9A-Za-z_-]{8,}")

// clip shortens text that others wrote, so that it cannot fill the log, and cuts tokens
// out of it: a client may send its own as the name of a tool.
func clip(text string) string {
	const most = 500
	if len(text) > most {
		text = text[:most]
	}
	if strings.Contains(text, token.Prefix) || strings.Contains(text, token.SealedPrefix) {
		text = issued.ReplaceAllString(text, "${1}…")
	}
	return text
}

// maxName bounds what of a client's own text is repeated in the audit log, in bytes.
const maxName = 128

// Bounded cuts a client's text for the audit log.
func Bounded(text string) string {
	if len(text) <= maxName {
		return text
	}
	return strings.ToValidUTF8(text[:maxName], "") + "…"
}

// userInfo is a user, and perhaps a password, in a URI.
var userInfo = regexp.MustCompile(`://[^/?#]*@`)

// AuditedName is the name of an item as the audit log has it: bounded, and of a URI without
// the parts that may hold credentials, or what somebody searches for.
func AuditedName(kind policy.Item, name string) string {
	if kind == policy.Resource {
		if at := strings.IndexAny(name, "?#"); at >= 0 {
			name = name[:at+1] + "…"
		}
		if strings.Contains(name, "@") {
			name = userInfo.ReplaceAllLiteralString(name, "://…@")
		}
	}
	return Bounded(name)
}

func (a *auditor) Decision(r *Request, d Decision) error {
	l := a.lineBuffer.Get().(*line)
	defer a.lineBuffer.Put(l)
	l.start(time.Now(), "decision")
	l.request(r)
	l.decision(d)
	if r.Credentials != nil {
		l.field("credential_accessor", r.Credentials.Accessor())
		l.field("person_credential_accessor", r.Credentials.PersonAccessor())
		l.list("lease_ids", r.Credentials.LeaseIDs())
	}
	l.end()
	return a.log.Write(l.b)
}

func (a *auditor) Refused(r *Request, f *Refusal) {
	if r.Grant == nil {
		a.refusals.add(refusalKey{reason: f.Reason}, refusalCount{status: f.Status, addr: r.Source, detail: f.Detail}, r.ID)
		return
	}
	if f.Reason == ReasonRateLimited && a.limited.add(r, f) {
		return
	}
	l := a.lineBuffer.Get().(*line)
	defer a.lineBuffer.Put(l)
	l.start(time.Now(), "refusal")
	l.request(r)
	l.decision(Decision{Reason: f.Reason, Detail: f.Detail})
	l.number("status", int64(f.Status))
	l.end()
	a.log.Append(l.b)
}

func (a *auditor) Outcome(r *Request, o Outcome) {
	l := a.lineBuffer.Get().(*line)
	defer a.lineBuffer.Put(l)
	now := time.Now()
	l.start(now, "outcome")
	l.request(r)
	l.number("status", int64(o.Status))
	l.number("bytes", o.Bytes)
	l.key("duration_ms")
	l.b = appendMilliseconds(l.b, now.Sub(r.Start))
	if n := r.unapproved.Load(); n > 0 {
		l.number("unapproved", n)
	}
	l.outcomeError(o.Err)
	l.end()
	a.log.Append(l.b)
}

func (l *line) outcomeError(err error) {
	if err == nil {
		return
	}
	var f *Refusal
	if errors.As(err, &f) {
		l.field("reason", f.Reason)
		l.field("detail", clip(f.Detail))
		return
	}
	l.field("error", clip(err.Error()))
}

// appendTime appends a time as RFC 3339 in UTC, to the microsecond. It is
// written by hand for being in every line: time.AppendFormat takes five times
// as long.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	b = appendDigits(b, year, 4)
	b = append(b, '-')
	b = appendDigits(b, int(month), 2)
	b = append(b, '-')
	b = appendDigits(b, day, 2)
	b = append(b, 'T')
	b = appendDigits(b, hour, 2)
	b = append(b, ':')
	b = appendDigits(b, minute, 2)
	b = append(b, ':')
	b = appendDigits(b, second, 2)
	b = append(b, '.')
	b = appendDigits(b, t.Nanosecond()/1000, 6)
	return append(b, 'Z')
}

// appendMilliseconds appends a duration in milliseconds, with three decimals.
func appendMilliseconds(b []byte, d time.Duration) []byte {
	microseconds := max(d.Microseconds(), 0)
	b = strconv.AppendInt(b, microseconds/1000, 10)
	b = append(b, '.')
	return appendDigits(b, int(microseconds%1000), 3)
}

// appendDigits appends the last width digits of n.
func appendDigits(b []byte, n, width int) []byte {
	end := len(b) + width
	for range width {
		b = append(b, '0')
	}
	for i := end - 1; i >= end-width; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
	return b
}
