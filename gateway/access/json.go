package access

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// appendString appends s as a JSON string. Nearly all strings here are plain,
// and are copied as they are.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return appendQuoted(b, s)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// appendQuoted is appendString for the others. What is not UTF-8 is replaced. "<"
// and ">" stay as they are, for they are read by people, and never within HTML.
func appendQuoted(b []byte, s string) []byte {
	var quoted bytes.Buffer
	encoder := json.NewEncoder(&quoted)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil { // strings always have a JSON form
		return append(b, `""`...)
	}
	return append(b, bytes.TrimSuffix(quoted.Bytes(), []byte("\n"))...)
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
