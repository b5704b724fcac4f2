package policy

import (
	"fmt"
	"slices"
)

// Policy is the effective policy of a client: all sources that concern it,
// merged and compiled. It is immutable and safe for concurrent use.
type Policy struct {
	digest  string
	sources []Source
	missing []string // policies that do not exist
	denied  entryRules
	allowed entryRules
	// limited says that an allow-list is set, so that servers must match it.
	limited bool
	// lockedBy is the managed policy with allowManagedMcpServersOnly.
	lockedBy string
	// allowing and ignored are the policies whose allow-lists count, and do
	// not since there is a lock.
	allowing, ignored []string
}

// Compile merges the policies that concern a client. The order of the sources
// and of their entries has no influence. No sources at all allow everything.
//
// All deny-lists count. The allow-lists of all sources are joined, unless a
// managed source locks with allowManagedMcpServersOnly: then those of managed
// sources are. If none that counts is set, all servers are allowed.
func Compile(sources []Source) *Policy {
	p := &Policy{sources: canonical(sources), denied: newEntryRules(), allowed: newEntryRules()}
	p.digest = digest(p.sources)
	for i := range p.sources {
		if s := &p.sources[i]; s.Managed && s.Policy.ManagedOnly && p.lockedBy == "" {
			p.lockedBy = s.Name
		}
	}
	for i := range p.sources {
		s := &p.sources[i]
		if s.Missing {
			p.missing = append(p.missing, s.Name)
		}
		p.denied.add(s.Name, s.Policy.Denied)
		switch {
		case s.Policy.Allowed == nil:
		case p.lockedBy != "" && !s.Managed:
			p.ignored = append(p.ignored, s.Name)
		default:
			p.limited = true
			p.allowing = append(p.allowing, s.Name)
			p.allowed.add(s.Name, s.Policy.Allowed)
		}
	}
	return p
}

// Digest names the policy: two policies with the same digest come to the same
// decisions, for the same reasons. It is empty if no source applies.
func (p *Policy) Digest() string { return p.digest }

// Sources returns the sources of the policy, in canonical order. The caller must not
// change it.
func (p *Policy) Sources() []Source { return p.sources }

// Warnings names the parts of the merged policy that are probably mistakes.
func (p *Policy) Warnings() []string {
	var warnings []string
	if p.lockedBy != "" && !p.limited {
		warnings = append(warnings, fmt.Sprintf("%s of policy %q is on, and no managed policy sets %s: so every server is allowed, "+
			"and the lists of other policies do not count. Set %s in a managed policy, [] to allow none",
			ManagedOnlySetting, p.lockedBy, AllowedSetting, AllowedSetting))
	}
	for i := range p.sources {
		if s := &p.sources[i]; s.Policy.ManagedOnly && !s.Managed {
			warnings = append(warnings, fmt.Sprintf("%s of policy %q has no effect, since the policy is not managed", ManagedOnlySetting, s.Name))
		}
	}
	return warnings
}

// rule is an entry with where it stands, for the explanation.
type rule struct {
	entry  string // as JSON
	source string
}

// entryRules is a compiled list of entries. Of several entries that match, the
// first in canonical order explains the decision.
type entryRules struct {
	urls     []urlRule
	commands map[string]rule // by commandKey
	names    map[string]rule
}

type urlRule struct {
	rule
	pattern urlPattern
}

func newEntryRules() entryRules {
	return entryRules{commands: map[string]rule{}, names: map[string]rule{}}
}

func (r *entryRules) add(source string, entries []Entry) {
	for i := range entries {
		e := &entries[i]
		here := rule{entry: e.String(), source: source}
		switch e.Kind {
		case ServerURL:
			r.urls = append(r.urls, urlRule{rule: here, pattern: compileURL(e.Text)})
		case ServerCommand:
			put(r.commands, commandKey(e.Command), here)
		case ServerName:
			put(r.names, e.Text, here)
		}
	}
}

func (r *entryRules) empty() bool {
	return len(r.urls) == 0 && len(r.commands) == 0 && len(r.names) == 0
}

// put adds the rule unless there is one under the key.
func put(m map[string]rule, key string, r rule) {
	if _, ok := m[key]; !ok {
		m[key] = r
	}
}

// commandKey joins a command and its arguments without ambiguity.
func commandKey(command []string) string {
	return fmt.Sprintf("%q", command)
}

// find returns the first URL rule for which match answers true.
func (r *entryRules) find(match func(*urlPattern) bool) (rule, bool) {
	i := slices.IndexFunc(r.urls, func(u urlRule) bool { return match(&u.pattern) })
	if i < 0 {
		return rule{}, false
	}
	return r.urls[i].rule, true
}
