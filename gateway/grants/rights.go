package grants

import (
	"slices"

	"vault-plugin-secrets-mcp/backend/policy"
)

// allServers in a client's allowed_servers admits every registered server.
const allServers = "*"

// AllowsServer reports whether the client's allow-list, or that of its role, admits a server
// of that name. It says nothing about policies.
func (g *Grant) AllowsServer(name string) bool {
	allowed := false
	for i := range g.rights {
		if g.rights[i].Missing {
			return false
		}
		servers := g.rights[i].AllowedServers
		_, all := slices.BinarySearch(servers, allServers)
		_, found := slices.BinarySearch(servers, name)
		allowed = allowed || all || found
	}
	return allowed
}

// noRules are those of a client without any.
var noRules policy.Rules

// Rules returns the rules that concern the server, compiled once. It never returns nil.
func (g *Grant) Rules(server string) *policy.Rules {
	if g.rules == nil {
		return &noRules
	}
	if rules, ok := g.rules.Load(server); ok {
		return rules.(*policy.Rules)
	}
	rules, _ := g.rules.LoadOrStore(server, policy.CompileRules(server, g.rights))
	return rules.(*policy.Rules)
}

// SameRules reports whether both grants have the same rules about one kind of item.
func (g *Grant) SameRules(item policy.Item, other *Grant) bool {
	return g.entitlements == other.entitlements || slices.EqualFunc(g.rights, other.rights, func(a, b policy.Rights) bool {
		return a.SameRules(item, &b)
	})
}

// RateLimit returns the limit of the client's requests at each gateway.
func (g *Grant) RateLimit() policy.RateLimit { return g.rateLimit }

// internRights returns a copy whose strings are those of all entitlements that have them.
func internRights(rights []policy.Rights) []policy.Rights {
	all := make([]policy.Rights, len(rights))
	for i := range rights {
		r := &rights[i]
		all[i] = policy.Rights{Role: intern(r.Role), Missing: r.Missing, Lists: policy.Lists{
			AllowedServers: internAll(r.AllowedServers),
			AllowedTools:   internAll(r.AllowedTools), DeniedTools: internAll(r.DeniedTools),
			AllowedPrompts: internAll(r.AllowedPrompts), DeniedPrompts: internAll(r.DeniedPrompts),
			AllowedResources: internAll(r.AllowedResources), DeniedResources: internAll(r.DeniedResources),
		}}
		slices.Sort(all[i].AllowedServers)
	}
	return all
}
