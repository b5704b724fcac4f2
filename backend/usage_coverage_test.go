package backend

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/check"
)

// polls asks for changes as the gateway of the id does; "" sends none.
func (e *env) polls(gateway string) {
	e.t.Helper()
	d := data{"wait": "1ms"}
	if gateway != "" {
		d["gateway"] = gateway
	}
	e.must(logical.ReadOperation, "changes", d)
}

// coverage returns the days as usage answers them, each "DAY complete" or "DAY why; why".
func (e *env) coverage() []string {
	e.t.Helper()
	var days []string
	for _, d := range e.read("usage")["days"].([]map[string]any) {
		text := fmt.Sprint(d["day"])
		if d["complete"] == true {
			text += " complete"
		}
		for _, gap := range d["gaps"].([]map[string]any) {
			text += fmt.Sprintf("; %v: %s", gap["gateway"], gap["why"])
		}
		days = append(days, text)
	}
	return days
}

// begun is an engine that was there when the 23rd began.
func begun(t *testing.T) *env {
	t.Helper()
	e := usageEnv(t)
	require.NoError(t, e.b.beginDay(context.Background(), e.storage))
	e.nextDay()
	return e
}

const firstDay = "2026-11-22; <nil>: the engine has kept nothing of the day before, and perhaps only a part of this one"

// closes has the gateway close a day of the past.
func (e *env) closes(gateway, day string) {
	e.t.Helper()
	e.report(gateway, data{"day": day, "closed": true})
}

func TestADayIsCompleteWhenEveryGatewayThatWasThereHasClosedIt(t *testing.T) {
	e := begun(t)
	e.polls(gatewayOne)
	e.polls(gatewayTwo)
	e.report(gatewayOne, nil)
	require.Equal(t, []string{firstDay, "2026-11-23"}, e.coverage(), "today has no gap, and is not complete")
	e.nextDay()
	require.Equal(t, []string{
		firstDay,
		"2026-11-23; gateway000000001: the gateway has not reported the rest of the day: it has ended without a report, or Vault could not be reached" +
			"; gateway000000002: the gateway has not reported",
		"2026-11-24",
	}, e.coverage())
	e.closes(gatewayOne, "2026-11-23")
	require.Equal(t, "2026-11-23; gateway000000002: the gateway has not reported", e.coverage()[1])
	e.closes(gatewayTwo, "2026-11-23")
	require.Equal(t, []string{firstDay, "2026-11-23 complete", "2026-11-24"}, e.coverage())
	e = e.restart()
	require.Equal(t, []string{firstDay, "2026-11-23 complete", "2026-11-24"}, e.coverage())
}

func TestWhatLeavesAGapInADay(t *testing.T) {
	for name, tc := range map[string]struct {
		day  func(e *env)
		want string
	}{
		"no gateway leaves none":          {func(*env) {}, "2026-11-23 complete"},
		"one that closed it leaves none":  {func(e *env) { e.polls(gatewayOne); e.report(gatewayOne, data{"closed": true}) }, "2026-11-23 complete"},
		"one that reports without a poll": {func(e *env) { e.report(gatewayOne, nil) }, "2026-11-23; gateway000000001: the gateway has not reported the rest of the day: it has ended without a report, or Vault could not be reached"},
		"one that sends no id":            {func(e *env) { e.polls("") }, "2026-11-23; <nil>: a gateway sent no id with its requests for changes: its version is an earlier one, which does not report"},
		"one that lost some":              {func(e *env) { e.report(gatewayOne, data{"closed": true, "lost": 7}) }, "2026-11-23; gateway000000001: the gateway could not keep 7 uses of the day"},
		"one that lost some, and starts again": {func(e *env) {
			e.report(gatewayOne, data{"closed": true, "lost": 7})
			e.report(gatewayTwo, data{"closed": true})
		}, "2026-11-23; gateway000000001: the gateway could not keep 7 uses of the day"},
		"more than there is room for": {func(e *env) {
			day := check.DayOf(e.clock.Now())
			require.NoError(t, e.b.changeDay(context.Background(), e.storage, day, func(d *usageDay) bool {
				for i := range maxGatewaysADay - 1 {
					d.gateway(fmt.Sprintf("other%011d", i), e.clock.Now()).Closed = true
				}
				return true
			}))
			e.report(gatewayOne, data{"closed": true})
			e.report(gatewayTwo, data{"closed": true})
		}, "2026-11-23; <nil>: there were more than 512 gateways, each start counted"},
	} {
		t.Run(name, func(t *testing.T) {
			e := begun(t)
			tc.day(e)
			e.nextDay()
			require.Equal(t, tc.want, e.coverage()[1])
		})
	}
}

func TestADayOnWhichTheEngineWasNotThereIsNotComplete(t *testing.T) {
	e := begun(t)
	e.clock.Advance(24 * time.Hour) // the 24th, of which nobody makes an entry
	e.nextDay()
	require.Equal(t, []string{
		firstDay, "2026-11-23 complete",
		"2026-11-24; <nil>: the engine has kept nothing of this day: it was not there, or usage_days was 0",
		"2026-11-25; <nil>: the engine has kept nothing of the day before, and perhaps only a part of this one",
	}, e.coverage())
}

// A gateway that is killed after midnight never asks again, and may have been used until then.
func TestAGatewayIsThereAsLongAsItsRequestWaits(t *testing.T) {
	for name, wait := range map[string]string{"its connection ends": "60s", "its request is answered": "300ms"} {
		t.Run(name, func(t *testing.T) {
			e := begun(t)
			at := e.must(logical.ReadOperation, "changes", data{"gateway": gatewayOne}).Data
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := e.request(ctx, logical.ReadOperation, "changes", data{"gateway": gatewayOne, "epoch": at["epoch"], "index": at["index"], "wait": wait})
				ended <- err
			}()
			require.Eventually(t, func() bool { return e.b.feed.Watchers() == 1 }, 10*time.Second, time.Millisecond)
			e.nextDay()
			if wait == "60s" {
				cancel()
			}
			require.NoError(t, <-ended)
			e.closes(gatewayOne, "2026-11-23")
			e.nextDay()
			require.Equal(t, "2026-11-24; gateway000000001: the gateway has not reported", e.coverage()[2])
		})
	}
}

func TestSomebodyWhoReadsTheChangesByHandIsNoGateway(t *testing.T) {
	e := begun(t)
	e.read("changes")
	e.nextDay()
	require.Equal(t, "2026-11-23 complete", e.coverage()[1])
}

func TestTheRequestsOfAGatewaySeldomWrite(t *testing.T) {
	storage := newWeighedStorage()
	e := newEnvOn(t, storage, newClock())
	require.NoError(t, e.b.beginDay(context.Background(), e.storage))
	e.read("changes") // which makes the feed
	writes := func(do func()) int {
		before := storage.puts.Load()
		do()
		return int(storage.puts.Load() - before)
	}
	require.Equal(t, 1, writes(func() { e.polls(gatewayOne) }), "a gateway that comes is stored")
	minute := func() {
		for range 12 {
			e.clock.Advance(5 * time.Second)
			e.polls(gatewayOne)
		}
		e.report(gatewayOne, nil)
		require.NoError(t, e.b.beginDay(context.Background(), e.storage))
	}
	require.Equal(t, 1, writes(minute), "its first report")
	require.LessOrEqual(t, writes(func() {
		for range 60 {
			minute()
		}
	}), 10, "an hour of requests and reports without news")
}

func TestUsageThatIsSwitchedOffIsNotKept(t *testing.T) {
	e := begun(t)
	e.used("a", data{"jira": []any{"search"}})
	e.write("config", data{"usage_days": 0})
	require.EqualValues(t, 0, e.used("b", data{"jira": []any{"search"}})["usage_days"])
	e.polls(gatewayOne)
	require.Nil(t, e.read("clients/a")["last_used"])
	require.Empty(t, e.usedRows("a"))
	require.Empty(t, e.coverage())
	e.tidyToEnd()
	require.Empty(t, e.keys("usage/"))

	e.write("config", data{"usage_days": 30})
	e.nextDay()
	require.Equal(t, []string{"2026-11-24; <nil>: the engine has kept nothing of the day before, and perhaps only a part of this one"}, e.coverage())
	for _, days := range []any{-1, 401, "x"} {
		require.Contains(t, e.refusedWrite("config", data{"usage_days": days}), "usage_days")
	}
}

func TestAGatewaysIdIsCheckedWhereverItIsSent(t *testing.T) {
	e := begun(t)
	for _, id := range []string{"short", "gateway-00000001", "gateway0000000001"} {
		require.Contains(t, e.refused(logical.ReadOperation, "changes", data{"gateway": id}), "16 letters and digits")
	}
	require.Equal(t, []string{usageDayPrefix + "2026-11-22", usageDayPrefix + "2026-11-23"}, e.keys(usageDayPrefix))
	require.NoError(t, check.GatewayID(gatewayOne))
}
