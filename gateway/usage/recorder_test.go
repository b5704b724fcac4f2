package usage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

var errAway = errors.New("vault is away")

// vault keeps reports as the engine does, unless it fails.
type vault struct {
	mu      sync.Mutex
	fails   error
	refuses int
	largest int
	reports int
	kept    map[string]bool // "day client server tool", "day client token"
	closed  []string        // days
	lost    map[string]int
	during  func() // called while it takes a report; nil: nothing
}

func (v *vault) ReportUsage(_ context.Context, report *vaultclient.UsageReport) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reports++
	if v.fails != nil {
		return 0, v.fails
	}
	rows := 0
	for client, c := range report.Clients {
		v.kept[report.Day+" "+client] = true
		for _, token := range c.Tokens {
			rows++
			v.kept[report.Day+" "+client+" "+token] = true
		}
		for server, tools := range c.Servers {
			for _, tool := range tools {
				rows++
				v.kept[fmt.Sprintf("%s %s %s/%s", report.Day, client, server, tool)] = true
			}
		}
	}
	v.largest = max(v.largest, rows)
	if report.Closed {
		v.closed = append(v.closed, report.Day)
	}
	v.lost[report.Day] = report.Lost
	if v.during != nil {
		v.during()
	}
	return v.refuses, nil
}

func (v *vault) rows() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	rows := make([]string, 0, len(v.kept))
	for row := range v.kept {
		rows = append(rows, row)
	}
	slices.Sort(rows)
	return rows
}

// counts is an Observer.
type counts struct {
	results       []string
	refused, lost int
}

func (c *counts) UsageReported(result string) { c.results = append(c.results, result) }
func (c *counts) UsageRefused(rows int)       { c.refused += rows }
func (c *counts) UsageLost(rows int)          { c.lost += rows }

// stage is a Recorder with a clock that the test moves.
type stage struct {
	*Recorder
	t      *testing.T
	now    time.Time
	vault  *vault
	counts *counts
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, now: noon, vault: &vault{kept: map[string]bool{}, lost: map[string]int{}}, counts: &counts{}}
	s.Recorder = New(Options{
		Gateway: "gateway000000001", Engine: s.vault, Observer: s.counts, Log: hclog.NewNullLogger(),
		Now: func() time.Time { return s.now },
	})
	return s
}

func (s *stage) used(client, server, tool string) {
	s.Used(Use{Client: client, Token: client + "-token", Server: server, Registration: server + "-id", Tool: tool}, s.now)
}

func (s *stage) lists(server string, tools ...string) {
	s.Recorder.lists.add(server+"-id", tools, check.DayOf(s.now))
}

// after moves the clock, and has the report made that is due then.
func (s *stage) after(d time.Duration) {
	s.now = s.now.Add(d)
	s.Tick(s.t.Context())
}

func TestWhatIsUsedIsReportedOnce(t *testing.T) {
	s := newStage(t)
	s.lists("jira", "search")
	for range 3 {
		s.used("a", "jira", "search")
		s.used("a", "jira", "")
		s.used("b", "", "")
	}
	s.after(time.Minute)
	want := []string{
		"2026-11-22 a", "2026-11-22 a a-token", "2026-11-22 a jira/", "2026-11-22 a jira/search",
		"2026-11-22 b", "2026-11-22 b b-token",
	}
	require.Equal(t, want, s.vault.rows())
	s.used("a", "jira", "search")
	s.after(time.Minute)
	require.Equal(t, 1, s.vault.reports, "nothing is new, so nothing is to be told")
	require.Zero(t, s.Stats().Waiting)
}

func TestAClientsTokensOfSignInsAreNotNoted(t *testing.T) {
	s := newStage(t)
	s.Used(Use{Client: "a"}, s.now)
	s.after(time.Minute)
	require.Equal(t, []string{"2026-11-22 a"}, s.vault.rows())
}

func TestOnlyNamesThatTheServerListsCount(t *testing.T) {
	s := newStage(t)
	for name, tc := range map[string]struct {
		before, after []string // lists, before and after the call
		counts        bool
	}{
		"listed before":          {before: []string{"search"}, counts: true},
		"listed within a minute": {after: []string{"search"}, counts: true},
		"never listed":           {},
		"listed is another name": {before: []string{"searches", "Search"}},
		"listed by another server": {
			before: nil, after: nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.lists("other"+name, "search")
			s.lists(name, tc.before...)
			s.used("a", name, "search")
			s.lists(name, tc.after...)
			s.after(time.Minute)
			require.Equal(t, tc.counts, s.vault.kept["2026-11-22 a "+name+"/search"])
			require.Equal(t, !tc.counts, s.vault.kept["2026-11-22 a "+name+"/"])
		})
	}
}

func TestManyUnlistedNamesAreOneRow(t *testing.T) {
	s := newStage(t)
	for i := range 3 * maxUnlisted {
		s.used("a", "jira", fmt.Sprintf("name-%d", i))
	}
	require.LessOrEqual(t, s.unlistedCount.Load(), int64(maxUnlisted))
	s.after(time.Minute)
	require.Equal(t, []string{"2026-11-22 a", "2026-11-22 a a-token", "2026-11-22 a jira/"}, s.vault.rows())
	require.Zero(t, s.unlistedCount.Load())
}

func TestWhatVaultDoesNotTakeIsKept(t *testing.T) {
	s := newStage(t)
	s.lists("jira", "search", "read")
	s.vault.fails = errAway
	s.used("a", "jira", "search")
	s.after(time.Minute)
	s.used("a", "jira", "read")
	s.after(12 * time.Hour) // over midnight
	s.used("a", "jira", "search")
	require.Empty(t, s.vault.rows())
	s.vault.fails = nil
	s.after(time.Minute)
	s.after(time.Minute)
	require.Equal(t, []string{
		"2026-11-22 a", "2026-11-22 a a-token", "2026-11-22 a jira/read", "2026-11-22 a jira/search",
		"2026-11-23 a", "2026-11-23 a a-token", "2026-11-23 a jira/search",
	}, s.vault.rows())
	require.Equal(t, []string{"2026-11-22"}, s.vault.closed)
	require.Equal(t, []string{"failed", "failed", "ok", "ok"}, s.counts.results)
	require.Zero(t, s.counts.lost)
}

func TestADayOfWhichVaultTakesNoReportsAnyMoreIsTold(t *testing.T) {
	s := newStage(t)
	s.vault.fails = errAway
	s.used("a", "jira", "")
	s.after(time.Minute)
	s.vault.fails = nil
	s.after(48 * time.Hour)
	require.Equal(t, 2, s.counts.lost, "the token's and the server's row")
	require.NotContains(t, s.vault.closed, "2026-11-22", "of a day that is not whole Vault must not hear that it is")
}

func TestAReportHasABoundAndTheRestGoesWithTheNext(t *testing.T) {
	s := newStage(t)
	for i := range check.MaxReportRows + 10 {
		s.Used(Use{Client: fmt.Sprintf("c%d", i)}, s.now)
	}
	s.after(time.Minute)
	require.Len(t, s.vault.rows(), check.MaxReportRows)
	require.Equal(t, 10, s.Stats().Waiting)
	s.after(12 * time.Hour)
	require.Len(t, s.vault.rows(), check.MaxReportRows+10)
	require.Equal(t, []string{"2026-11-22"}, s.vault.closed)
}

func TestUsesWithoutRoomAreCountedAndTheDayIsNotWhole(t *testing.T) {
	s := newStage(t)
	s.lists("jira", "search")
	s.used("a", "jira", "") // two rows
	s.size.Store(maxRows)
	s.used("a", "jira", "search") // becomes one of the server
	s.used("b", "", "")
	s.after(time.Minute)
	require.Equal(t, 2, s.vault.lost["2026-11-22"])
	require.Equal(t, 2, s.counts.lost)
	s.after(time.Minute)
	require.Equal(t, 2, s.counts.lost, "they are told once")
	require.Equal(t, []string{"2026-11-22 a", "2026-11-22 a a-token", "2026-11-22 a jira/"}, s.vault.rows())
}

func TestAGatewayWithoutTheRightGoesOnAndAsksSeldom(t *testing.T) {
	s := newStage(t)
	s.vault.fails = vaultclient.ErrNoUsage
	s.used("a", "jira", "")
	for range 30 {
		s.after(time.Minute)
	}
	require.Equal(t, 1, s.vault.reports)
	s.vault.fails = nil
	s.after(time.Hour)
	require.Len(t, s.vault.rows(), 3)
	require.Equal(t, []string{"unsupported", "ok"}, s.counts.results)
}

func TestAnEndReportsTheRest(t *testing.T) {
	s := newStage(t)
	s.lists("jira", "search")
	for i := range check.MaxReportRows {
		s.Used(Use{Client: fmt.Sprintf("c%d", i)}, s.now)
	}
	s.now = s.now.Add(24 * time.Hour)
	s.used("a", "jira", "search")
	s.used("a", "jira", "unlisted")
	s.Close(t.Context())
	require.Contains(t, s.vault.rows(), "2026-11-23 a jira/search")
	require.Contains(t, s.vault.rows(), "2026-11-23 a jira/")
	require.Equal(t, []string{"2026-11-22", "2026-11-23"}, s.vault.closed)
	require.Zero(t, s.Stats().Waiting)
}

func TestAnEndWithoutVaultDoesNotWait(t *testing.T) {
	s := newStage(t)
	s.vault.fails = errAway
	s.used("a", "jira", "")
	s.Close(t.Context())
	require.Equal(t, 1, s.vault.reports)
	require.Empty(t, s.vault.closed)
}

func TestWhatWasNotUsedSinceYesterdayIsForgotten(t *testing.T) {
	s := newStage(t)
	s.used("a", "jira", "")
	s.after(time.Minute)
	s.after(24 * time.Hour)
	require.Equal(t, 2, s.Stats().Rows)
	s.after(24 * time.Hour)
	require.Zero(t, s.Stats().Rows)
	s.used("a", "jira", "")
	s.after(time.Minute)
	require.Contains(t, s.vault.rows(), "2026-11-24 a jira/")
}

func TestUsesOfManyRequestsAtOnceAreAllReported(t *testing.T) {
	s := newStage(t)
	s.lists("jira", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7")
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 500 {
				s.used(fmt.Sprintf("c%d", i%20), "jira", fmt.Sprintf("t%d", (i+g)%8))
			}
		})
	}
	for range 20 {
		s.Tick(t.Context())
	}
	all.Wait()
	s.Tick(t.Context())
	require.Len(t, s.vault.rows(), 20+20+20*8)
}

func TestADayIsNotClosedWhileSomeOfItWaits(t *testing.T) {
	s := newStage(t)
	for i := range check.MaxReportRows + 1 {
		s.Used(Use{Client: fmt.Sprintf("c%d", i)}, s.now)
	}
	s.after(24 * time.Hour)
	require.Empty(t, s.vault.closed)
	s.after(time.Minute)
	require.Equal(t, []string{"2026-11-22"}, s.vault.closed)
}
