package review

import (
	"maps"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/policy"
)

// New decides about each pair of a snapshot. It looks at the use of rights in the given number
// of whole days before.
func New(s *Snapshot, days int) *Review {
	r := &Review{
		Schema: schema, At: s.At, Cluster: s.Cluster, Mount: s.Mount, Coverage: s.Usage.coverageOf(s.At, days),
		Clients: []Client{}, Roles: []Role{}, Servers: []Server{}, Pairs: make([]Pair, 0, len(s.Clients)*len(s.Servers)),
		Commands: []Command{},
	}
	e := newEvaluation(s)
	for _, name := range slices.Sorted(maps.Keys(s.Servers)) {
		server := s.Servers[name]
		r.Servers = append(r.Servers, Server{Name: name, Transport: server.Transport, Description: server.Description, Disabled: server.Disabled})
	}
	members := map[string]int{}
	for _, name := range slices.Sorted(maps.Keys(s.Clients)) {
		client := e.client(name)
		members[client.Role]++
		uses := usesOf(s.Usage.Rows[name])
		for i := range r.Servers {
			pair := e.pair(&client, &r.Servers[i])
			if pair.Allowed {
				client.Reaches++
				r.Servers[i].Clients++
				r.Coverage.mark(&pair, s.Clients[name], uses[pair.Server])
			}
			r.Pairs = append(r.Pairs, pair)
		}
		r.Clients = append(r.Clients, client)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Roles)) {
		r.Roles = append(r.Roles, Role{Name: name, Clients: members[name], AllowedServers: orEmpty(s.Roles[name].AllowedServers)})
	}
	r.count(s)
	r.Commands = r.narrow(s, e)
	return r
}

func (r *Review) count(s *Snapshot) {
	c := &r.Counts
	c.Clients, c.Servers, c.Roles, c.Policies, c.Pairs = len(r.Clients), len(r.Servers), len(r.Roles), len(s.Policies), len(r.Pairs)
	tally := func(n *int, yes bool) {
		if yes {
			*n++
		}
	}
	for i := range r.Clients {
		tally(&c.DisabledClients, r.Clients[i].Disabled)
	}
	for i := range r.Servers {
		tally(&c.DisabledServers, r.Servers[i].Disabled)
	}
	for i := range r.Pairs {
		p := &r.Pairs[i]
		tally(&c.Allowed, p.Allowed)
		tally(&c.Limited, p.limited())
		tally(&c.Used, p.Usage == Used)
		tally(&c.Unused, p.Usage == Unused)
		tally(&c.NotKnown, p.Usage == NotKnown)
	}
}

// evaluation decides about the pairs of a snapshot.
type evaluation struct {
	*Snapshot
	policies map[string]*policy.Policy // the effective ones, by the names that a client binds
	subjects map[string]*policy.Server
	concerns map[concern]bool // whether a rule concerns a server
}

func newEvaluation(s *Snapshot) *evaluation {
	e := &evaluation{Snapshot: s, policies: map[string]*policy.Policy{}, subjects: map[string]*policy.Server{}, concerns: map[concern]bool{}}
	for name, server := range s.Servers {
		e.subjects[name] = &policy.Server{
			Name: name, Stdio: server.Transport == check.TransportStdio, URL: server.URL, Command: server.Command, Args: server.Args,
		}
	}
	return e
}

// client gathers the rights of a client, with their sources.
func (e *evaluation) client(name string) Client {
	settings := e.Clients[name]
	c := Client{
		Name: name, Role: settings.Role, Disabled: settings.Disabled, Policies: orEmpty(settings.Policies), LastUsed: settings.LastUsed,
		Missing: []string{}, Unregistered: []string{},
		rights: []policy.Rights{{Lists: settings.Lists}},
	}
	if c.Role != "" {
		of := policy.Rights{Role: c.Role, Missing: true}
		if role := e.Roles[c.Role]; role != nil {
			of = policy.Rights{Role: c.Role, Lists: role.Lists}
		}
		c.rights = append(c.rights, of)
		if of.Missing {
			c.Missing = append(c.Missing, "role "+c.Role)
		}
	}
	for _, name := range c.Policies {
		if _, found := e.Snapshot.Policies[name]; !found {
			c.Missing = append(c.Missing, "policy "+name)
		}
	}
	for i := range c.rights {
		for _, server := range c.rights[i].AllowedServers {
			switch {
			case server == check.AnyServer:
				c.AnyServer = true
			case e.Servers[server] == nil && !slices.Contains(c.Unregistered, server):
				c.Unregistered = append(c.Unregistered, server)
			}
		}
	}
	slices.Sort(c.Unregistered)
	return c
}

// pair is the decision about a client and a server.
func (e *evaluation) pair(c *Client, server *Server) Pair {
	d := e.decide(c, server.Name)
	p := Pair{Client: c.Name, Server: server.Name, Allowed: d.Allowed, Decision: d.Decision, Policy: d.Source}
	if p.Allowed {
		p.Limits = e.limits(c.rights, server.Name)
	}
	return p
}

// decide makes the decision as the engine's evaluate does.
func (e *evaluation) decide(c *Client, server string) policy.Decision {
	if e.Servers[server].Disabled {
		return policy.Stopped(server)
	}
	q := Question{Policies: strings.Join(e.Clients[c.Name].Policies, ","), Server: server}
	asked, isAsked := e.Asked[q]
	p := e.effective(e.Clients[c.Name].Policies)
	if isAsked {
		p = policy.Compile(nil)
	}
	d := policy.Decide(c.Name, c.rights, p, e.subjects[server])
	if isAsked && d.Allowed {
		d = asked
	}
	if c.Disabled {
		d = policy.Disabled(c.Name, d)
	}
	return d
}

// effective is the policy of clients that bind the named ones.
func (e *evaluation) effective(names []string) *policy.Policy {
	key := strings.Join(names, "\n")
	if held := e.policies[key]; held != nil {
		return held
	}
	e.policies[key] = policy.Compile(policy.Applying(maps.Values(e.Snapshot.Policies), names))
	return e.policies[key]
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
