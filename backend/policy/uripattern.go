package policy

import (
	"errors"
	"fmt"
	"strings"
)

// checkURIPattern refuses a rule's pattern of URIs unless its literal parts are in
// canonical form: otherwise it would match nothing.
func checkURIPattern(server, pattern string) error {
	canonical, err := canonicalPattern(pattern)
	if err != nil {
		return err
	}
	if canonical != pattern {
		return fmt.Errorf("the URI is not in canonical form: write it as %q", server+"/"+canonical)
	}
	return nil
}

func canonicalPattern(pattern string) (string, error) {
	start, _, open := strings.Cut(pattern, wildcard)
	if !open {
		return CanonicalURI(pattern)
	}
	if err := checkURIText(pattern); err != nil {
		return "", err
	}
	if hasDots(pattern) {
		return "", errors.New(`the URI has a part "." or "..", which matches nothing: write the path that it leads to`)
	}
	scheme, rest, whole := strings.Cut(pattern, ":")
	if start != "" && !isScheme(strings.TrimSuffix(start[:min(len(start), len(scheme)+1)], ":")) {
		return "", fmt.Errorf("the URI begins with %q, which is not a scheme: write it as scheme:path, or with a \"*\" before it", start)
	}
	if !whole || len(scheme) >= len(start) { // the scheme is not literal
		return spellURI(pattern)
	}
	rest, err := canonicalRest(strings.ToLower(scheme), rest)
	return strings.ToLower(scheme) + ":" + rest, err
}

// canonicalStart brings the start of a URI, after which anything may follow, into canonical
// form.
func canonicalStart(start string) (string, error) {
	if err := checkURIText(start); err != nil {
		return "", err
	}
	scheme, rest, ok := strings.Cut(start, ":")
	if !ok {
		return strings.ToLower(start), nil
	}
	rest, err := canonicalRest(strings.ToLower(scheme), rest)
	if err != nil {
		return "", err
	}
	if end := strings.LastIndexAny(rest, "/?#;"); end >= 0 { // the last part may go on
		err = checkURIPath(rest[:end])
	}
	return strings.ToLower(scheme) + ":" + rest, err
}

// canonicalRest does so with the text after the scheme's colon. A host that ends in it is
// one.
func canonicalRest(scheme, rest string) (string, error) {
	rest, err := spellURI(rest)
	if err != nil {
		return "", err
	}
	after, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return rest, nil
	}
	authority, path := cutAuthority(after)
	open := strings.Contains(authority, wildcard)
	switch {
	case path == "", open && !browserSchemes[scheme]:
		return rest, nil // the host may go on
	case open:
		return "//" + strings.ToLower(authority) + path, nil
	}
	return canonicalAuthority(scheme, rest)
}
