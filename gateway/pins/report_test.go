package pins

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

var errAway = errors.New("vault is away")

func TestWhatIsNotApprovedIsReportedOnce(t *testing.T) {
	for _, mode := range []pin.Mode{pin.Observe, pin.Enforce} {
		t.Run(string(mode), func(t *testing.T) {
			s := newStage(t)
			j := s.server("files", grants.Pins{Mode: mode, Set: approvals(t, pin.Tool, tool("search", "Searches.")), Known: true})
			for range 3 {
				j.Keeps(pin.Tool, []byte(tool("search", "Searches.")))
				j.Keeps(pin.Tool, []byte(tool("search", "Sends.")))
				j.Keeps(pin.Tool, []byte(" "+tool("search", "Sends.")))
				j.Keeps(pin.Tool, []byte(`{"name":"a","name":"b"}`)) // which nobody can approve
				j.Admits(pin.Tool, "send")                           // of which there is no text
				s.after(time.Second)
			}
			require.Equal(t, []reported{{"files", vaultclient.PinReport{
				Place: "place-files", Definitions: []vaultclient.PinDefinition{{Kind: pin.Tool, Text: tool("search", "Sends.")}},
			}}}, s.vault.reports)
			require.Equal(t, []string{"ok"}, s.counts.results)
			require.Len(t, s.log.all, 2, "one line for each")
			require.Contains(t, s.log.all[0], "name=search")
			require.Zero(t, s.Waiting())
		})
	}
}

// TestWhatIsStillNotApprovedIsReportedAgain: somebody may have had the engine forget it.
func TestWhatIsStillNotApprovedIsReportedAgain(t *testing.T) {
	s := newStage(t)
	j := s.enforced("files", nil)
	for range 12 {
		j.Keeps(pin.Tool, []byte(tool("search", "Searches.")))
		s.after(20 * time.Second)
	}
	require.Len(t, s.vault.texts("files"), 4, "once a minute")
	require.Len(t, s.log.all, 1)
}

// TestWhatIsReportedAgainLeavesRoomForWhatIsNew: definitions that Vault has had before count
// neither for its limit nor as lost.
func TestWhatIsReportedAgainLeavesRoomForWhatIsNew(t *testing.T) {
	s := newStage(t)
	j := s.enforced("files", nil)
	keep := func(name string, n int) {
		for i := range n {
			j.Keeps(pin.Tool, []byte(tool(fmt.Sprint(name, i), "Searches.")))
		}
	}
	drain := func() {
		for s.Waiting() > 0 {
			s.after(time.Second)
		}
	}
	keep("old", notedBurst)
	drain()
	s.after(notedBurst / againPerMinute * time.Minute)
	keep("old", notedBurst)
	drain()
	keep("new", notedBurst)
	drain()
	require.Equal(t, notedBurst+againPerMinute+notedBurst, len(s.vault.texts("files"))) //nolint:testifylint // Len prints them all
	for range 12 {                                                                      // the first of the list do not always come first
		s.after(time.Minute)
		keep("old", notedBurst)
		drain()
	}
	require.Zero(t, s.counts.lost)
	times := map[string]int{}
	for _, text := range s.vault.texts("files") {
		times[text]++
	}
	require.Len(t, times, 2*notedBurst, "each new one was reported")
	for i := range notedBurst {
		require.GreaterOrEqual(t, times[tool(fmt.Sprint("old", i), "Searches.")], 2, i)
	}
}

func TestAReportHasABound(t *testing.T) {
	s := newStage(t)
	j := s.enforced("files", nil)
	for i := range maxBatch + 1 {
		j.Keeps(pin.Tool, []byte(tool(fmt.Sprint(i), "small")))
	}
	s.after(time.Second)
	require.Len(t, s.vault.reports[0].Definitions, maxBatch)
	s.after(time.Second)
	require.Len(t, s.vault.reports[1].Definitions, 1)
	for i := range 3 {
		j.Keeps(pin.Tool, []byte(tool(fmt.Sprint(i), strings.Repeat("x", maxBatchSize*2/3))))
	}
	for i := range 3 {
		s.after(time.Second)
		require.Len(t, s.vault.reports[2+i].Definitions, 1, "two have no room in one")
	}
	require.Zero(t, s.Waiting())
}

// TestAServerThatInventsDefinitionsKeepsItsBounds, and another server's definitions are reported
// in the next second or the one after.
func TestAServerThatInventsDefinitionsKeepsItsBounds(t *testing.T) {
	s := newStage(t)
	hostile, other := s.enforced("hostile", nil), s.enforced("other", nil)
	const minutes, perSecond = 1, 170
	ticks := 0
	for second := range 60 * minutes {
		ticks++
		for i := range perSecond {
			hostile.Keeps(pin.Tool, []byte(tool("search", fmt.Sprintf("%d of second %d", i, second))))
		}
		require.LessOrEqual(t, s.Waiting(), maxWaiting+1)
		if second%30 == 15 {
			before := len(s.vault.texts("other"))
			other.Keeps(pin.Tool, []byte(tool(fmt.Sprint(second), "Searches.")))
			s.after(time.Second)
			s.after(time.Second)
			ticks++
			require.Len(t, s.vault.texts("other"), before+1)
			continue
		}
		s.after(time.Second)
	}
	require.LessOrEqual(t, len(s.vault.texts("hostile")), notedBurst+(minutes+1)*notedPerMinute)
	require.GreaterOrEqual(t, len(s.vault.texts("hostile")), notedBurst)
	require.LessOrEqual(t, len(s.log.all), (minutes+1)*(toldPerMinute+4)+10)
	require.Equal(t, 60*minutes*perSecond, s.counts.unapproved["hostile tool enforce"])
	require.Equal(t, 60*minutes*perSecond-len(s.vault.texts("hostile"))-s.outboxes.of["hostile"].left(), s.counts.lost)
	require.LessOrEqual(t, hostile.others.Len(), othersKept)
	require.LessOrEqual(t, s.outboxes.of["hostile"].noted.Len(), notedKept)
	require.LessOrEqual(t, len(s.vault.reports), ticks, "one a second at most")
}

func (o *outbox) left() int { return len(o.waiting) }

func TestAServerThatInventsDefinitionsDuringAnOutageKeepsItsBounds(t *testing.T) {
	s := newStage(t)
	s.vault.fails["a"] = errAway
	j := s.enforced("a", nil)
	for i := range 20 * 100 {
		j.Keeps(pin.Tool, []byte(tool(fmt.Sprint(i), "new")))
		s.after(600 * time.Millisecond)
		require.LessOrEqual(t, s.Waiting(), maxWaiting)
	}
	require.Equal(t, maxWaiting, s.Waiting())
}

func TestLongTextsKeepTheirBounds(t *testing.T) {
	s := newStage(t)
	for server := range 50 {
		j := s.enforced(fmt.Sprint("server-", server), nil)
		for i := range 6 { // without their digests, which take long
			s.note(j, pin.Tool, &pin.Definition{Digest: pin.Digest{byte(i)}, Text: make([]byte, 400<<10)}, nil, s.now)
		}
		require.LessOrEqual(t, s.outboxes.of[j.server].size, maxWaitingSize)
	}
	require.LessOrEqual(t, s.outboxes.size, maxSize)
	require.Greater(t, s.outboxes.size, maxSize/2)
	for s.Waiting() > 0 {
		s.after(time.Second)
	}
	require.Zero(t, s.outboxes.size)
}

func TestServersAreReportedInTurn(t *testing.T) {
	s := newStage(t)
	for i := range 2 * maxBatch {
		for _, server := range []string{"a", "b", "c"} {
			if s.servers[server] == nil {
				s.enforced(server, nil)
			}
			s.Of(s.servers[server]).Keeps(pin.Tool, []byte(tool(fmt.Sprint(i), "new")))
		}
	}
	for range 6 {
		s.after(time.Second)
	}
	var order []string
	for _, r := range s.vault.reports {
		order = append(order, r.server)
	}
	require.Equal(t, []string{"a", "b", "c", "a", "b", "c"}, order)
}

func TestWhatVaultHasNotTakenIsReportedLater(t *testing.T) {
	s := newStage(t)
	s.enforced("a", nil).Keeps(pin.Tool, []byte(tool("search", "Searches.")))
	s.enforced("b", nil).Keeps(pin.Tool, []byte(tool("search", "Searches.")))
	s.vault.fails["a"] = errAway
	for range 600 {
		s.after(time.Second)
	}
	require.Len(t, s.vault.texts("b"), 1, "one server's failure is not another's")
	require.LessOrEqual(t, s.vault.asked, 20, "it is asked ever more seldom")
	delete(s.vault.fails, "a")
	s.after(time.Minute)
	require.Len(t, s.vault.texts("a"), 1)
	require.Len(t, s.log.all, 4, "two definitions, the failure and its end: %s", s.log.all)
}

func TestAReportThatVaultWillNeverTakeIsDropped(t *testing.T) {
	s := newStage(t)
	s.enforced("a", nil).Keeps(pin.Tool, []byte(tool("search", "Searches.")))
	s.vault.fails["a"] = fmt.Errorf("%w: too large", vaultclient.ErrPinReport)
	s.after(time.Second)
	require.Zero(t, s.Waiting())
	require.Equal(t, 1, s.counts.refused)
	require.Equal(t, []string{"refused"}, s.counts.results)
}

func TestWhatVaultDoesNotKeepIsCounted(t *testing.T) {
	s := newStage(t)
	s.vault.refuses, s.vault.loses = 1, 2
	j := s.enforced("a", nil)
	for i := range 4 {
		j.Keeps(pin.Tool, []byte(tool(fmt.Sprint(i), "new")))
	}
	s.after(time.Second)
	require.Equal(t, 3, s.counts.refused)
	require.Zero(t, s.Waiting(), "it is not sent again at once")
}

func TestAVaultThatTakesNoReportsIsAskedSeldom(t *testing.T) {
	s := newStage(t)
	j := s.enforced("a", nil)
	s.vault.fails["a"] = vaultclient.ErrNoPinReports
	for range 60 {
		require.False(t, j.Keeps(pin.Tool, []byte(tool("search", "Searches."))), "approvals count all the same")
		s.after(20 * time.Second)
	}
	require.LessOrEqual(t, s.vault.asked, 3)
	require.Len(t, s.log.all, 2)
	require.Equal(t, 1, s.Waiting(), "once, however long it waits")
}

func TestARegistrationThatLeadsElsewhereIsReportedAnew(t *testing.T) {
	s := newStage(t)
	raw := []byte(tool("search", "Searches."))
	s.enforced("a", nil).Keeps(pin.Tool, raw)
	s.server("a", grants.Pins{Mode: pin.Enforce, Place: "elsewhere", Known: true}).Keeps(pin.Tool, raw)
	s.after(time.Second)
	s.after(time.Second)
	require.Len(t, s.vault.reports, 1)
	require.Equal(t, "elsewhere", s.vault.reports[0].Place)
	require.Zero(t, s.Waiting())

	t.Run("while its report is under way", func(t *testing.T) {
		s := newStage(t)
		s.enforced("a", nil).Keeps(pin.Tool, raw)
		s.vault.during = func() {
			s.vault.during = nil
			s.server("a", grants.Pins{Mode: pin.Enforce, Place: "elsewhere", Known: true}).Keeps(pin.Tool, raw)
		}
		s.after(time.Second)
		s.after(time.Second)
		require.Len(t, s.vault.reports, 2)
		require.Equal(t, "elsewhere", s.vault.reports[1].Place)
		require.Zero(t, s.outboxes.size)
	})
}

func TestWhatIsNotPinnedAnyMoreIsForgotten(t *testing.T) {
	s := newStage(t)
	s.after(time.Second) // the next look for servers without pins is in a minute
	for _, name := range []string{"gone", "off", "stays"} {
		s.enforced(name, nil).Keeps(pin.Tool, []byte(tool("search", "Searches.")))
	}
	delete(s.servers, "gone")
	s.servers["off"] = &grants.Server{Name: "off"}
	for range 70 {
		s.after(time.Second)
	}
	require.Len(t, s.vault.reports, 1)
	require.Equal(t, "stays", s.vault.reports[0].server)
	require.Len(t, s.outboxes.of, 1)
	require.Zero(t, s.outboxes.size)
	judges := 0
	s.judges.Range(func(_, _ any) bool { judges++; return true })
	require.Equal(t, 1, judges)
}

func TestAGatewayThatEndsReportsTheRest(t *testing.T) {
	s := newStage(t)
	for i := range 3 * maxBatch {
		s.enforced(fmt.Sprint("server-", i%2), nil).Keeps(pin.Tool, []byte(tool(fmt.Sprint(i), "new")))
	}
	s.Close(t.Context())
	require.Zero(t, s.Waiting())
	require.Len(t, s.vault.reports, 4)

	s.Of(s.servers["server-0"]).Keeps(pin.Tool, []byte(tool("late", "new")))
	s.vault.fails["server-0"] = errAway
	s.Close(t.Context())
	require.Equal(t, 1, s.Waiting())
	require.Contains(t, s.log.all[len(s.log.all)-1], "before Vault has been told")
}

// TestManyJudgeAtOnce is for the race detector.
func TestManyJudgeAtOnce(t *testing.T) {
	s := newStage(t)
	sets := []*pin.Set{approvals(t, pin.Tool, tool("0", "new")), approvals(t, pin.Tool, tool("1", "new"))}
	for _, name := range []string{"a", "b"} {
		s.enforced(name, sets[0])
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			s.Tick(ctx)
		}
	})
	servers := []*grants.Server{s.servers["a"], s.servers["b"]}
	var judging sync.WaitGroup
	for worker := range 8 {
		judging.Go(func() {
			server := servers[worker%2]
			for i := range 200 {
				if i%50 == 0 && worker > 5 {
					server = server.WithPins(&grants.Pins{Mode: pin.Enforce, Place: "place", Set: sets[i/50%2], Known: true})
				}
				j := s.Of(server)
				raw := []byte(tool(fmt.Sprint(i%10), "new"))
				if j.Keeps(pin.Tool, raw) != server.Pins().Set.Has(pin.Tool, fmt.Sprint(i%10)) {
					t.Error("judged by other pins than its own")
				}
			}
		})
	}
	judging.Wait()
	stop()
	running.Wait()
}
