package access

import (
	"errors"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/backend/token"
)

// auditor is the Sink of the middleware: it writes audit lines, one JSON object
// each. docs/gateway.md describes them field by field.
type auditor struct {
	log        *AuditLog
	refusals   *aggregate
	lineBuffer sync.Pool
}

func newAuditor(log *AuditLog) *auditor {
	a := &auditor{log: log}
	a.lineBuffer.New = func() any { return new(line) }
	a.refusals = newAggregate(func(l *line) { log.Append(l.b) })
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
	l.b = appendString(l.b, value)
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

func (l *line) addr(key string, value netip.Addr) {
	if !value.IsValid() {
		return
	}
	l.key(key)
	l.b = append(l.b, '"')
	l.b = value.WithZone("").AppendTo(l.b)
	l.b = append(l.b, '"')
}

func (l *line) end() { l.b = append(l.b, "}\n"...) }

// request appends what identifies the request, in every line about it.
func (l *line) request(r *Request) {
	l.field("request_id", r.ID)
	l.addr("source", r.Source)
	if r.Grant != nil {
		l.field("client", r.Grant.Client)
		l.field("client_id", r.Grant.ClientID)
		l.field("accessor", r.Grant.Accessor)
	}
	l.field("server", r.auditedServer())
	l.field("http_method", r.httpMethod)
	l.field("method", clip(r.Method))
	l.field("tool", clip(r.Tool))
	l.field("session", r.Session)
	l.field("trace_id", r.traceID())
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

// clip keeps what others wrote from filling the log, and from ending up there
// with a token in it: some client may send its own as the name of a tool.
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

func (a *auditor) Decision(r *Request, d Decision) error {
	l := a.lineBuffer.Get().(*line)
	defer a.lineBuffer.Put(l)
	l.start(time.Now(), "decision")
	l.request(r)
	l.decision(d)
	l.end()
	return a.log.Write(l.b)
}

func (a *auditor) Refused(r *Request, f *Refusal) {
	if r.Grant == nil {
		a.refusals.add(r, f)
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
