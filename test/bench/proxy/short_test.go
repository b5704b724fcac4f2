package proxy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
	"vault-plugin-secrets-mcp/test/bench/report"
)

// TestEveryCellOfTheBenchmarkWorks runs each once, for a moment: every answer is the
// one that is wanted. How fast they come is not looked at.
func TestEveryCellOfTheBenchmarkWorks(t *testing.T) {
	s := newStage(t, 20)
	all := append(cells(t, s), credentials(t, s)...)
	for _, c := range all {
		if c.refused { // what comes second is counted in the audit log alone
			c.run(t, s, 0, 20*time.Millisecond)
			c.rounds = nil
		}
		c.run(t, s, 0, 20*time.Millisecond)
	}
	for _, c := range all {
		if c.Target == report.AtRest {
			continue
		}
		if len(c.rounds) != 1 || c.rounds[0].perSecond <= 0 || c.rounds[0].p99 < c.rounds[0].p50 {
			t.Errorf("%s, %s: %+v", c.Scene, c.Target, c.rounds)
		}
	}
	if leased := measure.Gauge(t, s.warm, "mcp_gateway_credentials"); leased != 1 {
		t.Errorf("the gateway has leased %.0f credentials, for one client and one server", leased)
	}
	figures := report.Calls{Rows: rowsOf(all)}
	if judged := figures.Judge(); len(judged) != len(report.Bounds) {
		t.Errorf("%d of %d bounds are measured: %+v", len(judged), len(report.Bounds), judged)
	}
	if table := figures.Table(); !strings.Contains(table, report.AggregateSessions) {
		t.Error(table)
	}
}

func TestWhatIsComparedRunsOneRightAfterTheOther(t *testing.T) {
	proxy := func(n int) *cell { return &cell{Scene: report.Small, Target: report.ReverseProxy, Connections: n} }
	one, eight := proxy(1), proxy(8)
	direct := &cell{Scene: report.Small, Target: report.Direct}
	gateway := &cell{Scene: report.Small, Target: report.Server, beside: eight}
	seldom := &cell{Scene: "tokens", Target: "many", beside: eight}
	all := []*cell{direct, one, eight, gateway, seldom}
	for round, want := range [][]*cell{
		{direct, one, eight, gateway, seldom},
		{one, gateway, eight}, // backwards, and without what has no bound
		{one, eight, gateway},
		{direct, one, seldom, gateway, eight},
	} {
		if got := order(all, round); !slices.Equal(got, want) {
			t.Errorf("round %d: %v, not %v", round, got, want)
		}
	}
}

func TestARatioIsMadeWithinARound(t *testing.T) {
	proxy := &cell{rounds: []figures{{number: 1, perSecond: 10}, {number: 2, perSecond: 20}, {number: 3, perSecond: 40}}}
	gateway := &cell{beside: proxy, rounds: []figures{{number: 3, perSecond: 20}, {number: 1, perSecond: 5}}}
	if ratio := gateway.ratio(func(f figures) float64 { return f.perSecond }); ratio != (report.Spread{Median: 0.5, Min: 0.5, Max: 0.5}) {
		t.Errorf("%+v", ratio)
	}
}

func TestCellsThatTakeTurnsAreTheFirstAsOftenAsTheSecond(t *testing.T) {
	static := &cell{Target: "static"}
	leased := &cell{Target: "leased", beside: static, turns: 2}
	var names string
	for _, c := range order([]*cell{static, leased}, 1) {
		names += c.Target + " "
	}
	if want := "static leased leased static static leased leased static "; names != want {
		t.Errorf("the order is %q, not %q", names, want)
	}
}
