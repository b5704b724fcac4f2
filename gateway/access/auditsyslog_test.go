package access

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/syslog"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// twoSinks is an audit log with a file and a syslog server.
type twoSinks struct {
	*AuditLog
	server *gatewaytest.Syslog
	path   string
	own    *gatewaytest.Log // the gateway's own
}

// openTwo starts a server, and opens the log unless the server is to be away.
func openTwo(t *testing.T, required, away bool) *twoSinks {
	t.Helper()
	s := &twoSinks{server: gatewaytest.NewSyslog(t, "tcp", "127.0.0.1:0", nil), path: filepath.Join(t.TempDir(), "audit.log"), own: &gatewaytest.Log{}}
	if away {
		s.server.Stop()
	}
	settings := config.Audit{File: s.path, Syslog: &config.Syslog{
		Address: s.server.Address, SocketType: config.SocketTCP, Facility: "AUTH", Tag: "mcp-gateway", Required: required, MaxQueue: 64 << 10,
	}}
	var err error
	s.AuditLog, err = OpenAuditLog(settings, hclog.New(&hclog.LoggerOptions{Output: s.own}))
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func decision(i int) []byte {
	return fmt.Appendf(nil, `{"time":"2026-11-30T09:15:02.123456Z","type":"decision","n":%d,"x":"%s"}`+"\n", i, strings.Repeat("x", 300))
}

// writes has decisions written until one is.
func (s *twoSinks) writes(t *testing.T) {
	t.Helper()
	gatewaytest.Eventually(t, "a decision is written", func() bool { return s.Write(decision(-1)) == nil })
}

func TestADecisionIsInTheFileAndSentToARequiredSyslogServer(t *testing.T) {
	s := openTwo(t, true, false)
	for i := range 20 {
		require.NoError(t, s.Write(decision(i)))
		content, err := os.ReadFile(s.path)
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(string(content), string(decision(i))))
		gatewaytest.Eventually(t, "it comes", func() bool { return len(s.server.Messages()) == i+1 })
		require.Equal(t, strings.TrimSuffix(string(decision(i)), "\n"), s.server.Messages()[i].Text)
	}
	require.True(t, s.SyslogStats()().Up)
}

func TestNoDecisionIsWrittenWithoutARequiredSyslogServer(t *testing.T) {
	s := openTwo(t, true, true)
	started := time.Now()
	require.ErrorIs(t, s.Write(decision(0)), ErrAudit)
	require.Less(t, time.Since(started), 2*auditTimeout)
	started = time.Now()
	for i := range 100 {
		require.ErrorIs(t, s.Write(decision(i)), ErrAudit)
	}
	require.Less(t, time.Since(started), auditTimeout/2, "nobody waits for what is known to be away")
	require.False(t, s.SyslogStats()().Up)
	require.True(t, s.Stats().Up, "the file is well")
	content, err := os.ReadFile(s.path)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(content), "\n"), "a decision that cannot be sent is not in the file either, once that is known")

	s.server.Start(t)
	s.writes(t)
	require.True(t, s.SyslogStats()().Up)
	require.Contains(t, s.own.String(), "the syslog server hangs: requests that would be allowed are refused")
	require.Contains(t, s.own.String(), "the syslog server can be written again")
}

func TestNoDecisionIsWrittenWhileARequiredSyslogServerDoesNotRead(t *testing.T) {
	s := openTwo(t, true, false)
	require.NoError(t, s.Write(decision(0)))
	s.server.Pause(true)
	large := []byte(`{"time":"2026-11-30T09:15:02.123456Z","type":"outcome","x":"` + strings.Repeat("x", 32<<10) + "\"}\n")
	refused := 0
	gatewaytest.Eventually(t, "what the sockets hold is full", func() bool {
		if errors.Is(s.Write(large), ErrAudit) {
			refused++
		}
		return refused > 0
	})
	require.ErrorIs(t, s.Write(decision(1)), ErrAudit)
	s.server.Pause(false)
	s.writes(t)
}

func TestADecisionThatOnlyTheSyslogServerHasIsNone(t *testing.T) {
	s := openTwo(t, true, false)
	out := newSluice()
	out.err = errors.New("no space left on device")
	s.file.close()
	s.file = newFileWriter(&auditFile{log: hclog.NewNullLogger(), file: out}, hclog.NewNullLogger())
	require.ErrorIs(t, s.Write(decision(0)), ErrAudit)
	gatewaytest.Eventually(t, "the server has it", func() bool { return len(s.server.Messages()) == 1 })
	out.set(func() { out.err = nil })
	require.NoError(t, s.Write(decision(1)))
}

// TestASyslogServerThatIsNotRequiredHoldsNobodyUp: what waits for it is bounded, what is lost
// is counted and told, and the receiver sees how much it is.
func TestASyslogServerThatIsNotRequiredHoldsNobodyUp(t *testing.T) {
	s := openTwo(t, false, true)
	const lines = 1000 // about 400 KB, of which 64 KB wait
	started := time.Now()
	for i := range lines {
		require.NoError(t, s.Write(decision(i)))
	}
	require.Less(t, time.Since(started), 5*time.Second)
	lost := s.SyslogStats()().Lost
	require.Positive(t, lost)
	require.Less(t, lost, lines)
	require.Contains(t, s.own.String(), "too many lines wait for the syslog server: further ones are lost")
	gatewaytest.Eventually(t, "the log tells that it hangs", func() bool {
		return strings.Contains(s.own.String(), "the syslog server hangs: lines wait in memory")
	})

	s.server.Start(t)
	gatewaytest.Eventually(t, "what waited is sent", func() bool { return len(s.server.Messages()) == lines-lost })
	require.Contains(t, s.own.String(), fmt.Sprintf("lines_lost=%d", lost))
	require.NoError(t, s.Write(decision(lines)))
	gatewaytest.Eventually(t, "the next comes", func() bool { return len(s.server.Messages()) == lines-lost+1 })
	gap := 0
	messages := s.server.Messages()
	for i := 1; i < len(messages); i++ {
		gap += messages[i].Sequence - messages[i-1].Sequence - 1
	}
	require.Equal(t, lost, gap)
	content, err := os.ReadFile(s.path)
	require.NoError(t, err)
	require.Equal(t, lines+1, strings.Count(string(content), "\n"), "the file has all of them")
}

func TestWhatWaitsIsSentAtTheEnd(t *testing.T) {
	s := openTwo(t, false, false)
	s.writes(t)
	for i := range 50 {
		s.Append(decision(i))
	}
	s.Close()
	gatewaytest.Eventually(t, "all come", func() bool { return len(s.server.Messages()) == 51 })
	require.NotContains(t, s.own.String(), "could not be written")
}

func TestTheEndDoesNotWaitForAServerThatIsAway(t *testing.T) {
	s := openTwo(t, false, true)
	require.NoError(t, s.Write(decision(0)))
	started := time.Now()
	s.Close()
	require.Less(t, time.Since(started), 3*auditTimeout)
	require.Contains(t, s.own.String(), "lines that remain could not be written to the syslog server")
	gatewaytest.Eventually(t, "the line counts as lost", func() bool { return s.SyslogStats()().Lost == 1 })
	require.ErrorIs(t, s.Write(decision(1)), ErrAudit)
}

func TestReopenConnectsToTheSyslogServerAgain(t *testing.T) {
	s := openTwo(t, true, false)
	s.writes(t)
	s.Reopen()
	gatewaytest.Eventually(t, "another connection", func() bool { return strings.Count(s.own.String(), "connected to the syslog server") == 2 })
	s.writes(t)
}

// TestLinesAreMessagesWhateverIsInThem: each type of line has its MSGID and severity, and
// what clients and servers wrote breaks nothing.
func TestLinesAreMessagesWhateverIsInThem(t *testing.T) {
	s := openTwo(t, true, false)
	a := newAuditor(s.AuditLog)
	lookup := vaultclient.Lookup{Active: true, Client: "a\"b\\c\n{}", ClientID: "\x00\x1f", Accessor: "\xff\xfe"}
	grant, err := grants.NewGrant(&lookup, time.Now())
	require.NoError(t, err)
	nasty := strings.Repeat("\"\\\n\r\t\x00\u2028\ufeffé😀\xff]<14>1 ", 30)
	r := &Request{ID: nasty, Source: netip.MustParseAddr("192.0.2.1"), Grant: grant, Method: nasty, Tool: nasty, Session: nasty, httpMethod: nasty, sink: a}
	require.NoError(t, r.Decide(Decision{Allow: true, Reason: nasty, Detail: nasty}))
	r.Outcome(200, 1, errors.New(nasty))
	a.Refused(r, &Refusal{Status: 403, Reason: nasty, Detail: nasty})
	a.Refused(&Request{ID: nasty}, &Refusal{Status: 401, Reason: nasty, Detail: nasty})
	a.refusals.flush()
	gatewaytest.Eventually(t, "all come", func() bool { return len(s.server.Messages()) == 4 || len(s.server.Faults()) > 0 })
	require.Empty(t, s.server.Faults())
	s.Close()
	content, err := os.ReadFile(s.path)
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
	require.Len(t, lines, 4)
	for i, want := range []struct {
		kind     string
		severity int
	}{{"decision", syslog.Info}, {"outcome", syslog.Info}, {"refusal", syslog.Notice}, {"refusals", syslog.Notice}} {
		got := s.server.Messages()[i]
		require.JSONEq(t, lines[i], got.Text)
		require.Equal(t, want.kind, got.Type)
		require.Equal(t, want.severity, got.Severity)
		require.Contains(t, lines[i], `{"time":"`+got.Time+`"`)
	}
}

func TestALineOfAnotherFormIsAMessageAllTheSame(t *testing.T) {
	for _, line := range []string{``, `{}`, `{"time":"2026"}`, `{"time":"2026-11-30T09:15:02.123456Z"}`, `{"time":"2026-11-30T09:15:02.123456Z","type`} {
		require.Equal(t, syslog.Message{Severity: syslog.Info, Text: []byte(line)}, messageOf([]byte(line)))
	}
}

func BenchmarkDecisionAndOutcomeWithSyslog(b *testing.B) {
	for name, required := range map[string]bool{"required": true, "not required": false} {
		b.Run(name, func(b *testing.B) {
			server := newDrain(b)
			log, err := OpenAuditLog(config.Audit{File: filepath.Join(b.TempDir(), "audit.log"), Syslog: &config.Syslog{
				Address: server, SocketType: config.SocketTCP, Facility: "AUTH", Tag: "mcp-gateway", Required: required, MaxQueue: 64 << 20,
			}}, hclog.NewNullLogger())
			require.NoError(b, err)
			defer log.Close()
			gatewaytest.Eventually(b, "the server is there", func() bool { return log.Write(decision(0)) == nil && log.SyslogStats()().Up })
			benchmarkDecisionAndOutcome(b, log)
			b.ReportMetric(float64(log.SyslogStats()().Lost), "lost")
		})
	}
}

// newDrain is a server that takes everything and looks at nothing.
func newDrain(b *testing.B) (address string) {
	b.Helper()
	var network net.ListenConfig
	listener, err := network.Listen(b.Context(), "tcp", "127.0.0.1:0")
	require.NoError(b, err)
	b.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
	}()
	return listener.Addr().String()
}

func TestBothHaveTheLinesInOneOrder(t *testing.T) {
	for name, required := range map[string]bool{"required": true, "not required": false} {
		t.Run(name, func(t *testing.T) {
			s := openTwo(t, required, false)
			s.writes(t)
			var group sync.WaitGroup
			for w := range 8 {
				group.Go(func() {
					for i := range 50 {
						if err := s.Write(fmt.Appendf(nil, "{\"decision\":\"%d %d\"}\n", w, i)); err != nil {
							t.Error(err)
						}
						s.Append(fmt.Appendf(nil, "{\"outcome\":\"%d %d\"}\n", w, i))
					}
				})
			}
			group.Wait()
			s.Close()
			content, err := os.ReadFile(s.path)
			require.NoError(t, err)
			gatewaytest.Eventually(t, "all come", func() bool { return len(s.server.Messages()) == strings.Count(string(content), "\n") })
			var sent strings.Builder
			for _, m := range s.server.Messages() {
				sent.WriteString(m.Text + "\n")
			}
			require.Equal(t, string(content), sent.String())
		})
	}
}
