package policy

import "strings"

// Rules are the compiled rules of all sources of a client about the tools, prompts and
// resources of one server. They are immutable and safe for concurrent use.
type Rules struct {
	Tools, Prompts, Resources *Filter
}

// CompileRules picks, out of a client's rights, the rules that concern the server, and
// compiles them.
//
// An item is allowed if one source allows it and none denies it. A source allows it if its
// allowed_servers admit the server and its list of allowed items is unset or has a rule that
// matches. A rule that [ValidateRule] would refuse admits nothing, and denies everything.
func CompileRules(server string, rights []Rights) *Rules {
	return &Rules{
		Tools:     compileFilter(Tool, server, rights),
		Prompts:   compileFilter(Prompt, server, rights),
		Resources: compileFilter(Resource, server, rights),
	}
}

// Of returns the rules about one kind of item.
func (r *Rules) Of(item Item) *Filter {
	switch item {
	case Tool:
		return r.Tools
	case Prompt:
		return r.Prompts
	case Resource:
		return r.Resources
	}
	return &Filter{}
}

// Empty reports whether no rule concerns the server.
func (r *Rules) Empty() bool { return *r == Rules{} }

// Filter has the rules about one kind of item of one server.
//
// A nil *Filter means that no rule concerns the server: each item is allowed, and a caller
// need not look at names at all.
type Filter struct {
	all     bool // a source that admits the server leaves its list of allowed items unset
	allowed patternSet
	denied  patternSet
	uris    bool // of resources
}

func compileFilter(item Item, server string, rights []Rights) *Filter {
	f := &Filter{uris: item == Resource}
	if missing(rights) >= 0 {
		return f // nothing at all
	}
	for i := range rights {
		allowed, denied := rights[i].of(item)
		for _, rule := range denied {
			pattern, concerns, err := concerning(item, rule, server)
			if err != nil {
				f.denied.add(compileGlob(wildcard))
			} else if concerns {
				f.denied.add(compileDenial(item, pattern))
			}
		}
		if !rights[i].admits(server) {
			continue
		}
		f.all = f.all || allowed == nil
		for _, rule := range allowed {
			if !names(rule, server) {
				continue
			}
			if pattern, _, err := concerning(item, rule, server); err == nil {
				f.allowed.add(compileGlob(pattern))
			}
		}
	}
	if f.all && f.denied.empty() {
		return nil
	}
	return f
}

// compileDenial compiles the pattern of a rule that denies.
func compileDenial(item Item, pattern string) glob {
	g := compileGlob(pattern)
	if item == Resource {
		g.loosen()
	}
	return g
}

// Allows reports whether the client may use the item: a tool or a prompt of that name, which
// is compared byte by byte, or the resource of that URI. A URI with two readings is refused.
// Allows may be called on a nil *Filter.
func (f *Filter) Allows(name string) bool {
	switch {
	case f == nil:
		return true
	case f.uris:
		return f.allowsURI(name)
	case f.denied.has(name):
		return false
	}
	return f.all || f.allowed.has(name)
}

func (f *Filter) allowsURI(uri string) bool {
	canonical, err := CanonicalURI(uri)
	if err != nil {
		return false
	}
	if !f.denied.empty() {
		all := readings(canonical)
		for i := range all {
			if (i == 0 || all[i] != all[0]) && f.denied.has(all[i]) {
				return false
			}
		}
	}
	return f.all || f.allowed.has(canonical)
}

// AllowsTemplate reports whether a resource template (RFC 6570) has an expansion that could
// be allowed. It decides by the text before the first expression; each URI that is read is
// judged by itself. It may be called on a nil *Filter.
func (f *Filter) AllowsTemplate(template string) bool {
	if f == nil {
		return true
	}
	start, _, expands := strings.Cut(template, "{")
	if !expands {
		return f.Allows(template)
	}
	start, err := canonicalStart(start)
	if err != nil || f.denied.hasAllFrom(loosen(start)) {
		return false
	}
	return f.all || f.allowed.hasSomeFrom(start)
}

// patternSet is a set of names and patterns.
type patternSet struct {
	names map[string]struct{}
	globs []glob
}

func (s *patternSet) add(g glob) {
	if !g.exact {
		s.globs = append(s.globs, g)
		return
	}
	if s.names == nil {
		s.names = make(map[string]struct{})
	}
	s.names[g.prefix] = struct{}{}
}

func (s *patternSet) empty() bool { return len(s.names) == 0 && len(s.globs) == 0 }

// has reports whether a name or a pattern of the set matches.
func (s *patternSet) has(name string) bool {
	if _, ok := s.names[name]; ok {
		return true
	}
	for i := range s.globs {
		if s.globs[i].match(name) {
			return true
		}
	}
	return false
}

// hasAllFrom reports whether the set matches every text that begins like this.
func (s *patternSet) hasAllFrom(start string) bool {
	for i := range s.globs {
		if g := &s.globs[i]; g.suffix == "" && len(g.middle) == 0 && strings.HasPrefix(start, g.prefix) {
			return true
		}
	}
	return false
}

// hasSomeFrom reports whether the set may match a text that begins like this.
func (s *patternSet) hasSomeFrom(start string) bool {
	for name := range s.names {
		if strings.HasPrefix(name, start) {
			return true
		}
	}
	for i := range s.globs {
		if prefix := s.globs[i].prefix; strings.HasPrefix(prefix, start) || strings.HasPrefix(start, prefix) {
			return true
		}
	}
	return false
}
