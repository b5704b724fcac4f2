package policy

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The bounds of a rule, in bytes: a server's name and a name of the largest length seen, or a
// URI, with room to spare.
const (
	maxRule         = 512
	maxResourceRule = 64 + 1 + 2048
)

// ValidateRule returns an error for a rule about items that is not valid, with the remedy.
//
// Rules have the form "server/tool", "server/prompt" or "server/URI", with "*" as a wildcard
// in both halves.
func ValidateRule(item Item, rule string) error {
	form, most := `"server/`+string(item)+`"`, maxRule
	if item == Resource {
		form, most = `"server/URI"`, maxResourceRule
	}
	server, name, ok := strings.Cut(rule, "/")
	switch {
	case len(rule) > most:
		return fmt.Errorf("%s rule is %d bytes long: at most %d are allowed", item, len(rule), most)
	case !utf8.ValidString(rule) || strings.ContainsFunc(rule, unicode.IsControl):
		return fmt.Errorf("%s rule %q holds control characters or is not UTF-8: write it as %s", item, rule, form)
	case item == Resource && strings.Contains(server, ":"):
		return fmt.Errorf("resource rule %q names no server: write it as %s, for example \"*/%s\"", rule, form, rule)
	case !ok:
		return fmt.Errorf("%s rule %q names no server: write it as %s, for example %s or \"*/%s\"", item, rule, form, examples[item], rule)
	case server == "":
		return fmt.Errorf("%s rule %q has no server before the \"/\": write \"*%s\" for the %s of any server", item, rule, rule, item)
	case name == "":
		return fmt.Errorf("%s rule %q has no %s after the \"/\": write \"%s*\" for all %ss of the server", item, rule, item, rule, item)
	case strings.ContainsFunc(server, notInServerName):
		return fmt.Errorf("%s rule %q: no server is named %q, names hold letters, digits, \"_\" and \"-\" (and here \"*\" as a wildcard)",
			item, rule, server)
	case item == Resource:
		if err := checkURIPattern(server, name); err != nil {
			return fmt.Errorf("resource rule %q: %w", rule, err)
		}
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("%s rule %q: the %s's name has a space at its start or end, which would match no %s: remove it", item, rule, item, item)
	}
	return nil
}

// examples are of rules that are well written.
var examples = map[Item]string{
	Tool:     `"github/create_issue", "github/*"`,
	Prompt:   `"github/review", "github/*"`,
	Resource: `"files/file:///srv/docs/*", "files/*"`,
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

// concerning returns the second half of a rule, and whether its first half matches the
// server. The error is that of [ValidateRule].
func concerning(item Item, rule, server string) (pattern string, concerns bool, err error) {
	if err := ValidateRule(item, rule); err != nil {
		return "", false, err
	}
	_, pattern, _ = strings.Cut(rule, "/")
	return pattern, names(rule, server), nil
}

// names reports whether a rule's first half matches the server.
func names(rule, server string) bool {
	name, _, _ := strings.Cut(rule, "/")
	g := compileGlob(name)
	return g.match(server)
}
