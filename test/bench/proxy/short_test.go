package proxy

import (
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/bench/measure"
)

// TestEveryCellOfTheBenchmarkWorks runs each once, for a moment: every answer is the
// one that is wanted. How fast they come is not looked at.
func TestEveryCellOfTheBenchmarkWorks(t *testing.T) {
	s := newStage(t, 20)
	all := append(cells(t, s), credentials(t, s)...)
	for _, c := range all {
		if c.refused { // what comes second is counted in the audit log alone
			c.run(t, s, 20*time.Millisecond)
			c.rounds = nil
		}
		c.run(t, s, 20*time.Millisecond)
	}
	for _, c := range all {
		if len(c.rounds) != 1 || c.rounds[0].perSecond <= 0 || c.rounds[0].p99 < c.rounds[0].p50 {
			t.Errorf("%s, %s: %+v", c.Scene, c.Target, c.rounds)
		}
	}
	if leased := measure.Gauge(t, s.warm, "mcp_gateway_credentials"); leased != 1 {
		t.Errorf("the gateway has leased %.0f credentials, for one client and one server", leased)
	}
	if pictures := curves(all); len(pictures) != 1 || len(pictures[0].Series) != 5 {
		t.Errorf("the picture does not have every kind of call: %+v", pictures)
	}
	if _, err := all[0].MarshalJSON(); err != nil {
		t.Error(err)
	}
}

func TestCellsThatTakeTurnsAreTheFirstAsOftenAsTheSecond(t *testing.T) {
	plain, static := &cell{Target: "plain"}, &cell{Target: "static"}
	leased := &cell{Target: "leased", beside: static, turns: 2}
	var names string
	for _, c := range order([]*cell{plain, static, leased}) {
		names += c.Target + " "
	}
	if want := "plain static leased leased static static leased leased static "; names != want {
		t.Errorf("the order is %q, not %q", names, want)
	}
}
