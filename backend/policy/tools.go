package policy

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxToolRule bounds one rule, in bytes: a server's name and a tool's name of
// the largest lengths seen, with room to spare.
const maxToolRule = 512

// Tools is what one client's tool rules say about one server. It is immutable
// and safe for concurrent use.
//
// A nil *Tools means that no rule concerns the server: each tool is allowed,
// and a caller need not look at tool names at all.
type Tools struct {
	all     bool // allowed_tools is unset
	allowed toolSet
	denied  toolSet
}

// CompileTools picks, out of a client's tool rules, those that concern the
// server, and compiles them.
//
// Rules have the form "server/tool", with "*" as a wildcard in both halves.
// A nil allowed means unset, that is all tools; an allowed that is set but
// holds no rule for this server means none of its tools. A denied tool is
// refused whatever allowed says.
//
// The result is nil if no rule concerns the server. A rule that
// [ValidateToolRule] would refuse admits nothing, and denies everything.
func CompileTools(server string, allowed, denied []string) *Tools {
	t := &Tools{all: allowed == nil}
	for _, rule := range allowed {
		if tool, concerns := toolPattern(rule, server); concerns {
			t.allowed.add(tool)
		}
	}
	for _, rule := range denied {
		if ValidateToolRule(rule) != nil {
			t.denied.add(wildcard)
		} else if tool, concerns := toolPattern(rule, server); concerns {
			t.denied.add(tool)
		}
	}
	if t.all && t.denied.empty() {
		return nil
	}
	return t
}

// Allows reports whether the client may call the tool. Names are compared byte
// by byte. It may be called on a nil *Tools.
func (t *Tools) Allows(tool string) bool {
	if t == nil {
		return true
	}
	if t.denied.has(tool) {
		return false
	}
	return t.all || t.allowed.has(tool)
}

// ValidateToolRule says what is wrong with a rule of a client's allowed_tools
// or denied_tools, and how to write it instead.
func ValidateToolRule(rule string) error {
	server, tool, ok := strings.Cut(rule, "/")
	switch {
	case len(rule) > maxToolRule:
		return fmt.Errorf("tool rule is %d bytes long: at most %d are allowed", len(rule), maxToolRule)
	case !utf8.ValidString(rule) || strings.ContainsFunc(rule, unicode.IsControl):
		return fmt.Errorf("tool rule %q holds control characters or is not UTF-8: write it as \"server/tool\"", rule)
	case !ok:
		return fmt.Errorf("tool rule %q names no server: write it as \"server/tool\", for example \"github/create_issue\", \"github/*\" or \"*/%s\"",
			rule, rule)
	case server == "":
		return fmt.Errorf("tool rule %q has no server before the \"/\": write \"*%s\" for the tool of any server", rule, rule)
	case tool == "":
		return fmt.Errorf("tool rule %q has no tool after the \"/\": write \"%s*\" for all tools of the server", rule, rule)
	case strings.ContainsFunc(server, notInServerName):
		return fmt.Errorf("tool rule %q: no server is named %q, names hold letters, digits, \"_\" and \"-\" (and here \"*\" as a wildcard)",
			rule, server)
	case strings.TrimSpace(tool) != tool:
		return fmt.Errorf("tool rule %q: the tool's name has a space at its start or end, which would match no tool: remove it", rule)
	}
	return nil
}

// notInServerName reports whether r can stand neither in a registered server's
// name nor for a wildcard.
func notInServerName(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return r != '_' && r != '-' && r != '*'
}

// toolPattern returns the tool's half of a rule whose server's half matches.
func toolPattern(rule, server string) (pattern string, concerns bool) {
	if ValidateToolRule(rule) != nil {
		return "", false
	}
	name, tool, _ := strings.Cut(rule, "/")
	g := compileGlob(name)
	return tool, g.match(server)
}

// toolSet is a set of tool names and patterns.
type toolSet struct {
	names map[string]struct{}
	globs []glob
}

func (s *toolSet) add(pattern string) {
	if strings.Contains(pattern, wildcard) {
		s.globs = append(s.globs, compileGlob(pattern))
		return
	}
	if s.names == nil {
		s.names = make(map[string]struct{})
	}
	s.names[pattern] = struct{}{}
}

func (s *toolSet) empty() bool { return len(s.names) == 0 && len(s.globs) == 0 }

func (s *toolSet) has(tool string) bool {
	if _, ok := s.names[tool]; ok {
		return true
	}
	for i := range s.globs {
		if s.globs[i].match(tool) {
			return true
		}
	}
	return false
}
