package usage

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestADayEndsAtMidnightInUTC(t *testing.T) {
	s := newStage(t)
	s.lists("jira", "search")
	s.now = time.Date(2026, 11, 23, 0, 59, 59, 0, time.FixedZone("CET", 3600)) // 23:59:59 UTC
	s.used("a", "jira", "search")
	s.now = s.now.Add(time.Second)
	s.used("a", "jira", "search")
	s.after(5 * time.Second)
	require.Contains(t, s.vault.rows(), "2026-11-22 a jira/search", "the older day goes first")
	require.NotContains(t, s.vault.rows(), "2026-11-23 a jira/search")
	require.Empty(t, s.vault.closed, "a request that began before midnight may not be noted yet")
	s.after(time.Minute)
	s.after(time.Minute)
	require.Contains(t, s.vault.rows(), "2026-11-23 a jira/search")
	require.Equal(t, []string{"2026-11-22"}, s.vault.closed)
}

// A request whose body comes slowly is noted late, for the day on which it began.
func TestAUseOfYesterdayThatIsNotedDuringTodaysReportIsReported(t *testing.T) {
	s := newStage(t)
	s.lists("jira", "search", "read")
	s.after(12*time.Hour + time.Minute) // yesterday is closed
	require.Equal(t, []string{"2026-11-22"}, s.vault.closed)
	s.used("a", "jira", "search")
	s.vault.during = func() {
		s.vault.during = nil
		s.Used(Use{Client: "b", Server: "jira", Registration: "jira-id", Tool: "read"}, s.now.Add(-3*time.Minute))
	}
	for range 3 {
		s.after(time.Minute)
	}
	require.Equal(t, []string{
		"2026-11-22 b", "2026-11-22 b jira/read",
		"2026-11-23 a", "2026-11-23 a a-token", "2026-11-23 a jira/search",
	}, s.vault.rows())
	require.Zero(t, s.Stats().Waiting)
}

func TestACallByAnUnlistedNameCountsOnEachSideOfMidnight(t *testing.T) {
	s := newStage(t)
	s.now = time.Date(2026, 11, 22, 23, 59, 59, 0, time.UTC)
	s.used("a", "jira", "search")
	s.now = s.now.Add(time.Second)
	s.used("a", "jira", "search")
	s.lists("jira", "search")
	s.after(time.Minute)
	s.after(time.Minute)
	require.Contains(t, s.vault.rows(), "2026-11-22 a jira/search")
	require.Contains(t, s.vault.rows(), "2026-11-23 a jira/search")
}

// A row that was noted for a day to come would not be noted again before that day.
func TestAClockThatWasAheadHidesNoUse(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"by a day": 24 * time.Hour, "by a year": 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.lists("jira", "search", "read")
			s.now = s.now.Add(ahead)
			s.used("a", "jira", "search")
			s.used("b", "jira", "read")
			s.vault.fails = errors.New("neither today nor yesterday")
			s.after(time.Minute)
			s.vault.fails = nil
			s.now = s.now.Add(-ahead)
			s.used("a", "jira", "search")
			s.after(time.Minute)
			require.Equal(t, []string{
				"2026-11-22 a", "2026-11-22 a a-token", "2026-11-22 a jira/search",
				"2026-11-22 b", "2026-11-22 b b-token", "2026-11-22 b jira/read",
			}, s.vault.rows())
			require.Positive(t, s.vault.lost["2026-11-22"], "the day cannot be said to be whole")
			require.Zero(t, s.Stats().Waiting)
			s.now = s.now.Add(24 * time.Hour)
			s.used("a", "jira", "search")
			s.after(time.Minute)
			s.after(time.Minute)
			require.Contains(t, s.vault.rows(), "2026-11-23 a jira/search")
		})
	}
}

func TestADayWithoutAnyUseIsClosed(t *testing.T) {
	s := newStage(t)
	s.after(time.Minute)
	require.Zero(t, s.vault.reports)
	s.after(24 * time.Hour)
	require.Equal(t, []string{"2026-11-22"}, s.vault.closed)
	s.after(time.Minute)
	require.Equal(t, 1, s.vault.reports)
}
