package review

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/policy"
)

// narrow makes the commands that take unused rights away. Each keeps those of the present
// rights that were used, and never grants others. There is no command where use is not
// known.
func (r *Review) narrow(s *Snapshot, e *evaluation) []Command {
	n := &narrowing{review: r, evaluation: e, uses: map[string]map[string]*serverUse{}}
	for name := range s.Clients {
		n.uses[name] = usesOf(s.Usage.Rows[name])
	}
	commands := []Command{}
	for _, role := range r.Roles {
		if c, ok := n.role(role.Name); ok {
			commands = append(commands, c)
		}
	}
	for i := range r.Clients {
		if c, ok := n.client(&r.Clients[i]); ok {
			commands = append(commands, c)
		}
	}
	return commands
}

// narrowing looks for rights that were not used.
type narrowing struct {
	review     *Review
	evaluation *evaluation
	uses       map[string]map[string]*serverUse // by client and server
}

// role narrows a role to the rights that any of its clients used.
func (n *narrowing) role(name string) (Command, bool) {
	together := map[string]*serverUse{}
	members := 0
	for client, settings := range n.evaluation.Clients {
		if settings.Role != name {
			continue
		}
		members++
		if !n.review.Coverage.knows(settings) {
			return Command{}, false
		}
		for server, use := range n.uses[client] {
			if together[server] == nil {
				together[server] = &serverUse{byDay: map[string]string{}}
			}
			together[server].join(use)
		}
	}
	if members == 0 {
		return Command{}, false
	}
	rights := []policy.Rights{{Role: name, Lists: n.evaluation.Roles[name].Lists}}
	kept := n.kept(rights, together)
	if !kept.used { // each of its clients has a command of its own
		return Command{}, false
	}
	fields, dropped := n.lists(rights, kept)
	if len(fields) == 0 {
		return Command{}, false
	}
	return Command{
		For:   "role " + name,
		Why:   fmt.Sprintf("used by its %s in %d days: %s", count(members, "client"), n.review.Coverage.Days, dropped),
		Shell: writeCommand(n.review.Mount+"/roles/"+name, fields),
	}, true
}

// client narrows a client to the rights that it used.
func (n *narrowing) client(c *Client) (Command, bool) {
	settings := n.evaluation.Clients[c.Name]
	if c.Disabled || !n.review.Coverage.knows(settings) || c.Role != "" && n.evaluation.Roles[c.Role] == nil || len(settings.AllowedServers) == 0 && c.Role == "" {
		return Command{}, false
	}
	path := n.review.Mount + "/clients/" + c.Name
	command := Command{For: "client " + c.Name}
	kept := n.kept(c.rights, n.uses[c.Name])
	if !kept.used {
		command.Why = fmt.Sprintf("it used no server in %d days", n.review.Coverage.Days)
		if c.LastUsed >= n.review.Coverage.From {
			command.Why += ", though it connected on " + c.LastUsed
		}
		command.Shell = writeCommand(path, []field{{"disabled", []string{"true"}}})
		return command, true
	}
	fields, dropped := n.lists(c.rights, kept)
	if len(fields) == 0 {
		return Command{}, false
	}
	if c.Role != "" {
		fields = append([]field{{"role", nil}}, fields...)
		dropped += "; it leaves the role " + c.Role + ", whose later changes then do not reach it"
		fields = append(fields, lowerRate(settings.limit, n.evaluation.Roles[c.Role].limit)...)
	}
	command.Why = fmt.Sprintf("used in %d days: %s", n.review.Coverage.Days, dropped)
	command.Shell = writeCommand(path, fields)
	return command, true
}

// keeping is the part of some rights that stays.
type keeping struct {
	used    bool
	servers []string            // in order
	tools   map[string][]string // by server, where only listed tools were used
}

// kept picks the part that stays: the registered servers that were used, and those that are
// disabled, which nobody can use.
func (n *narrowing) kept(rights []policy.Rights, uses map[string]*serverUse) keeping {
	k := keeping{tools: map[string][]string{}}
	for i := range n.review.Servers {
		server := &n.review.Servers[i]
		use := uses[server.Name]
		used := use != nil && use.last >= n.review.Coverage.From
		if !policy.AllowsServer(rights, server.Name) || !used && !server.Disabled {
			continue
		}
		k.servers = append(k.servers, server.Name)
		if !used {
			continue
		}
		k.used = true
		if named := n.nameable(rights, server.Name, use); len(named) > 0 && !use.unlisted(n.review.Coverage.From) {
			k.tools[server.Name] = named
		}
	}
	return k
}

// nameable are the tools that were used, may be used still, and can be named in a rule. It is
// nil where one of them cannot.
func (n *narrowing) nameable(rights []policy.Rights, server string, use *serverUse) []string {
	var named []string
	filter := policy.CompileRules(server, rights).Tools
	for _, tool := range use.tools(n.review.Coverage.From) {
		if strings.Contains(tool, check.AnyServer) || policy.ValidateRule(policy.Tool, server+"/"+tool) != nil {
			return nil
		}
		if filter.Allows(tool) {
			named = append(named, tool)
		}
	}
	return named
}

// lists returns the fields of one source that grants the kept part of the present rights, and
// the dropped part in words. If there are no fields, nothing would change.
func (n *narrowing) lists(rights []policy.Rights, keep keeping) (fields []field, dropped string) {
	own := &rights[0].Lists
	joined := len(rights) > 1
	before := n.admitted(rights)
	var words []string
	if joined || !slices.Equal(slices.Sorted(slices.Values(own.AllowedServers)), keep.servers) {
		fields = append(fields, field{"allowed_servers", keep.servers})
	}
	if len(keep.servers) < before {
		words = append(words, fmt.Sprintf("%d of %s", len(keep.servers), count(before, "server")))
	}
	changed := len(words) > 0 || slices.ContainsFunc(rights, func(r policy.Rights) bool { return n.more(r.AllowedServers) })
	for i := range kinds {
		k := &kinds[i]
		rules, narrower := n.rules(k, rights, keep)
		if k == tools && narrower {
			changed = true
			words = append(words, fmt.Sprintf("only the tools that were called of %s", count(len(keep.tools), "server")))
		}
		if rules != nil && (joined || narrower) {
			fields = append(fields, field{k.allowed, rules})
		}
		if joined {
			if denied := n.denied(k, rights); len(denied) > 0 {
				fields = append(fields, field{k.denied, denied})
			}
		}
	}
	if !changed {
		return nil, ""
	}
	if len(words) == 0 {
		words = append(words, "each server; none that may be registered later")
	}
	return fields, strings.Join(words, ", ")
}

// more reports whether a list admits servers that are not registered yet.
func (n *narrowing) more(allowed []string) bool {
	return slices.ContainsFunc(allowed, func(name string) bool { return n.evaluation.Servers[name] == nil })
}

// admitted counts the registered servers that the rights admit.
func (n *narrowing) admitted(rights []policy.Rights) (admitted int) {
	for i := range n.review.Servers {
		if policy.AllowsServer(rights, n.review.Servers[i].Name) {
			admitted++
		}
	}
	return admitted
}

// rules are the allowed items of a kind, for the servers that are kept. They are nil where the
// first source's own list, unset, says the same.
func (n *narrowing) rules(k *kind, rights []policy.Rights, keep keeping) (rules []string, narrower bool) {
	limited := false
	rules = []string{}
	for _, server := range keep.servers {
		now, all := n.evaluation.allowed(k, rights, server)
		if named, found := keep.tools[server]; found && k == tools {
			limited = true
			exact := make([]string, 0, len(named))
			for _, tool := range named {
				exact = append(exact, server+"/"+tool)
			}
			narrower = narrower || all || !slices.Equal(exact, texts(now))
			rules = append(rules, exact...)
			continue
		}
		if all {
			rules = append(rules, server+"/*")
			continue
		}
		limited = true
		for _, limit := range now {
			if limit.Rule != "" {
				rules = append(rules, about(server, limit.Rule))
			}
		}
	}
	if own, _ := k.lists(&rights[0].Lists); *own == nil && !limited {
		return nil, false
	}
	slices.Sort(rules)
	return slices.Compact(rules), narrower // empty, and not nil, where none is allowed
}

func texts(limits []Limit) []string {
	rules := make([]string, 0, len(limits))
	for _, limit := range limits {
		rules = append(rules, limit.Rule)
	}
	return slices.Sorted(slices.Values(rules))
}

// denied joins the denials of the sources.
func (n *narrowing) denied(k *kind, rights []policy.Rights) []string {
	all := map[string]bool{}
	for i := range rights {
		_, denied := k.lists(&rights[i].Lists)
		for _, rule := range *denied {
			all[rule] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// lowerRate is the limit that a client has by itself and by its role, if the role's counts.
func lowerRate(own, role limit) []field {
	counts := policy.RateLimit(own).Lower(policy.RateLimit(role))
	if counts == policy.RateLimit(own) {
		return nil
	}
	return []field{{"rate_limit", []string{fmt.Sprint(counts.Rate)}}, {"rate_burst", []string{fmt.Sprint(counts.Burst)}}}
}
