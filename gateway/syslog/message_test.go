package syslog

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leodido/go-syslog/v4/rfc5424"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

func TestAMessageIsAsRFC5424HasIt(t *testing.T) {
	host, err := os.Hostname()
	require.NoError(t, err)
	h := newHeader(&config.Syslog{Facility: "LOCAL3", Tag: "mcp-gateway"})
	m := &Message{Severity: Notice, Time: []byte("2026-11-30T09:15:02.123456Z"), ID: []byte("refusal"), Text: []byte(`{"a":"é\n\u2028😀"}`), Sequence: 41}
	require.Equal(t, "<157>1 2026-11-30T09:15:02.123456Z "+host+" mcp-gateway "+strconv.Itoa(os.Getpid())+
		` refusal [meta sequenceId="42"] {"a":"\u00e9\n\u2028\ud83d\ude00"}`, string(h.append(nil, m)))
	require.Equal(t, "<158>1 - "+host+" mcp-gateway "+strconv.Itoa(os.Getpid())+` - [meta sequenceId="1"] {}`,
		string(h.append(nil, &Message{Severity: Info, Text: []byte("{}")})))
}

func TestFacilitiesHaveTheirNumbers(t *testing.T) {
	for name, number := range map[string]int{"KERN": 0, "USER": 1, "DAEMON": 3, "AUTH": 4, "SYSLOG": 5, "CRON": 9, "AUTHPRIV": 10, "FTP": 11, "LOCAL0": 16, "LOCAL7": 23} {
		h := newHeader(&config.Syslog{Facility: name, Tag: "x"})
		require.Equal(t, number, h.facility, name)
	}
}

func TestSequenceNumbersBeginAgainAfterTheLargest(t *testing.T) {
	h := newHeader(&config.Syslog{Facility: "AUTH", Tag: "x"})
	for number, want := range map[uint64]string{0: "1", maxSequence - 1: "2147483647", maxSequence: "1", maxSequence + 1: "2"} {
		require.Contains(t, string(h.append(nil, &Message{Sequence: number})), `[meta sequenceId="`+want+`"]`)
	}
}

func TestAHostsNameIsCutToWhatAHeaderMayHave(t *testing.T) {
	for host, want := range map[string]string{"gw1.example.com": "gw1.example.com", "": "-", "a b\n]é": "ab]", " ": "-", strings.Repeat("x", 300): strings.Repeat("x", 255)} {
		require.Equal(t, want, visible(host, 255))
	}
}

// FuzzMessage: whatever text a client chose, the message is one that a strict parser reads,
// in ASCII alone, on one line, with JSON of the same meaning.
func FuzzMessage(f *testing.F) {
	for _, text := range []string{"", "a", "é", "😀", "\xff\xfe", "\"\\\n\r\t\x00\x7f", "\u2028\ufeff", `] "`, "<1>1 - - - - - - x"} {
		f.Add(text, uint64(7))
	}
	h := newHeader(&config.Syslog{Facility: "AUTH", Tag: "mcp-gateway"})
	f.Fuzz(func(t *testing.T, text string, sequence uint64) {
		line, err := json.Marshal(map[string]string{"tool": text})
		require.NoError(t, err)
		message := h.append(nil, &Message{Severity: Info, Time: []byte("2026-11-30T09:15:02.123456Z"), ID: []byte("decision"), Text: line, Sequence: sequence})
		for _, c := range message {
			require.True(t, c >= 32 && c < 128, "%q", message)
		}
		parsed, err := rfc5424.NewMachine().Parse(message)
		require.NoError(t, err, "%q", message)
		got := parsed.(*rfc5424.SyslogMessage)
		require.Equal(t, time.Date(2026, 11, 30, 9, 15, 2, 123456000, time.UTC), got.Timestamp.UTC())
		require.JSONEq(t, string(line), *got.Message)
	})
}
