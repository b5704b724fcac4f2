package review

import (
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/backend/policy"
)

// kind is a kind of item with the two fields that have rules about it.
type kind struct {
	name            string // of the items, in words
	allowed, denied string // names of fields
	lists           func(*policy.Lists) (allowed, denied *[]string)
	filter          func(*policy.Rules) *policy.Filter
}

var kinds = []kind{
	{
		"tools", "allowed_tools", "denied_tools",
		func(l *policy.Lists) (allowed, denied *[]string) { return &l.AllowedTools, &l.DeniedTools },
		func(r *policy.Rules) *policy.Filter { return r.Tools },
	},
	{
		"prompts", "allowed_prompts", "denied_prompts",
		func(l *policy.Lists) (allowed, denied *[]string) { return &l.AllowedPrompts, &l.DeniedPrompts },
		func(r *policy.Rules) *policy.Filter { return r.Prompts },
	},
	{
		"resources", "allowed_resources", "denied_resources",
		func(l *policy.Lists) (allowed, denied *[]string) { return &l.AllowedResources, &l.DeniedResources },
		func(r *policy.Rules) *policy.Filter { return r.Resources },
	},
}

// tools is the kind of which use is known.
var tools = &kinds[0]

// limits are the rules that leave a client less than the whole of a server that its rights
// admit. A source that does not admit a server allows none of its items, so its allowing rules
// are left out; its denials count all the same.
func (e *evaluation) limits(rights []policy.Rights, server string) []Limit {
	var limits []Limit
	for i := range kinds {
		k := &kinds[i]
		allowed, all := e.allowed(k, rights, server)
		if !all {
			limits = append(limits, allowed...)
		}
		for j := range rights {
			_, denied := k.lists(&rights[j].Lists)
			for _, rule := range e.concerning(k, *denied, server) {
				limits = append(limits, Limit{List: k.denied, Rule: rule, Role: rights[j].Role})
			}
		}
	}
	return limits
}

// allowed are the rules by which sources allow items of a server, and whether they allow all
// of them.
func (e *evaluation) allowed(k *kind, rights []policy.Rights, server string) (limits []Limit, all bool) {
	for i := range rights {
		if !policy.AllowsServer(rights[i:i+1], server) {
			continue
		}
		list, _ := k.lists(&rights[i].Lists)
		rules := e.concerning(k, *list, server)
		all = all || *list == nil || slices.ContainsFunc(rules, func(rule string) bool { return strings.HasSuffix(rule, "/*") && strings.Count(rule, "/") == 1 })
		for _, rule := range rules {
			limits = append(limits, Limit{List: k.allowed, Rule: rule, Role: rights[i].Role})
		}
		if len(rules) == 0 {
			limits = append(limits, Limit{List: k.allowed, Role: rights[i].Role})
		}
	}
	return limits, all
}

// concerning picks the rules about a server, by the reading that enforces them.
func (e *evaluation) concerning(k *kind, rules []string, server string) []string {
	var found []string
	for _, rule := range rules {
		key := concern{list: k.denied, rule: rule, server: server}
		concerns, known := e.concerns[key]
		if !known {
			denying := policy.Rights{Lists: policy.Lists{AllowedServers: []string{server}}}
			_, denied := k.lists(&denying.Lists)
			*denied = []string{rule}
			concerns = k.filter(policy.CompileRules(server, []policy.Rights{denying})) != nil
			e.concerns[key] = concerns
		}
		if concerns {
			found = append(found, rule)
		}
	}
	return found
}

// concern is the question whether a rule concerns a server.
type concern struct{ list, rule, server string }

// about is the same rule for one server alone.
func about(server, rule string) string {
	_, item, _ := strings.Cut(rule, "/")
	return server + "/" + item
}
