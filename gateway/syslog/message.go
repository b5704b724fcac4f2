package syslog

import (
	"os"
	"slices"
	"strconv"
	"unicode/utf8"

	"vault-plugin-secrets-mcp/gateway/config"
)

// Severities (RFC 5424 section 6.2.1).
const (
	Notice = 5
	Info   = 6
)

// Message is one message, as far as it differs from others.
type Message struct {
	Severity int
	Time     []byte // RFC 3339 with at most six digits of a second, as RFC 5424 section 6.2.3 has it; empty: unknown
	ID       []byte // MSGID: visible ASCII; empty: none
	Text     []byte // JSON, without control characters
	Sequence uint64 // shows a receiver which messages are missing; the first is 0
}

// header are the parts of a message's header that all messages of a process have alike.
type header struct {
	facility int
	origin   string // HOSTNAME SP APP-NAME SP PROCID
}

func newHeader(settings *config.Syslog) header {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return header{
		facility: slices.Index(config.Facilities, settings.Facility),
		origin:   visible(host, 255) + " " + visible(settings.Tag, 48) + " " + strconv.Itoa(os.Getpid()),
	}
}

// visible is the text as far as a header may have it, or the NILVALUE.
func visible(text string, most int) string {
	kept := make([]byte, 0, len(text))
	for i := range len(text) {
		if c := text[i]; c > 32 && c < 127 && len(kept) < most {
			kept = append(kept, c)
		}
	}
	if len(kept) == 0 {
		return "-"
	}
	return string(kept)
}

// maxSequence is the largest sequenceId; after it comes 1 (RFC 5424 section 7.3.1).
const maxSequence = 1<<31 - 1

// append appends a message (RFC 5424 section 6):
//
//	<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID [meta sequenceId="1"] MSG
//
// MSG is JSON in ASCII alone: other characters are escaped, which JSON allows everywhere. So
// it needs no byte order mark, which UTF-8 would (section 6.4), and which parsers of JSON
// refuse.
func (h *header) append(b []byte, m *Message) []byte {
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(h.facility*8+m.Severity), 10)
	b = append(b, ">1 "...)
	b = appendValue(b, m.Time)
	b = append(b, ' ')
	b = append(b, h.origin...)
	b = append(b, ' ')
	b = appendValue(b, m.ID)
	b = append(b, ` [meta sequenceId="`...)
	b = strconv.AppendUint(b, m.Sequence%maxSequence+1, 10)
	b = append(b, `"] `...)
	return appendASCII(b, m.Text)
}

// appendValue appends a field of the header; the NILVALUE where it is empty.
func appendValue(b, value []byte) []byte {
	if len(value) == 0 {
		return append(b, '-')
	}
	return append(b, value...)
}

// appendASCII appends JSON with everything that is not ASCII escaped (RFC 8259 section 7).
func appendASCII(b, text []byte) []byte {
	from := 0
	for at := 0; at < len(text); {
		if text[at] < utf8.RuneSelf {
			at++
			continue
		}
		b = append(b, text[from:at]...)
		r, size := utf8.DecodeRune(text[at:])
		if r > 0xffff {
			r -= 0x10000
			b = appendEscape(b, 0xd800+r>>10)
			r = 0xdc00 + r&0x3ff
		}
		b = appendEscape(b, r)
		at += size
		from = at
	}
	return append(b, text[from:]...)
}

func appendEscape(b []byte, unit rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[unit>>12&15], digits[unit>>8&15], digits[unit>>4&15], digits[unit&15])
}
