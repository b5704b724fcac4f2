package review

import (
	"fmt"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
)

// sums are the counts of a review, in sentences.
func (r *Review) sums() []string {
	c := &r.Counts
	return []string{
		fmt.Sprintf("%s%s, %s%s, %s, %s.", count(c.Clients, "client"), ofThem(c.DisabledClients, "disabled"),
			count(c.Servers, "server"), ofThem(c.DisabledServers, "disabled"), count(c.Roles, "role"), counted(c.Policies, "policy", "policies")),
		fmt.Sprintf("%s of client and server; %d allowed, of which %d limited by rules.", count(c.Pairs, "pair"), c.Allowed, c.Limited),
		fmt.Sprintf("Use in the %s from %s to %s, or today: %d used, %d unused, %d not known.",
			count(r.Coverage.Days, "day"), r.Coverage.From, r.Coverage.To, c.Used, c.Unused, c.NotKnown),
	}
}

// today explains how the day of the review counts.
func (c *Coverage) today() string {
	return fmt.Sprintf("Today, %s, counts as used but never as complete, since it is not over.", c.Today)
}

// gaps says whether days before today are missing; the causes follow it.
func (c *Coverage) gaps() string {
	switch len(c.Gaps) {
	case 0:
		return "Each of the days before it is complete: every gateway has reported all of it."
	case 1:
		return "One of the days before it is not complete, so nothing is called unused:"
	case c.Days:
		return "None of the days before it is complete, so nothing is called unused:"
	}
	return fmt.Sprintf("%d of the days before it are not complete, so nothing is called unused:", len(c.Gaps))
}

// spans joins days that follow one another.
func spans(gaps []Gap) []string {
	var joined []string
	for i := 0; i < len(gaps); {
		last := i
		for last+1 < len(gaps) && gaps[last+1].Day == next(gaps[last].Day) {
			last++
		}
		if last == i {
			joined = append(joined, gaps[i].Day)
		} else {
			joined = append(joined, gaps[i].Day+" to "+gaps[last].Day)
		}
		i = last + 1
	}
	return joined
}

// causes names the incomplete days with the cause, each cause once.
func (c *Coverage) causes() []string {
	var order []string
	days := map[string][]Gap{}
	for _, gap := range c.Gaps {
		for _, why := range gap.Why {
			if days[why] == nil {
				order = append(order, why)
			}
			days[why] = append(days[why], gap)
		}
	}
	for i, why := range order {
		order[i] = strings.Join(spans(days[why]), ", ") + ": " + why
	}
	return order
}

func next(of string) string {
	at, err := time.Parse(day, of)
	if err != nil {
		return ""
	}
	return at.AddDate(0, 0, 1).Format(day)
}

// reasons are the decisions in words for people who do not know the evaluator's.
var reasons = map[string]string{
	policy.Allowed:             "allowed",
	policy.BlockedDeny:         "denied by a policy",
	policy.BlockedAllow:        "in no allow-list of its policies",
	policy.NotInAllowedServers: "not in its allow-list",
	policy.ClientDisabled:      "the client is disabled",
	policy.ServerDisabled:      "the server is disabled",
}

// reason says why a pair is allowed or not.
func (p *Pair) reason() string {
	words, known := reasons[p.Decision]
	if !known {
		words = p.Decision
	}
	if p.Policy != "" && !p.Allowed {
		words += " (policy " + p.Policy + ")"
	}
	return words
}

// use is the use of a pair, in words.
func (p *Pair) use() string {
	switch p.Usage {
	case Used:
		return "used, last on " + p.LastUsed
	case Unused:
		if p.LastUsed != "" {
			return "unused since " + p.LastUsed
		}
		return "unused"
	case NotKnown:
		if p.LastUsed != "" {
			return "not known; last seen on " + p.LastUsed
		}
		return "not known"
	}
	return ""
}

// rules describes the part of the server that the rules allow.
func (p *Pair) rules() string {
	var words []string
	for i := range kinds {
		if text := rulesText(p.Limits, &kinds[i]); text != "all" {
			words = append(words, kinds[i].name+": "+text)
		}
	}
	if len(words) == 0 {
		return "everything"
	}
	return strings.Join(words, "; ")
}

func ofThem(n int, what string) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d %s)", n, what)
}

func count(n int, what string) string { return counted(n, what, what+"s") }

func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}
