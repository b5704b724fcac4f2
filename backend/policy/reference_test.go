package policy

import (
	"regexp"
	"strings"

	whatwg "github.com/nlnwa/whatwg-url/url"
)

var (
	wildScheme    = regexp.MustCompile(`^[a-zA-Z*][a-zA-Z0-9+.*-]*:`)
	wildPort      = regexp.MustCompile(`^([^/]*//[^/?#]*):\*((?s)(?:[/?#].*)?)$`)
	slashesAtEnd  = regexp.MustCompile(`/+$`)
	removedInside = strings.NewReplacer("\t", "", "\n", "", "\r", "")
)

// slowMatch is the rule for one serverUrl entry once more, written down in the
// order of the rule's own sentences, with regular expressions and without
// regard to cost. It leaves "*" in the text that it parses, where the real
// matcher puts a word in its place.
//
// It answers known=false for the few patterns that cannot be parsed that way:
// a host with a wildcard beside letters beyond ASCII or their encoded form.
func slowMatch(deny bool, pattern, url string) (match, known bool) {
	if pattern == "*" {
		return url != "", true
	}
	u, err := whatwg.Parse(url)
	if err != nil || len(url) > maxURL || len(pattern) > maxURL {
		return false, true
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))

	// The parser itself removes these; the scheme is looked at before.
	text := removedInside.Replace(pattern)
	text = strings.TrimFunc(text, func(r rune) bool { return r <= ' ' })
	if wildScheme.MatchString(text) {
		scheme, _, _ := strings.Cut(text, ":")
		if strings.Contains(scheme, "*") && !strings.HasPrefix(pattern, "*://") {
			return false, true // a part of a scheme as a wildcard
		}
	}

	anyPort := false
	if m := wildPort.FindStringSubmatch(pattern); m != nil {
		anyPort, text = true, m[1]+m[2]
	} else {
		text = pattern
	}
	anyScheme := strings.HasPrefix(text, "*://")
	if anyScheme {
		text = "any" + text[1:]
	}
	p, err := whatwg.Parse(text)
	if strings.Contains(text, "*") && (err != nil || strings.Contains(p.Hostname(), "*")) && !isPlain(text) {
		return false, false
	}
	if err != nil {
		whole := u.Scheme() + "://" + host
		if u.Port() != "" {
			whole += ":" + u.Port()
		}
		if like(pattern, `[^/]*`, whole+u.Pathname()+u.Search()) {
			return true, true
		}
		if !deny || strings.Contains(pattern, "?") {
			return false, true
		}
		// A denial leaves the query out, and then the slashes at the end.
		short := slashesAtEnd.ReplaceAllString(u.Pathname(), "")
		return like(pattern, `[^/]*`, whole+u.Pathname()) || like(withoutSlashes(pattern), `[^/]*`, whole+short) ||
			short == "" && like(withoutSlashes(pattern), `[^/]*`, whole+"/"), true
	}

	if !anyScheme && p.Scheme() != u.Scheme() {
		return false, true
	}
	patternHost := strings.ToLower(strings.TrimSuffix(p.Hostname(), "."))
	if !like(patternHost, `.*`, host) {
		return false, true
	}
	wildHost := strings.Contains(patternHost, "*")
	if !anyPort && (!wildHost || p.Port() != "") && p.Port() != u.Port() {
		return false, true
	}
	path := p.Pathname()
	if path == "" {
		path = "/"
	}
	if path == "/" && p.Search() == "" && !strings.HasSuffix(pattern, "/") {
		return true, true // a pattern without a path
	}
	if like(path+p.Search(), `.*`, u.Pathname()+u.Search()) {
		return true, true
	}
	if !deny || p.Search() != "" {
		return false, true
	}
	if like(path, `.*`, u.Pathname()) {
		return true, true
	}
	if !strings.Contains(path, "*") {
		path = slashesAtEnd.ReplaceAllString(path, "")
	}
	return like(path, `.*`, slashesAtEnd.ReplaceAllString(u.Pathname(), "")), true
}

var pathOfText = regexp.MustCompile(`^([^/]*//[^/]*/)([^*]*?)/+$`)

// withoutSlashes drops the slashes at the end of a pattern that is not a URL, unless
// there is a wildcard in its path.
func withoutSlashes(pattern string) string { return pathOfText.ReplaceAllString(pattern, "$1$2") }

// like reports whether the text matches the pattern, with star in the place of each
// "*".
func like(pattern, star, text string) bool {
	expression := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, star)
	return regexp.MustCompile(`(?s)^` + expression + `$`).MatchString(text)
}

// isPlain reports whether the text has neither letters beyond ASCII nor escapes of
// these in a host.
func isPlain(text string) bool {
	for _, r := range text {
		if r > '~' {
			return false
		}
	}
	return !strings.Contains(text, "%") && !strings.Contains(strings.ToLower(text), "xn--")
}
