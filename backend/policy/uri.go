package policy

import (
	"errors"
	"fmt"
	"iter"
	neturl "net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// CanonicalURI returns the one spelling in which a resource's URI is compared (RFC 3986,
// section 6.2.2): scheme and host in lower case, no escape that is not needed, each escape in
// upper case, and an escape for each character that a URI does not hold.
//
// It refuses a URI that servers read in two ways, as "/a/../b", "/a//b", "%2F" or a backslash
// are: one server takes it for another resource, the next one does not. The error never holds
// the query, which may be a credential.
func CanonicalURI(uri string) (string, error) {
	if err := checkURIText(uri); err != nil {
		return "", err
	}
	scheme, rest, ok := strings.Cut(uri, ":")
	if !ok || !isScheme(scheme) {
		return "", errors.New("the URI has no scheme: write it as scheme:path, for example file:///srv/docs/a.txt")
	}
	spelled, err := spellURI(rest)
	if err != nil {
		return "", err
	}
	lower := strings.ToLower(scheme)
	if spelled, err = canonicalAuthority(lower, spelled); err != nil {
		return "", err
	}
	if err := checkURIPath(spelled); err != nil {
		return "", err
	}
	if lower == scheme && spelled == rest {
		return uri, nil
	}
	return lower + ":" + spelled, nil
}

// checkURIText refuses texts that are not one line of visible characters.
func checkURIText(uri string) error {
	switch {
	case len(uri) > maxURL:
		return fmt.Errorf("the URI is %d bytes long: at most %d are allowed", len(uri), maxURL)
	case !utf8.ValidString(uri) || strings.ContainsFunc(uri, unicode.IsControl):
		return errors.New("the URI holds control characters or is not UTF-8")
	case strings.TrimSpace(uri) != uri:
		return errors.New("the URI has a space at its start or end, which servers read differently: remove it")
	case strings.Contains(uri, `\`):
		return errors.New(`the URI holds a backslash, which servers read differently: use "/"`)
	}
	return nil
}

// isScheme reports whether the text is a URI's scheme (RFC 3986, section 3.1).
func isScheme(text string) bool {
	for i := range len(text) {
		c := text[i]
		switch {
		case isLetter(c):
		case i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	return text != ""
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// isUnreserved reports whether the byte never needs an escape (RFC 3986, section 2.3).
func isUnreserved(c byte) bool {
	return isLetter(c) || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// isReserved reports whether the byte delimits parts of a URI (RFC 3986, section 2.2), so that
// it and its escape need not mean the same.
func isReserved(c byte) bool { return strings.IndexByte(":/?#[]@!$&'()*+,;=", c) >= 0 }

// spellURI writes each character of a URI in its one form. It returns the text itself where
// that has this form already.
func spellURI(text string) (string, error) {
	var b strings.Builder
	done := 0 // text[:done] is in b
	for i := 0; i < len(text); i++ {
		c := text[i]
		if isUnreserved(c) || isReserved(c) {
			continue
		}
		from := i
		if c == '%' {
			decoded, err := unescapeByte(text[i:])
			if err != nil {
				return "", err
			}
			c, i = decoded, i+2
			if !isUnreserved(c) && isUpperHex(text[from+1:i+1]) {
				continue
			}
		}
		b.WriteString(text[done:from])
		if isUnreserved(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
		done = i + 1
	}
	if done > 0 {
		b.WriteString(text[done:])
		text = b.String()
	}
	if decoded, err := unescape(text); err != nil || !utf8.ValidString(decoded) || strings.ContainsFunc(decoded, unicode.IsControl) {
		return "", errors.New("the URI's escapes hold control characters or are not UTF-8")
	}
	return text, nil
}

// unescapeByte returns the byte that the escape at the start of the text stands for. It
// refuses escapes that servers read differently.
func unescapeByte(text string) (byte, error) {
	escape := text[:min(len(text), len("%XX"))]
	decoded, err := neturl.PathUnescape(escape)
	if err != nil {
		return 0, errors.New(`the URI holds a "%" that encodes nothing: write it as %25`)
	}
	if c := decoded[0]; c != '/' && c != '\\' && (c != '%' || !isHex(text[len(escape):])) {
		return c, nil
	}
	return 0, fmt.Errorf("the URI holds %q, which servers read differently: use a URI without it", escape)
}

// isHex reports whether the text begins with two hexadecimal digits, so that a "%" before it
// would make another escape.
func isHex(text string) bool {
	_, err := neturl.PathUnescape("%" + text[:min(len(text), 2)])
	return err == nil
}

func isUpperHex(digits string) bool { return digits == strings.ToUpper(digits) }

func unescape(text string) (string, error) {
	if !strings.Contains(text, "%") {
		return text, nil
	}
	return neturl.PathUnescape(text)
}

// browserSchemes are those of which a URL parser as browsers have it (WHATWG) reads more than
// RFC 3986 says. Many servers read URIs with one.
var browserSchemes = map[string]bool{"http": true, "https": true, "ws": true, "wss": true, "ftp": true, "file": true}

// canonicalAuthority brings the host of such a URI into its one form. rest is the URI after
// its scheme's colon.
func canonicalAuthority(scheme, rest string) (string, error) {
	if !browserSchemes[scheme] {
		return rest, nil
	}
	after, ok := strings.CutPrefix(rest, "//")
	if !ok {
		return "", fmt.Errorf("the URI's scheme has no \"//\" after it: write it as %s://…", scheme)
	}
	authority, path := cutAuthority(after)
	if strings.Contains(authority, "@") {
		return "", errors.New("the URI holds a user or a password: remove them")
	}
	if scheme == "file" && len(path) > 2 && isLetter(path[1]) && strings.HasPrefix(path[2:], "%7C") {
		return "", errors.New(`the URI holds a drive with "|", which servers read differently: write it with ":"`)
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	if scheme == "file" && authority == "" {
		return "//" + path, nil
	}
	l, ok := parseLocation(scheme + "://" + authority + "/")
	if !ok || l.path != "/" || l.query != "" || scheme != "file" && checkHost(l.host) != nil {
		return "", fmt.Errorf("the URI's host is not valid: write it as %s://host/path", scheme)
	}
	return strings.TrimPrefix(l.authority(), scheme+":") + path, nil
}

// cutAuthority cuts what follows "//" before the path, the query or the fragment.
func cutAuthority(after string) (authority, rest string) {
	if i := strings.IndexAny(after, "/?#"); i >= 0 {
		return after[:i], after[i:]
	}
	return after, ""
}

// checkURIPath refuses segments that some servers skip: "." and "..", wherever they stand, and
// empty ones in the path.
func checkURIPath(rest string) error {
	if i := segmentOfDots(rest); i >= 0 {
		return errors.New(`the URI has a part "." or "..": write the path that it leads to`)
	}
	path := rest
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		_, path = cutAuthority(after)
	}
	if end := strings.IndexAny(path, "?#"); end >= 0 {
		path = path[:end]
	}
	if strings.Contains(path, "//") {
		return errors.New("the URI's path has an empty part: write one slash instead of two")
	}
	return nil
}

// segmentOfDots returns where a segment "." or ".." begins, spaces around it not counted; -1
// if there is none.
func segmentOfDots(text string) int {
	for start := 0; ; {
		end := start + max(0, len(text)-start)
		if i := strings.IndexAny(text[start:], "/?#;"); i >= 0 {
			end = start + i
		}
		segment := text[start:end]
		for trimmed := ""; trimmed != segment; {
			trimmed = segment
			segment = strings.TrimSuffix(strings.TrimPrefix(segment, "%20"), "%20")
		}
		if segment == "." || segment == ".." {
			return start
		}
		if end == len(text) {
			return -1
		}
		start = end + 1
	}
}

// readings are the texts that denials are compared with: what a canonical URI is to servers
// that decode escapes, that know no upper case, that leave out query and fragment, or that
// leave out a slash at the end. So a denial is not evaded by another spelling.
func readings(canonical string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !yield(loosen(canonical)) {
			return
		}
		path := canonical
		if end := strings.IndexAny(canonical, "?#"); end >= 0 {
			path = canonical[:end]
			if !yield(loosen(path)) {
				return
			}
		}
		if trimmed := strings.TrimRight(path, "/"); trimmed != path {
			yield(loosen(trimmed))
		}
	}
}

// loosen takes case and escapes out of a URI, or of a part of one.
func loosen(text string) string {
	if decoded, err := unescape(text); err == nil {
		text = decoded
	}
	return strings.ToLower(text)
}

// loosen makes the pattern one of readings.
func (g *glob) loosen() {
	g.prefix, g.suffix = loosen(g.prefix), loosen(g.suffix)
	for i := range g.middle {
		g.middle[i] = loosen(g.middle[i])
	}
}
