package policy

import "fmt"

// Evaluate decides whether the policy admits a server. A nil policy was not compiled,
// and admits nothing; a client without any policy has the one that Compile(nil)
// returns.
func (p *Policy) Evaluate(server *Server) Decision {
	if p == nil {
		return block(BlockedAllow, rule{}, nil, CheckPolicies, "the client's policy is not known here yet, so nothing passes: ask again")
	}
	if len(p.missing) > 0 {
		return block(BlockedAllow, rule{source: p.missing[0]}, nil, CheckPolicies, fmt.Sprintf(
			"server %q is blocked, as everything is, since there is no policy named %s any more: create it again, or take it out of the client's policies",
			server.Name, listNames(p.missing)))
	}
	checks := []Check{{CheckPolicies, Passed, p.applying()}}
	s := newSubject(server)
	if r, by := p.denied.deny(s); by != "" {
		return block(BlockedDeny, r, checks, CheckDenied, fmt.Sprintf(
			"server %q is denied: its %s matches %s in %s of policy %q. Nothing overrides a denial: take the entry out, or narrow it",
			server.Name, s.shown(by), r.entry, DeniedSetting, r.source))
	}
	checks = append(checks, Check{CheckDenied, Passed, fmt.Sprintf("no entry of %s matches", DeniedSetting)})
	return p.allow(s, checks)
}

// applying says which policies the decision rests on.
func (p *Policy) applying() string {
	if len(p.sources) == 0 {
		return "no policy applies"
	}
	names := make([]string, len(p.sources))
	for i := range p.sources {
		names[i] = p.sources[i].Name
	}
	return "applied: " + listNames(names)
}

// allow makes the last check, the one of the allow-lists.
func (p *Policy) allow(s *subject, checks []Check) Decision {
	if !p.limited {
		reason := fmt.Sprintf("server %q is allowed: no entry denies it, and %s", s.server.Name, p.whyUnlimited())
		return pass(rule{}, checks, reason)
	}
	kind := p.allowed.deciding(s)
	r, ok := p.allowed.allow(s, kind)
	if !ok {
		return block(BlockedAllow, rule{}, checks, CheckAllowed, p.whyNotAllowed(s, kind))
	}
	return pass(r, checks, fmt.Sprintf("server %q is allowed: its %s matches %s in %s of policy %q",
		s.server.Name, s.shown(kind), r.entry, AllowedSetting, r.source))
}

func pass(r rule, checks []Check, reason string) Decision {
	return Decision{
		Allowed: true, Decision: Allowed, Reason: reason, Entry: r.entry, Source: r.source,
		Checks: append(checks, Check{CheckAllowed, Passed, reason}),
	}
}

// block ends a decision at the named check.
func block(decision string, r rule, checks []Check, check, reason string) Decision {
	checks = append(checks, Check{check, Blocked, reason})
	switch check {
	case CheckPolicies:
		checks = skipRest(checks, CheckDenied, CheckAllowed)
	case CheckDenied:
		checks = skipRest(checks, CheckAllowed)
	}
	return Decision{Decision: decision, Reason: reason, Entry: r.entry, Source: r.source, Checks: checks}
}

// subject is a server made ready to be compared with many entries.
type subject struct {
	server  *Server
	target  *target // of a remote server
	command string  // the key of a stdio server
}

func newSubject(server *Server) *subject {
	s := &subject{server: server}
	if server.Stdio {
		s.command = commandKey(append([]string{server.Command}, server.Args...))
	} else {
		s.target = newTarget(server.URL)
	}
	return s
}

// deny returns the rule that denies the server, and the kind of its entry.
func (r *entryRules) deny(s *subject) (rule, Kind) {
	if s.server.Stdio {
		if found, ok := r.commands[s.command]; ok {
			return found, ServerCommand
		}
	} else if found, ok := r.find(func(p *urlPattern) bool { return p.denies(s.target) }); ok {
		return found, ServerURL
	}
	if found, ok := r.names[s.server.Name]; ok {
		return found, ServerName
	}
	return rule{}, ""
}

// deciding returns the kind of entries that counts for the server: names count only as
// long as there is no stricter entry for its transport, even one that matches nothing.
func (r *entryRules) deciding(s *subject) Kind {
	switch {
	case s.server.Stdio && len(r.commands) > 0:
		return ServerCommand
	case !s.server.Stdio && len(r.urls) > 0:
		return ServerURL
	}
	return ServerName
}

// allow returns the rule of the given kind that admits the server.
func (r *entryRules) allow(s *subject, kind Kind) (found rule, ok bool) {
	switch kind {
	case ServerCommand:
		found, ok = r.commands[s.command]
	case ServerURL:
		found, ok = r.find(func(p *urlPattern) bool { return p.allows(s.target) })
	case ServerName:
		found, ok = r.names[s.server.Name]
	}
	return found, ok
}
