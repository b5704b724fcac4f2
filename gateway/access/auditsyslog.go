package access

import (
	"bytes"

	"vault-plugin-secrets-mcp/gateway/syslog"
)

// auditSyslog is the output to a syslog server. A write waits until there is one that takes
// the lines, so lines are lost only where too many wait.
type auditSyslog struct{ client *syslog.Client }

func (s *auditSyslog) write(first uint64, lines []byte) (lost int, err error) {
	for line := range bytes.Lines(lines) {
		m := messageOf(bytes.TrimSuffix(line, []byte{'\n'}))
		m.Sequence = first
		s.client.Add(&m)
		first++
	}
	return s.client.Flush()
}

// The beginning of each line is that of [line.start].
const (
	lineTime = `{"time":"`
	lineType = `","type":"`
	timeForm = "2006-01-02T15:04:05.000000Z"
)

// messageOf makes a message of a line: its type is the MSGID, and refusals stand out by their
// severity.
func messageOf(line []byte) syslog.Message {
	m := syslog.Message{Severity: syslog.Info, Text: line}
	rest, ok := bytes.CutPrefix(line, []byte(lineTime))
	if !ok || len(rest) < len(timeForm) {
		return m
	}
	at, rest := rest[:len(timeForm)], rest[len(timeForm):]
	if rest, ok = bytes.CutPrefix(rest, []byte(lineType)); !ok {
		return m
	}
	kind, _, _ := bytes.Cut(rest, []byte{'"'})
	m.Time, m.ID = at, kind
	if bytes.HasPrefix(kind, []byte("refusal")) {
		m.Severity = syslog.Notice
	}
	return m
}

func (*auditSyslog) mayHang() bool { return true }
func (s *auditSyslog) up() bool    { return s.client.Up() }
func (s *auditSyslog) reopen()     { s.client.Reconnect() } // also while a write waits
func (s *auditSyslog) abort()      { s.client.Close() }
func (s *auditSyslog) close()      { s.client.Close() }
