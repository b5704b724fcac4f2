package pin

import (
	"regexp"
	"strings"

	"github.com/yosida95/uritemplate/v3"
)

// Bounds of URIs and templates that are compared. A longer one admits nothing.
const (
	maxURI       = 8 << 10 // bytes of an expansion
	maxVariables = 64      // of a template, about: each is tried at each byte of a URI
)

// template is a resource template that is approved.
type template struct {
	prefix     string // before its first expression
	expansions *regexp.Regexp
}

// compileTemplate reads a template of RFC 6570; false if it is none, or has too many variables.
func compileTemplate(text string) (template, bool) {
	if len(text) > MaxName || strings.Count(text, "{")+strings.Count(text, ",") > maxVariables {
		return template{}, false
	}
	parsed, err := uritemplate.New(text)
	if err != nil {
		return template{}, false
	}
	prefix, _, _ := strings.Cut(text, "{")
	return template{prefix: prefix, expansions: parsed.Regexp()}, true
}

// AdmitsURI reports whether a resource may be read: its own definition is approved under any
// digest, or that of a template of which it is an expansion.
func (s *Set) AdmitsURI(uri string) bool {
	switch {
	case s == nil:
		return false
	case s.Has(Resource, uri):
		return true
	case len(uri) > maxURI:
		return false
	}
	for i := range s.templates {
		if t := &s.templates[i]; strings.HasPrefix(uri, t.prefix) && t.expansions.MatchString(uri) {
			return true
		}
	}
	return false
}
