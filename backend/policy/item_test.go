package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// role are the rights of a role.
func role(name string, l Lists) Rights { return Rights{Role: name, Lists: l} }

func TestRulesOfSourcesAddUp(t *testing.T) {
	all := []string{"*"}
	tests := []struct {
		name         string
		rights       []Rights
		pass, refuse []string
		reason       string // of the first refusal
		source       string
	}{
		{
			name:   "a role's list does not narrow the client's own servers",
			rights: []Rights{{Lists: Lists{AllowedServers: all}}, role("r", Lists{AllowedServers: all, AllowedTools: []string{"github/pull"}})},
			pass:   []string{"pull", "push"},
		},
		{
			name: "a source's tools count on its own servers alone",
			rights: []Rights{
				{Lists: Lists{AllowedServers: []string{"gitlab"}, AllowedTools: []string{"github/push"}}},
				role("r", Lists{AllowedServers: []string{"github"}, AllowedTools: []string{"github/pull"}}),
			},
			pass: []string{"pull"}, refuse: []string{"push"},
			reason: `no rule in allowed_tools of role r matches. Add "github/push" to allow it`,
		},
		{
			name: "what either source allows is allowed",
			rights: []Rights{
				{Lists: Lists{AllowedServers: all, AllowedTools: []string{"github/push"}}},
				role("r", Lists{AllowedServers: all, AllowedTools: []string{"github/pull"}}),
			},
			pass: []string{"push", "pull"}, refuse: []string{"fork"},
			reason: "no rule in allowed_tools of client c or in allowed_tools of role r matches",
		},
		{
			name:   "a role denies what the client allows",
			rights: []Rights{{Lists: Lists{AllowedServers: all}}, role("r", Lists{DeniedTools: []string{"*/push"}})},
			pass:   []string{"pull"}, refuse: []string{"push"},
			reason: `the rule "*/push" in denied_tools of role r matches`, source: "denied_tools of role r",
		},
		{
			name:   "a client denies what its role allows",
			rights: []Rights{{Lists: Lists{DeniedTools: []string{"github/push"}}}, role("r", Lists{AllowedServers: all})},
			pass:   []string{"pull"}, refuse: []string{"push"},
			reason: `in denied_tools of client c matches`, source: "denied_tools of client c",
		},
		{
			name:   "a role that does not exist leaves nothing",
			rights: []Rights{{Lists: Lists{AllowedServers: all}}, {Role: "r", Missing: true}},
			refuse: []string{"pull"}, reason: `there is no role "r"`,
		},
		{
			name:   "a server that no source admits has nothing",
			rights: []Rights{{Lists: Lists{AllowedServers: []string{"gitlab"}}}, role("r", Lists{})},
			refuse: []string{"pull"}, reason: `its allowed_servers is gitlab, that of its role "r" is empty. Add "github" to allowed_servers of the client or of the role`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tools := CompileRules("github", test.rights).Tools
			for _, tool := range test.pass {
				if d := DecideItem("c", test.rights, "github", Tool, tool); !tools.Allows(tool) || !d.Allowed {
					t.Errorf("tool %q is refused: %s", tool, d.Reason)
				}
			}
			for i, tool := range test.refuse {
				d := DecideItem("c", test.rights, "github", Tool, tool)
				if tools.Allows(tool) || d.Allowed || d.Decision != ToolNotAllowed {
					t.Errorf("tool %q is allowed: %s", tool, d.Reason)
				}
				if i == 0 && (!strings.Contains(d.Reason, test.reason) || d.Source != test.source) {
					t.Errorf("tool %q: reason %q, source %q", tool, d.Reason, d.Source)
				}
			}
		})
	}
}

func TestASourceThatIsMissingTakesEveryServerAway(t *testing.T) {
	own := Rights{Lists: Lists{AllowedServers: []string{"*", "github"}}}
	for name, rights := range map[string][]Rights{
		"after the client's own fields":  {own, {Role: "r", Missing: true}},
		"before them":                    {{Role: "r", Missing: true}, own},
		"and holds servers all the same": {own, {Role: "r", Missing: true, Lists: own.Lists}},
	} {
		t.Run(name, func(t *testing.T) {
			if AllowsServer(rights, "github") || Decide("c", rights, Compile(nil), &github).Allowed {
				t.Error("the server is allowed")
			}
			if !rights[0].HasRules() && !rights[1].HasRules() {
				t.Error("a filter counts as one without rules")
			}
		})
	}
}

func TestRulesAboutOneKindOfItemSayNothingAboutAnother(t *testing.T) {
	for _, item := range items {
		var l Lists
		switch item {
		case Tool:
			l.AllowedTools = []string{}
		case Prompt:
			l.AllowedPrompts = []string{}
		case Resource:
			l.AllowedResources = []string{}
		}
		l.AllowedServers = []string{"*"}
		rules := CompileRules("s", []Rights{{Lists: l}})
		for _, other := range items {
			f := rules.of(other)
			if f.Allows("file:///a") != (other != item) {
				t.Errorf("allowed_%ss is empty, and %ss are allowed: %v", item, other, f.Allows("file:///a"))
			}
		}
	}
}

func TestAnItemIsDecidedAfterItsServer(t *testing.T) {
	rights := []Rights{{Lists: Lists{AllowedServers: []string{"*"}, DeniedTools: []string{"github/push"}}}}
	decide := func(p *Policy, tool string) Decision {
		return Decide("c", rights, p, &github).Then(Tool, func() Decision { return DecideItem("c", rights, github.Name, Tool, tool) })
	}
	deny := Compile([]Source{managed(t, "corp", `{"deniedMcpServers":[{"serverName":"github"}]}`)})
	tests := []struct {
		name    string
		d       Decision
		want    string
		results string
	}{
		{"a denied server", decide(deny, "pull"), BlockedDeny, "passed passed passed blocked skipped skipped"},
		{"a denied tool", decide(Compile(nil), "push"), ToolNotAllowed, "passed passed passed passed passed blocked"},
		{"another tool", decide(Compile(nil), "pull"), Allowed, "passed passed passed passed passed passed"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var results []string
			for _, c := range test.d.Checks {
				results = append(results, c.Result)
			}
			if got := strings.Join(results, " "); test.d.Decision != test.want || got != test.results || test.d.Checks[5].Check != CheckToolRules {
				t.Errorf("decision %s, checks %s", test.d.Decision, got)
			}
		})
	}
}

// randomRights are random sources, whose rules meet often.
func (g generated) rights() []Rights {
	rules := func() []string {
		switch g.IntN(4) {
		case 0:
			return nil
		case 1:
			return []string{}
		}
		var list []string
		for range 1 + g.IntN(3) {
			list = append(list, from(g.Rand, "a", "b", "*", "a*")+"/"+from(g.Rand,
				"x", "y*", "*", "*x", "", "file:///a", "file:///a/*", "file:///*", "*A*", "note://b", "file:///a%20b", "file:///a/../b", "http://h.com/*", "*.txt"))
		}
		return list
	}
	var all []Rights
	for i := range 1 + g.IntN(2) {
		r := Rights{Missing: g.IntN(20) == 0, Lists: Lists{
			AllowedServers: [][]string{nil, {"*"}, {"a"}, {"a", "b"}, {"b"}}[g.IntN(5)],
			AllowedTools:   rules(), DeniedTools: rules(), AllowedPrompts: rules(), DeniedPrompts: rules(), AllowedResources: rules(), DeniedResources: rules(),
		}}
		if i > 0 {
			r.Role = "r"
		}
		all = append(all, r)
	}
	return all
}

// randomItem returns the name or the URI of an item.
func (g generated) item() string {
	return from(g.Rand, "x", "yy", "ax", "", "*", "file:///a", "FILE:///a", "file:///A", "file:///a/b.txt", "file:///a%2fb", "file:///a/../b",
		"file:///a//b", "file:///a?q", "file:///a/", "note://b", "note://B#f", "file:///a b", "file:///%61", "http://H.com/x", `file:///a\b`)
}

func TestFilterDecidesAsTheExplanation(t *testing.T) {
	g := generated{rand.New(rand.NewPCG(18, 2))}
	allowed := 0
	for range 4 * rounds {
		rights, server, item, name := g.rights(), from(g.Rand, "a", "b", "ab"), items[g.IntN(3)], g.item()
		rules := CompileRules(server, rights)
		f := rules.of(item)
		d := DecideItem("c", rights, server, item, name)
		if !AllowsServer(rights, server) {
			if d.Allowed || f.Allows(name) {
				t.Fatalf("%s %q of server %q, which nothing admits: %+v", item, name, server, rights)
			}
			continue
		}
		if f.Allows(name) != d.Allowed {
			t.Fatalf("%s %q of server %q: the filter says %v, the explanation %s\n%+v", item, name, server, f.Allows(name), d.Reason, rights)
		}
		if d.Allowed {
			allowed++
		}
		if f == nil && !strings.Contains(d.Reason, "no rule is about") && !strings.Contains(d.Reason, "no rule denies it") {
			t.Fatalf("no filter, and the reason %q", d.Reason)
		}
	}
	if allowed < rounds/2 || allowed > 3*rounds {
		t.Errorf("%d of %d items are allowed", allowed, 4*rounds)
	}
}

func TestRuleAddedChangesOneWayAlone(t *testing.T) {
	g := generated{rand.New(rand.NewPCG(18, 3))}
	for range rounds {
		rights, name := g.rights(), g.item()
		rule := "a/" + from(g.Rand, "x", "file:///a*", "*")
		more := slices.Clone(rights)
		i := g.IntN(len(more))
		before := CompileRules("a", rights).Resources.Allows(name)
		more[i].DeniedResources = append(slices.Clone(more[i].DeniedResources), rule)
		if CompileRules("a", more).Resources.Allows(name) && !before {
			t.Fatalf("the denial %q admits %q to %+v", rule, name, rights)
		}
		more = slices.Clone(rights)
		if more[i].AllowedResources == nil {
			continue // a first list restricts items that were free before
		}
		more[i].AllowedResources = append(slices.Clone(more[i].AllowedResources), rule)
		if before && !CompileRules("a", more).Resources.Allows(name) {
			t.Fatalf("the rule %q takes %q away from %+v", rule, name, rights)
		}
	}
}

func TestTemplateStaysWhereAnExpansionIsAllowed(t *testing.T) {
	g := generated{rand.New(rand.NewPCG(18, 4))}
	stays := 0
	for range 4 * rounds {
		rights, name := g.rights(), g.item()
		f := CompileRules("a", rights).Resources
		if !f.Allows(name) {
			continue
		}
		for _, cut := range []int{0, 1, len(name) / 2, len(name)} {
			stays++
			if template := name[:min(cut, len(name))] + "{rest}"; !f.AllowsTemplate(template) {
				t.Fatalf("%q is allowed, and the template %q is not: %+v", name, template, rights)
			}
		}
	}
	if stays < rounds {
		t.Errorf("only %d templates were tried", stays)
	}
}

func TestTemplates(t *testing.T) {
	f := CompileRules("s", []Rights{{Lists: Lists{
		AllowedServers: []string{"*"}, AllowedResources: []string{"s/file:///docs/*", "s/note://a"}, DeniedResources: []string{"s/file:///docs/secret/*"},
	}}}).Resources
	for template, want := range map[string]bool{
		"file:///docs/{name}":        true,
		"file:///{+path}":            true,
		"{+uri}":                     true,
		"FILE:///docs/{name}":        true,
		"note://{id}":                true,
		"file:///docs/a.txt":         true, // no expression: the URI itself
		"file:///docs/secret/{name}": false,
		"file:///docs/SECRET/{name}": false,
		"file:///etc/{name}":         false,
		"db://{table}":               false,
		"file:///docs/../{name}":     false,
		`file:\\\{name}`:             false,
	} {
		if f.AllowsTemplate(template) != want {
			t.Errorf("template %q: allowed is %v", template, !want)
		}
	}
	if !(*Filter)(nil).AllowsTemplate("any{thing") {
		t.Error("without rules a template is refused")
	}
}

func TestLowerLimitCounts(t *testing.T) {
	tests := []struct{ a, b, want RateLimit }{
		{RateLimit{}, RateLimit{}, RateLimit{}},
		{RateLimit{}, RateLimit{2, 5}, RateLimit{2, 5}},
		{RateLimit{0.5, 9}, RateLimit{2, 1}, RateLimit{0.5, 9}},
		{RateLimit{2, 5}, RateLimit{2, 3}, RateLimit{2, 3}},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.a, test.b), func(t *testing.T) {
			if got := test.a.Lower(test.b); got != test.want {
				t.Errorf("%v", got)
			}
			if got := test.b.Lower(test.a); got != test.want {
				t.Errorf("the other way round: %v", got)
			}
		})
	}
}
