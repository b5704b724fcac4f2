package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// sluice is an output that can hang or fail.
type sluice struct {
	mu      sync.Mutex
	open    *sync.Cond
	hangs   bool
	err     error
	written bytes.Buffer
	writes  int
}

func newSluice() *sluice {
	s := &sluice{}
	s.open = sync.NewCond(&s.mu)
	return s
}

func (s *sluice) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.hangs {
		s.open.Wait()
	}
	s.writes++
	if s.err != nil {
		n, _ := s.written.Write(p[:len(p)/2])
		return n, s.err
	}
	return s.written.Write(p)
}

func (*sluice) Close() error { return nil }

func (s *sluice) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.open.Broadcast()
}

func (s *sluice) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written.String()
}

// newAuditLog is an audit log with this output alone.
func newAuditLog(out io.WriteCloser, log hclog.Logger) *AuditLog {
	return &AuditLog{file: newFileWriter(&auditFile{log: log, file: out}, log)}
}

// bothWays runs a test with an output that may hang, and with one that passes
// for a plain file. No time passes except in waits.
func bothWays(t *testing.T, test func(t *testing.T, out *sluice, log *AuditLog)) {
	t.Helper()
	for name, plain := range map[string]bool{"a plain file": true, "an output that may hang": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := newSluice()
				log := newAuditLog(out, hclog.NewNullLogger())
				log.file.mu.Lock()
				log.file.direct = plain
				log.file.mu.Unlock()
				test(t, out, log)
			})
		})
	}
}

func TestLineIsWrittenWhenWriteReturns(t *testing.T) {
	bothWays(t, func(t *testing.T, out *sluice, log *AuditLog) {
		t.Helper()
		defer log.Close()
		for i := range 100 {
			line := fmt.Sprintln("line", i)
			require.NoError(t, log.Write([]byte(line)))
			require.True(t, strings.HasSuffix(out.text(), line))
		}
	})
}

func TestLinesOfOneRequestKeepTheirOrder(t *testing.T) {
	bothWays(t, func(t *testing.T, out *sluice, log *AuditLog) {
		t.Helper()
		const writers, lines = 16, 200
		var group sync.WaitGroup
		for w := range writers {
			group.Go(func() {
				for i := range lines {
					if err := log.Write(fmt.Appendf(nil, "%d %d\n", w, 2*i)); err != nil {
						t.Error(err)
					}
					log.Append(fmt.Appendf(nil, "%d %d\n", w, 2*i+1))
				}
			})
		}
		group.Wait()
		log.Close()
		next := make([]int, writers)
		for line := range strings.Lines(out.text()) {
			var w, i int
			_, err := fmt.Sscanf(line, "%d %d\n", &w, &i)
			require.NoError(t, err)
			require.Equal(t, next[w], i, line)
			next[w]++
		}
		for w := range writers {
			require.Equal(t, 2*lines, next[w])
		}
	})
}

func TestLinesOfManyRequestsShareAWrite(t *testing.T) {
	bothWays(t, manyShareAWrite)
}

func manyShareAWrite(t *testing.T, out *sluice, log *AuditLog) {
	t.Helper()
	out.set(func() { out.hangs = true })
	var group sync.WaitGroup
	for i := range 200 {
		group.Go(func() {
			if err := log.Write(fmt.Appendln(nil, "line", i)); err != nil {
				t.Error(err)
			}
		})
	}
	require.Eventually(t, func() bool {
		log.file.mu.Lock()
		defer log.file.mu.Unlock()
		return log.file.writing != nil && bytes.Count(log.file.batch.lines, []byte("\n"))+bytes.Count(log.file.writing.lines, []byte("\n")) == 200
	}, 10*time.Second, time.Millisecond)
	out.set(func() { out.hangs = false })
	group.Wait()
	log.Close()
	require.Equal(t, 200, strings.Count(out.text(), "\n"))
	require.LessOrEqual(t, out.writes, 2)
}

func TestWriteThatHangsIsGivenUpAfterASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newSluice()
		log := newAuditLog(out, hclog.NewNullLogger())
		out.set(func() { out.hangs = true })
		started := time.Now()
		var group sync.WaitGroup
		for range 10 {
			group.Go(func() {
				if err := log.Write([]byte("decision\n")); !errors.Is(err, ErrAudit) {
					t.Errorf("the decision counts as written: %v", err)
				}
			})
		}
		group.Wait()
		require.LessOrEqual(t, time.Since(started), auditTimeout)
		started = time.Now()
		require.ErrorIs(t, log.Write([]byte("next\n")), ErrAudit)
		require.Zero(t, time.Since(started), "nobody waits for what is known to hang")
		require.False(t, log.Stats().Up)
		out.set(func() { out.hangs = false })
		require.Eventually(t, func() bool { return log.Write([]byte("again\n")) == nil }, 10*time.Second, time.Millisecond)
		require.True(t, log.Stats().Up)
		log.Close()
	})
}

func TestWriteThatFailsIsNoWriteAndDoesNotSpoilTheNextLine(t *testing.T) {
	bothWays(t, func(t *testing.T, out *sluice, log *AuditLog) {
		t.Helper()
		out.set(func() { out.err = errors.New("no space left on device") })
		require.ErrorIs(t, log.Write([]byte("half a line\n")), ErrAudit)
		require.Equal(t, AuditStats{Lost: 1}, log.Stats())
		out.set(func() { out.err = nil })
		require.NoError(t, log.Write([]byte("whole\n")))
		require.Equal(t, AuditStats{Up: true, Lost: 1}, log.Stats())
		log.Close()
		require.True(t, strings.HasSuffix(out.text(), "\nwhole\n"), out.text())
	})
}

func TestOthersAreReleasedWhileOneWriteToAPlainFileHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newSluice()
		log := newAuditLog(out, hclog.NewNullLogger())
		log.file.mu.Lock()
		log.file.direct = true
		log.file.mu.Unlock()
		out.set(func() { out.hangs = true })
		results := make(chan error, 10)
		for range 10 {
			go func() { results <- log.Write([]byte("decision\n")) }()
		}
		started := time.Now()
		for range 9 {
			require.ErrorIs(t, <-results, ErrAudit)
		}
		require.LessOrEqual(t, time.Since(started), auditTimeout)
		out.set(func() { out.hangs = false })
		require.ErrorIs(t, <-results, ErrAudit, "it came too late to count")
		require.Eventually(t, func() bool { return log.Write([]byte("again\n")) == nil }, 10*time.Second, time.Millisecond)
		log.Close()
	})
}

// The last look takes hold of the batch that a request is about to write, and gets the turn behind it.
func TestLinesThatComeDuringTheLastWriteOfARequestAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := newSluice()
		log := newAuditLog(out, hclog.NewNullLogger())
		log.file.mu.Lock()
		log.file.direct = true
		log.file.mu.Unlock()
		decision := log.file.enqueue([]byte("decision\n"))
		require.True(t, decision.turn)
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			log.Close()
		}()
		synctest.Wait()
		out.set(func() { out.hangs = true })
		written := make(chan error)
		go func() { written <- log.file.finish(&decision) }()
		require.Eventually(t, func() bool {
			log.file.mu.Lock()
			defer log.file.mu.Unlock()
			return log.file.writing != nil
		}, 10*time.Second, time.Millisecond)
		log.Append([]byte("outcome\n"))
		out.set(func() { out.hangs = false })
		require.NoError(t, <-written)
		<-closed
		require.Equal(t, "decision\noutcome\n", out.text())
	})
}

func TestLinesKeptWhileAWriteHangsAreBounded(t *testing.T) {
	out := newSluice()
	log := newAuditLog(out, hclog.NewNullLogger())
	out.set(func() { out.hangs = true })
	line := bytes.Repeat([]byte("x"), 1<<20)
	for range 30 {
		log.Append(line)
	}
	log.file.mu.Lock()
	require.LessOrEqual(t, len(log.file.batch.lines), auditBacklog+len(line))
	log.file.mu.Unlock()
	require.Positive(t, log.Stats().Lost)
	out.set(func() { out.hangs = false })
	log.Close()
}

func TestAuditFileIsOpenedAnewWhenAsked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	log, err := OpenAuditLog(config.Audit{File: path}, hclog.NewNullLogger())
	require.NoError(t, err)
	require.NoError(t, log.Write([]byte("before\n")))
	require.NoError(t, os.Rename(path, path+".1"))
	log.Reopen()
	require.Eventually(t, func() bool {
		require.NoError(t, log.Write([]byte("after\n")))
		content, err := os.ReadFile(path)
		return err == nil && strings.HasPrefix(string(content), "after\n")
	}, 10*time.Second, time.Millisecond)
	log.Close()
	old, err := os.ReadFile(path + ".1")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(old), "before\n"))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

func TestAuditFileThatCannotBeOpenedIsAnError(t *testing.T) {
	_, err := OpenAuditLog(config.Audit{File: t.TempDir()}, hclog.NewNullLogger())
	require.ErrorContains(t, err, "audit log")
}

func TestUnwrittenDecisionIsNoDecision(t *testing.T) {
	out := newSluice()
	out.err = errors.New("no space left on device")
	log := newAuditLog(out, hclog.NewNullLogger())
	defer log.Close()
	r := &Request{sink: newAuditor(log)}
	require.ErrorIs(t, r.Decide(Decision{Allow: true}), ErrAudit)
	require.ErrorIs(t, (&Request{}).Decide(Decision{Allow: true}), ErrAudit, "nor is one without a log")
}

func TestEveryLineIsOneJSONObjectWhateverIsInIt(t *testing.T) {
	out := newSluice()
	log := newAuditLog(out, hclog.NewNullLogger())
	a := newAuditor(log)
	lookup := vaultclient.Lookup{Active: true, Client: "a\"b\\c\n{}", ClientID: "\x00\x1f", Accessor: "\xff\xfe"}
	grant, err := grants.NewGrant(&lookup, time.Now())
	require.NoError(t, err)
	nasty := strings.Repeat("\"\\\n\r\t\x00\u2028é\xff", 100)
	r := &Request{ID: nasty, Source: netip.MustParseAddr("fe80::1%eth\"0"), Grant: grant, Method: nasty, Tool: nasty, Session: nasty, httpMethod: nasty, sink: a}
	require.NoError(t, r.Decide(Decision{Allow: true, Reason: nasty, Detail: nasty}))
	r.Outcome(200, 1, errors.New(nasty))
	r.Outcome(500, 2, nil)
	a.Refused(r, &Refusal{Status: 403, Reason: nasty, Detail: nasty})
	a.Refused(&Request{ID: nasty}, &Refusal{Status: 401, Reason: nasty, Detail: nasty})
	a.refusals.flush()
	log.Close()
	lines := strings.Split(strings.TrimSuffix(out.text(), "\n"), "\n")
	require.Len(t, lines, 4, "an outcome is written once")
	for _, line := range lines {
		require.True(t, json.Valid([]byte(line)), line[:min(len(line), 200)])
	}
}

func TestLinesAreBounded(t *testing.T) {
	out := newSluice()
	log := newAuditLog(out, hclog.NewNullLogger())
	a := newAuditor(log)
	long := strings.Repeat("x", 1<<20)
	grant, err := grants.NewGrant(&vaultclient.Lookup{Active: true, Client: "cursor", ClientID: "id-of-cursor", Accessor: "accessor-of-cursor"}, time.Now())
	require.NoError(t, err)
	r := &Request{ID: "request-1", Source: netip.MustParseAddr("192.0.2.1"), Grant: grant, Method: long, Tool: long, httpMethod: "POST", sink: a}
	require.NoError(t, r.Decide(Decision{Allow: true, Reason: ReasonAllowed, Detail: long}))
	r.Outcome(200, 1, errors.New(long))
	a.Refused(r, &Refusal{Status: 403, Reason: policy.NotInAllowedServers, Detail: long})
	log.Close()
	lines := strings.Split(strings.TrimSuffix(out.text(), "\n"), "\n")
	require.Len(t, lines, 3)
	for _, line := range lines {
		require.LessOrEqual(t, len(line), 4096, line[:min(len(line), 200)])
	}
}

func TestTokenThatAClientPutInTheWrongPlaceIsCutOut(t *testing.T) {
	for text, want := range map[string]string{
		"add":                             "add",
		"mcpt_0123456789":                 "mcpt_…",
		"call mcpk_0123456789 and no end": "call mcpk_… and no end",
		"it starts with mcpt_ but is not": "it starts with mcpt_ but is not",
	} {
		require.Equal(t, want, clip(text))
	}
}

func TestRefusalsWithoutAKnownTokenAreCountedBySource(t *testing.T) {
	// In a bubble all of it is at one time, as lines are written each second.
	synctest.Test(t, func(t *testing.T) {
		out := newSluice()
		log := newAuditLog(out, hclog.NewNullLogger())
		a := newAuditor(log)
		refuse := func(source string, reason string, times int) {
			for i := range times {
				a.Refused(&Request{ID: fmt.Sprint("id", i), Source: netip.MustParseAddr(source)}, &Refusal{Status: 401, Reason: reason})
			}
		}
		refuse("192.0.2.1", ReasonNoToken, 1000)
		refuse("192.0.2.1", ReasonInactiveToken, 7)
		refuse("192.0.2.2", ReasonNoToken, 1)
		for i := range 10_000 {
			refuse(fmt.Sprintf("10.1.%d.%d", i/256, i%256), ReasonNoToken, 1)
		}
		a.refusals.flush()
		log.Close()
		total, lines := 0, strings.Split(strings.TrimSuffix(out.text(), "\n"), "\n")
		for _, text := range lines {
			var line struct {
				Type, Source, Reason string
				Count                int
				IDs                  []string `json:"request_ids"`
			}
			require.NoError(t, json.Unmarshal([]byte(text), &line))
			require.Equal(t, "refusals", line.Type)
			require.LessOrEqual(t, len(line.IDs), idsNamed)
			total += line.Count
		}
		require.Equal(t, 11_008, total, "nothing is left out")
		require.LessOrEqual(t, len(lines), sourcesCounted+2)
	})
}

func BenchmarkDecisionAndOutcome(b *testing.B) {
	log, err := OpenAuditLog(config.Audit{File: filepath.Join(b.TempDir(), "audit.log")}, hclog.NewNullLogger())
	require.NoError(b, err)
	defer log.Close()
	benchmarkDecisionAndOutcome(b, log)
}

func benchmarkDecisionAndOutcome(b *testing.B, log *AuditLog) {
	b.Helper()
	a := newAuditor(log)
	lookup := vaultclient.Lookup{Active: true, Client: "cursor-local", ClientID: "abcdefghijklmnop", Accessor: "abcdefghijklmnopqrstuvwx"}
	grant, err := grants.NewGrant(&lookup, time.Now())
	require.NoError(b, err)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := Request{
				ID: "abcdefghijklm-1", Source: netip.MustParseAddr("192.0.2.1"), Start: time.Now(), Grant: grant,
				Method: "tools/call", Tool: "add", httpMethod: "POST", serverName: "calculator", sink: a,
			}
			if err := r.Decide(Decision{Allow: true, Reason: ReasonAllowed}); err != nil {
				b.Fatal(err)
			}
			r.Outcome(200, 100, nil)
		}
	})
}
