package report

import (
	"fmt"

	"vault-plugin-secrets-mcp/test/bench/report/picture"
)

// answers are the parts of the page's sentences that depend on the figures. Whatever these are,
// the sentences are true. What was not measured has no answer.
func (c *Calls) answers() map[string]string {
	all := map[string]string{}
	if judged := c.Judge(); len(judged) > 0 {
		reached := 0
		for _, j := range judged {
			if j.Reached {
				reached++
			}
		}
		all["reached"] = fmt.Sprintf("%d of %d", reached, len(judged))
		if reached == len(judged) {
			all["reached"] = fmt.Sprintf("all %d", reached)
		}
	}
	micro := func(scene, target string) string {
		r := c.Find(scene, target, 1)
		if r == nil {
			return "–"
		}
		return fmt.Sprintf("%.0f µs", r.P50.Median)
	}
	all["time"] = fmt.Sprintf("With one connection, at the median: %s with 200 B and %s with 64 KB, where the plain proxy takes %s and %s; over TLS with 200 B, %s and %s. At `/mcp`: %s and %s",
		micro(Small, Server), micro(Large, Server), micro(Small, ReverseProxy), micro(Large, ReverseProxy),
		micro(SmallTLS, Server), micro(SmallTLS, ReverseProxy), micro(Small, Aggregate), micro(Large, Aggregate))
	all["cpu"] = fmt.Sprintf("With 1 / 8 / 64 connections %s times as much with 200 B, and %s times with 64 KB. At `/mcp`: %s and %s times",
		c.three(Small, Server)(cpu), c.three(Large, Server)(cpu), c.three(Small, Aggregate)(cpu), c.three(Large, Aggregate)(cpu))
	rate := func(target string) string {
		text := ""
		for i, n := range Connections {
			if i > 0 {
				text += " / "
			}
			if r := c.Find(Small, target, n); r != nil {
				text += picture.Number(r.PerSecond.Median)
			}
		}
		return text
	}
	all["rate"] = fmt.Sprintf("With 1 / 8 / 64 connections %s, which is %s times the plain proxy's. At `/mcp`: %s, which is %s times",
		rate(Server), c.three(Small, Server)(perSecond), rate(Aggregate), c.three(Small, Aggregate)(perSecond))
	if cold := c.Find("tokens", Cold, 1); cold != nil {
		all["cold"] = fmt.Sprintf("%.1f ms", cold.P50.Median/1e3)
		all["cold-rate"] = picture.Number(cold.PerSecond.Median)
	}
	rest, busy := c.Find(Alone, AtRest, 0), c.Find(Alone, Server, 64)
	if rest != nil && busy != nil {
		all["memory"] = fmt.Sprintf("%.0f MB before the first request, %.0f MB with 64 connections that call a server", resident.of(rest), resident.of(busy))
	}
	return all
}
