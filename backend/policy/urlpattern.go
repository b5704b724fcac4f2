package policy

import (
	"cmp"
	"crypto/sha256"
	"strings"

	whatwg "github.com/nlnwa/whatwg-url/url"
)

// urlPattern is a compiled serverUrl entry. It is immutable.
//
// A pattern is read as a URL is: it goes through the same parser, with each
// "*" replaced by a word that the parser takes for ordinary letters. So both
// sides are normalised alike. A pattern that the parser cannot read is compared as
// text.
type urlPattern struct {
	everything bool   // a lone "*"
	never      string // why no URL can match; empty: some can
	asText     []glob // not a URL: compared by "/"-separated part
	scheme     string // empty: each
	host       glob
	port       string
	anyPort    bool
	anyPath    bool
	target     glob // path and query
	hasQuery   bool
	// A denial is compared with these as well, without slashes at the end, unless there is
	// a wildcard in the path; unused where the pattern has a query.
	denyTarget glob
	denyText   []glob
}

const anyScheme = wildcard + "://"

// compileURL never fails: each text is a pattern, if only one that matches
// nothing.
func compileURL(pattern string) urlPattern {
	if pattern == wildcard {
		return urlPattern{everything: true}
	}
	if len(pattern) > maxURL {
		return urlPattern{never: "it is too long"}
	}
	text, anyPort := cutAnyPort(pattern)
	star := standIn(pattern)
	u, err := whatwg.Parse(strings.ReplaceAll(text, wildcard, star))
	if err != nil {
		return compileText(pattern)
	}
	restore := func(s string) string { return strings.ReplaceAll(s, star, wildcard) }

	p := urlPattern{port: u.Port(), anyPort: anyPort}
	if !strings.HasPrefix(text, anyScheme) {
		p.scheme = restore(u.Scheme())
	}
	host := restore(foldHost(u.Hostname()))
	p.host = compileGlob(host)
	if !p.host.exact && p.port == "" {
		p.anyPort = true // a host with a wildcard names no port by leaving it out
	}
	path, query := restore(u.Pathname()), restore(u.Search())
	if path == "" {
		path = "/"
	}
	p.anyPath = path == "/" && query == "" && !strings.HasSuffix(pattern, "/")
	p.hasQuery = query != ""
	p.target = compileGlob(path + query)
	p.denyTarget = compileGlob(trimPath(path))
	p.never = hopeless(p.scheme, host)
	return p
}

// compileText compiles a pattern that is not a URL: a part of a port, an address with a
// wildcard in it. A "*" then stops at a slash, so the parts between slashes are
// compared one by one.
func compileText(pattern string) urlPattern {
	p := urlPattern{hasQuery: strings.Contains(pattern, "?")}
	parts := strings.Split(pattern, "/")
	p.asText = compileParts(parts)
	// A URL's text is scheme, nothing, host, and at least one part of a path.
	if len(parts) <= beforePath || !p.asText[1].match("") {
		p.never = "it is not of the form scheme://host/path: write it so, for example https://example.com/*"
		return p
	}
	p.denyText = compileParts(append(parts[:beforePath:beforePath],
		strings.Split(trimPath(strings.Join(parts[beforePath:], "/")), "/")...))
	return p
}

// beforePath is how many parts of a URL's text, between slashes, are before its path.
const beforePath = 3

func compileParts(parts []string) []glob {
	globs := make([]glob, len(parts))
	for i, part := range parts {
		globs[i] = compileGlob(part)
	}
	return globs
}

// trimPath drops the slashes at the end of a pattern's path, unless there is a
// wildcard in it.
func trimPath(path string) string {
	if strings.Contains(path, wildcard) {
		return path
	}
	return strings.TrimRight(path, "/")
}

// cutAnyPort removes ":*" from where a port stands, which means each port.
func cutAnyPort(pattern string) (text string, found bool) {
	start := strings.Index(pattern, "//")
	if start < 0 {
		return pattern, false
	}
	start += len("//")
	end := len(pattern)
	if i := strings.IndexAny(pattern[start:], "/?#"); i >= 0 {
		end = start + i
	}
	authority, found := strings.CutSuffix(pattern[start:end], ":*")
	return pattern[:start] + authority + pattern[end:], found
}

// standIn returns the word that replaces "*" while the pattern is parsed: lower-case
// letters that are not hexadecimal digits, drawn from the pattern's hash, so that no
// pattern can contain its own.
func standIn(pattern string) string {
	sum := sha256.Sum256([]byte(pattern))
	word := make([]byte, 16)
	for i := range word {
		word[i] = 'g' + sum[i]%16
	}
	return string(word)
}

// hopeless says why no URL can have the scheme and the host that a pattern
// asks for, or returns an empty string.
func hopeless(scheme, host string) string {
	if strings.Contains(scheme, wildcard) {
		return "a part of a scheme cannot be a wildcard: write https://…, or *://… for each scheme"
	}
	if strings.Contains(host, "%") {
		return "after *:// a host is compared in its ASCII form only: write it as xn--…"
	}
	for label := range strings.SplitSeq(host, ".") {
		if strings.HasPrefix(label, "xn--") && strings.Contains(label, wildcard) {
			return "a wildcard cannot stand in a part of a host's name that holds letters beyond ASCII: write * for the whole part"
		}
	}
	return ""
}

// useless says why no server's URL can match, or returns an empty string.
func (p *urlPattern) useless() string {
	switch p.scheme {
	case "", "http", "https", "ws", "wss":
		return p.never
	}
	if p.never != "" {
		return p.never
	}
	return "no MCP server's URL has the scheme \"" + p.scheme + "\": write it as scheme://host/path, for example https://example.com/*"
}

// target is a server's URL, made ready to be compared with many patterns.
type target struct {
	text string
	location
	parsed    bool
	pathQuery string
	parts     []string // the whole text between slashes
	// Denials are compared with these as well: the path alone, as it is and without
	// slashes at its end, and the texts with these.
	denyPath   string
	denyParts  []string
	shortParts []string
}

func newTarget(url string) *target {
	t := &target{text: url}
	t.location, t.parsed = parseLocation(url)
	if t.parsed {
		t.pathQuery = t.path + t.query
		t.denyPath = strings.TrimRight(t.path, "/")
		t.parts = strings.Split(t.full(), "/")
		t.denyParts = strings.Split(t.authority()+t.path, "/")
		t.shortParts = strings.Split(t.authority()+cmp.Or(t.denyPath, "/"), "/")
	}
	return t
}

// allows reports whether the URL matches the pattern as an entry of an
// allow-list.
func (p *urlPattern) allows(t *target) bool { return p.match(t, false) }

// denies reports whether the URL matches the pattern as an entry of a
// deny-list. There a pattern without a query also covers the same path with
// any query, and with slashes at its end, whether or not it has a wildcard, or is not a
// URL.
func (p *urlPattern) denies(t *target) bool { return p.match(t, true) }

func (p *urlPattern) match(t *target, deny bool) bool {
	switch {
	case p.everything:
		return t.text != ""
	case !t.parsed || p.never != "":
		return false
	case p.asText != nil:
		return matchText(p.asText, t.parts) || deny && !p.hasQuery &&
			(matchText(p.asText, t.denyParts) || matchText(p.denyText, t.shortParts))
	case p.scheme != "" && p.scheme != t.scheme,
		!p.anyPort && p.port != t.port,
		!p.host.match(t.host):
		return false
	case p.anyPath, p.target.match(t.pathQuery):
		return true
	}
	return deny && !p.hasQuery && (p.target.match(t.path) || p.denyTarget.match(t.denyPath))
}

func matchText(pattern []glob, parts []string) bool {
	if len(parts) != len(pattern) {
		return false
	}
	for i := range pattern {
		if !pattern[i].match(parts[i]) {
			return false
		}
	}
	return true
}
