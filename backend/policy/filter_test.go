package policy

import "testing"

func TestRulesAboutTools(t *testing.T) {
	tests := []struct {
		name            string
		allowed, denied []string
		none            bool // no rule concerns the server
		pass, refuse    []string
	}{
		{name: "nothing set leaves the server without rules", none: true, pass: []string{"any"}},
		{name: "an empty denied list is no rule", denied: []string{}, none: true, pass: []string{"any"}},
		{name: "a denied tool of another server is no rule here", denied: []string{"gitlab/push"}, none: true, pass: []string{"push"}},
		{name: "a denied tool is refused, the others pass", denied: []string{"github/push"}, pass: []string{"pull", "push2", "Push"}, refuse: []string{"push"}},
		{name: "an empty allowed list allows no tool", allowed: []string{}, refuse: []string{"any", ""}},
		{name: "an allowed list without the server allows none of its tools", allowed: []string{"gitlab/*"}, refuse: []string{"push"}},
		{name: "an allowed tool passes, the others are refused", allowed: []string{"github/pull"}, pass: []string{"pull"}, refuse: []string{"push", "pull_all", "PULL", ""}},
		{name: "a wildcard stands for all tools of the server", allowed: []string{"github/*"}, pass: []string{"pull", "a/b", "é"}},
		{name: "a wildcard stands for a part of the tool's name", allowed: []string{"github/get_*_v*"}, pass: []string{"get_issue_v2", "get__v"}, refuse: []string{"get_issue", "xget_a_v1"}},
		{name: "a wildcard stands for the server", allowed: []string{"*/read"}, pass: []string{"read"}, refuse: []string{"write"}},
		{name: "a wildcard stands for a part of the server's name", allowed: []string{"git*/read"}, pass: []string{"read"}, refuse: []string{"write"}},
		{name: "deny wins over allow", allowed: []string{"github/*"}, denied: []string{"*/delete_*"}, pass: []string{"get"}, refuse: []string{"delete_repo"}},
		{name: "the tool's half may hold a slash", allowed: []string{"github/admin/*"}, pass: []string{"admin/list"}, refuse: []string{"admin"}},
		{name: "an allowed rule without a server admits nothing", allowed: []string{"*", "pull"}, refuse: []string{"pull", "*"}},
		{name: "a denied rule without a server denies everything", denied: []string{"push"}, refuse: []string{"push", "pull"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tools := CompileRules("github", []Rights{{Lists: Lists{AllowedServers: []string{"*"}, AllowedTools: test.allowed, DeniedTools: test.denied}}}).Tools
			if (tools == nil) != test.none {
				t.Fatalf("the filter is %v, want nil: %v", tools, test.none)
			}
			for _, tool := range test.pass {
				if !tools.Allows(tool) {
					t.Errorf("tool %q is refused", tool)
				}
			}
			for _, tool := range test.refuse {
				if tools.Allows(tool) {
					t.Errorf("tool %q is allowed", tool)
				}
			}
		})
	}
}

func TestValidateRuleOfTools(t *testing.T) {
	for _, rule := range []string{"github/push", "*/*", "git*/get_*", "a/b/c", "a/b c", "a/outil-é", "A_-9/x"} {
		if err := ValidateRule(Tool, rule); err != nil {
			t.Errorf("%q is refused: %v", rule, err)
		}
	}
	tests := []struct{ name, rule, want string }{
		{"an empty rule", "", "names no server"},
		{"a tool without a server", "push", `write it as "server/tool"`},
		{"a wildcard alone", "*", `or "*/*"`},
		{"no server before the slash", "/push", `write "*/push"`},
		{"no tool after the slash", "github/", `write "github/*"`},
		{"a server that cannot be registered", "git.hub/x", `no server is named "git.hub"`},
		{"a space before the server", " github/x", "no server is named"},
		{"a space after the tool", "github/x ", "space at its start or end"},
		{"a control character", "github/x\n", "control characters"},
		{"bytes that are not UTF-8", "github/\xff", "not UTF-8"},
		{"a rule without end", "github/" + string(make([]byte, maxRule)), "bytes long"},
	}
	for _, test := range tests {
		t.Run(test.name+" is refused", func(t *testing.T) { wantError(t, ValidateRule(Tool, test.rule), test.want) })
	}
}

// of returns the filter of one kind of item.
func (r *Rules) of(item Item) *Filter {
	return map[Item]*Filter{Tool: r.Tools, Prompt: r.Prompts, Resource: r.Resources}[item]
}
