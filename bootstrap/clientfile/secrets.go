package clientfile

import (
	"regexp"
	"strings"
)

var (
	// secretOption is an option, alone or with its value, whose value is a secret by its name.
	secretOption = regexp.MustCompile(`(?i)^(?:--?[a-z0-9_-]*|[a-z0-9_]*)(?:key|token|secret|passw(?:or)?d|credentials?|auth|authorization|bearer|[_-]pat)s?(?:[=:]|$)`)
	// secretHeader is a header with a secret, alone or as the value of an option.
	secretHeader = regexp.MustCompile(`(?i)^(?:--?h(?:eader)?[= ])?"?(?:[a-z0-9-]*authorization|[a-z0-9-]*(?:key|token|secret)) *: *\S`)
	// secretQuery is a URL with something behind it that may be a secret.
	secretQuery = regexp.MustCompile(`(?i)^[a-z][a-z0-9+.-]*://(?:[^/?#]*@|[^?#]*\?.*(?:key|token|secret|passw|auth|sig)[^=&]*=)`)
)

// noteSecrets says which arguments look like secrets, since everybody who may read the registry
// sees arguments, and has something else shown of them where a person may look on.
func (e *entry) noteSecrets() {
	for i := range e.server.Args {
		arg := e.server.Args[i]
		shown, written := e.server.Shown[arg]
		if !written {
			shown = arg
		}
		// The argument after an option without a value.
		follows := i > 0 && strings.HasPrefix(e.server.Args[i-1], "-") && !strings.ContainsAny(e.server.Args[i-1], "=: ") &&
			secretOption.MatchString(e.server.Args[i-1]) && !strings.HasPrefix(arg, "-")
		start := secretStart(shown)
		if !follows && start < 0 {
			continue
		}
		if !written {
			e.server.Shown[arg] = shown[:max(start, 0)] + "…"
		}
		e.note(e.path, "server %q: argument %d looks like a secret, and the registry shows arguments to everybody who may read it: give it in env, if the program takes it from there", e.server.Name, i+1)
	}
}

// secretStart is where the secret of an argument begins; -1 if it has none.
func secretStart(arg string) int {
	if secretQuery.MatchString(arg) {
		return strings.Index(arg, "://") + len("://")
	}
	if secretHeader.MatchString(arg) {
		return strings.Index(arg, ":") + 1
	}
	if secretOption.MatchString(arg) {
		if at := strings.IndexAny(arg, "=:"); at >= 0 && at < len(arg)-1 {
			return at + 1
		}
	}
	return -1
}
