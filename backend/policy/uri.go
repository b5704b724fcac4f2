package policy

import (
	"errors"
	"fmt"
	neturl "net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	whatwg "github.com/nlnwa/whatwg-url/url"
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
			b.WriteString("%" + hexDigits[c>>4:c>>4+1] + hexDigits[c&15:c&15+1])
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
	return text, checkNoEscapedEscape(text)
}

// checkNoEscapedEscape refuses an escape that stands for the start of another one, as in
// "%252F". It looks at the text as it is spelled: "%25%32%46" is not refused.
func checkNoEscapedEscape(text string) error {
	for rest, found := text, true; found; {
		if _, rest, found = strings.Cut(rest, "%25"); beginsWithHex(rest) {
			return errors.New(`the URI holds "%25" before two digits, which servers read differently: use a URI without it`)
		}
	}
	return nil
}

// unescapeByte returns the byte that the escape at the start of the text stands for. It
// refuses escapes that servers read differently.
func unescapeByte(text string) (byte, error) {
	if !beginsWithHex(text[1:]) {
		return 0, errors.New(`the URI holds a "%" that encodes nothing: write it as %25`)
	}
	c := unhex(text[1])<<4 | unhex(text[2])
	if c == '/' || c == '\\' {
		return 0, fmt.Errorf("the URI holds %q, which servers read differently: use a URI without it", text[:3])
	}
	return c, nil
}

// beginsWithHex reports whether the text begins with two hexadecimal digits, so that a "%"
// before it makes an escape.
func beginsWithHex(text string) bool { return len(text) >= 2 && isHex(text[0]) && isHex(text[1]) }

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

const hexDigits = "0123456789ABCDEF"

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
	after, ok := strings.CutPrefix(rest, "//")
	switch {
	case !browserSchemes[scheme] && ok:
		return rest, checkOwnAuthority(scheme, after)
	case !browserSchemes[scheme]:
		return rest, nil
	case !ok:
		return "", fmt.Errorf("the URI's scheme has no \"//\" after it: write it as %s://…", scheme)
	}
	authority, path := cutAuthority(after)
	if len(authority) > maxAuthority {
		return "", fmt.Errorf("the URI's host is %d bytes long: at most %d are allowed", len(authority), maxAuthority)
	}
	if strings.Contains(authority, "@") {
		return "", errors.New("the URI holds a user or a password: remove them")
	}
	if scheme == "file" && len(path) > 2 && isLetter(path[1]) && strings.HasPrefix(path[2:], "%7C") {
		return "", errors.New(`the URI holds a drive with "|", which servers read differently: write it with ":"`)
	}
	if !strings.HasPrefix(path, "/") {
		path, rest = "/"+path, "//"+authority+"/"+path
	}
	if scheme == "file" && authority == "" || isPlainHost(authority) {
		return rest, nil
	}
	l, ok := parseLocation(scheme + "://" + authority + "/")
	local := scheme == "file" && l.host == ""
	if !ok || l.path != "/" || l.query != "" || !local && checkHost(l.host) != nil || scheme == "file" && l.host == "localhost" {
		return "", fmt.Errorf("the URI's host is not valid: write it as %s://host/path", scheme)
	}
	return strings.TrimPrefix(l.authority(), scheme+":") + path, nil
}

// checkOwnAuthority refuses the host of a server's own scheme if a URL parser as browsers have
// it writes it in another way: "h:/a", "@h/a" and "h:080/a" are "h/a" and "h:80/a" to it. after
// is the URI after "//".
func checkOwnAuthority(scheme, after string) error {
	authority, _ := cutAuthority(after)
	if !strings.ContainsAny(authority, ":@[]") {
		return nil
	}
	if len(authority) > maxAuthority {
		return fmt.Errorf("the URI's host is %d bytes long: at most %d are allowed", len(authority), maxAuthority)
	}
	uri := scheme + "://" + authority
	if u, err := whatwg.Parse(uri); err != nil || u.Href(false) != uri {
		return fmt.Errorf("the URI's host is not valid, or servers read it differently: write it as %s://host:port/path, and leave empty parts out", scheme)
	}
	return nil
}

// isPlainHost reports whether the text is a host's name in canonical form, without a port, that
// needs no parser: no address, and no name that stands for one with letters beyond ASCII.
func isPlainHost(text string) bool {
	last := strings.LastIndexByte(text, '.') + 1
	if len(text) > maxPlainHost || last == len(text) || text[last] < 'a' || text[last] > 'z' ||
		text[0] == '.' || strings.Contains(text, "..") || strings.Contains(text, "xn--") || text == "localhost" {
		return false
	}
	for i := range len(text) {
		if c := text[i]; c != '-' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// maxAuthority bounds a host with its port: the parser's cost is not linear.
const maxAuthority = 512

// maxPlainHost is the length of the longest name in DNS.
const maxPlainHost = 253

// cutAuthority cuts the text that follows "//", up to the path, the query or the
// fragment.
func cutAuthority(after string) (authority, rest string) {
	if i := strings.IndexAny(after, "/?#"); i >= 0 {
		return after[:i], after[i:]
	}
	return after, ""
}

// checkURIPath refuses parts that some servers skip: "." and "..", wherever they stand, and
// empty ones in the path.
func checkURIPath(rest string) error {
	if hasDots(rest) {
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

// hasDots reports whether a part of the text is "." or "..", spaces around it not counted.
// Escapes that are not valid are for others to refuse.
func hasDots(text string) bool {
	decoded, err := unescape(text)
	if err != nil {
		return false
	}
	for part := range strings.FieldsFuncSeq(decoded, endsPart) {
		if part = strings.TrimSpace(part); part == "." || part == ".." {
			return true
		}
	}
	return false
}

// endsPart reports whether servers cut paths or queries at r.
func endsPart(r rune) bool { return strings.ContainsRune("/?#;&=:", r) }

// readings are the texts that denials are compared with: a canonical URI as it is read by
// servers that decode escapes, that know no upper case, that leave out query and fragment,
// or that leave out a slash at the end. So a denial is not evaded by another spelling. The
// same text may come twice.
func readings(canonical string) [3]string {
	path := canonical
	if end := strings.IndexAny(canonical, "?#"); end >= 0 {
		path = canonical[:end]
	}
	all := [3]string{loosen(canonical)}
	all[1], all[2] = all[0], all[0]
	if path != canonical {
		all[1] = loosen(path)
	}
	if trimmed := strings.TrimRight(path, "/"); trimmed != path {
		all[2] = loosen(trimmed)
	}
	return all
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
