package policy

import "strings"

// wildcard is the only special character of a pattern: any run of characters,
// also an empty one. There is no escape.
const wildcard = "*"

// glob is a compiled pattern. It is immutable and safe for concurrent use.
//
// A match looks for the literal parts from left to right, each at its first
// place after the one before it. Taking the first place is never wrong, since
// it leaves the most text for the rest; so there is no backtracking, and a
// match costs at most the length of the pattern times that of the text.
type glob struct {
	prefix string
	middle []string
	suffix string
	exact  bool // no wildcard: the text must equal prefix
}

// compileGlob never fails: each string is a pattern.
func compileGlob(pattern string) glob {
	parts := strings.Split(pattern, wildcard)
	if len(parts) == 1 {
		return glob{prefix: pattern, exact: true}
	}
	last := len(parts) - 1
	g := glob{prefix: parts[0], suffix: parts[last]}
	for _, part := range parts[1:last] {
		if part != "" {
			g.middle = append(g.middle, part)
		}
	}
	return g
}

// match reports whether the whole text is one that the pattern describes.
func (g *glob) match(text string) bool {
	if g.exact {
		return text == g.prefix
	}
	if len(text) < len(g.prefix)+len(g.suffix) ||
		!strings.HasPrefix(text, g.prefix) || !strings.HasSuffix(text, g.suffix) {
		return false
	}
	text = text[len(g.prefix) : len(text)-len(g.suffix)]
	for _, part := range g.middle {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return true
}
