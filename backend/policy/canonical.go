package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	whatwg "github.com/nlnwa/whatwg-url/url"
)

// Canonical returns the canonical form of a registered server's URL, and an
// error unless the URL is in that form already. So a policy is compared with the very
// URL to which the gateway connects. Entries are compared letter by letter, and
// "//mcp", "/%6dcp" or "host.." would evade a denial of "/mcp" or "host" on a server
// that takes them for the same.
//
// The error says how to write the URL. It never holds the query or user
// information, which may be credentials.
func Canonical(text string) (string, error) {
	if len(text) > maxURL {
		return "", fmt.Errorf("the URL is %d bytes long: at most %d are allowed", len(text), maxURL)
	}
	u, err := whatwg.Parse(text)
	if err != nil {
		return "", errors.New("the URL is not valid: write it as https://host[:port]/path")
	}
	if s := u.Scheme(); s != "http" && s != "https" {
		return "", errors.New("the URL's scheme is not http or https: write it as https://host[:port]/path")
	}
	if u.Username() != "" || u.Password() != "" {
		return "", errors.New("the URL holds a user or a password: remove them, and set the server's headers instead")
	}
	if strings.Contains(text, "#") {
		return "", errors.New("the URL has a fragment (#…), which is never sent: remove it")
	}
	l, ok := parseLocation(text)
	if !ok {
		return "", errors.New("the URL is not valid: write it as https://host[:port]/path")
	}
	if err := checkHost(l.host); err != nil {
		return "", err
	}
	if err := checkPath(l.path); err != nil {
		return "", err
	}
	if canonical := l.full(); canonical != text {
		return canonical, fmt.Errorf("the URL is not in canonical form: write it as %s", l.shown())
	}
	return text, nil
}

// checkHost refuses hosts that are neither an address nor a name in DNS.
func checkHost(host string) error {
	if strings.HasPrefix(host, "[") {
		return nil // the parser has checked and shortened the address
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" {
			return fmt.Errorf("the URL's host %q has an empty part: remove the superfluous dot", host)
		}
		if strings.ContainsFunc(label, func(r rune) bool { return r == '*' || notInServerName(r) }) {
			return fmt.Errorf("the URL's host %q holds characters that no host's name has: letters, digits, \"-\", \"_\" and dots are allowed", host)
		}
	}
	return nil
}

// checkPath refuses paths that a server may take for another one.
func checkPath(path string) error {
	if strings.Contains(path, "//") {
		return fmt.Errorf("the URL's path %s has an empty part: write one slash instead of two", path)
	}
	for i := range len(path) {
		if path[i] != '%' {
			continue
		}
		if err := checkEscape(path[i:]); err != nil {
			return fmt.Errorf("the URL's path %s %w", path, err)
		}
	}
	return nil
}

// checkEscape looks at the percent-encoded byte that the text starts with
// (RFC 3986, section 6.2.2: upper-case digits, and no escape where none is needed).
func checkEscape(text string) error {
	text = text[:min(len(text), len("%XX"))]
	c, err := strconv.ParseUint(text[1:], 16, 8)
	switch {
	case err != nil || len(text) < len("%XX"):
		return errors.New("holds a \"%\" that encodes nothing: write it as %25")
	case c == '/' || c == '\\' || c < ' ' || c == 0x7f:
		return fmt.Errorf("holds %q, which servers read differently: use a path without it", text)
	case c == '-' || c == '.' || c == '_' || c == '~' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z':
		return fmt.Errorf("holds %q: write %q instead", text, rune(c))
	case text != strings.ToUpper(text):
		return fmt.Errorf("holds %q: write it in upper case, %q", text, strings.ToUpper(text))
	}
	return nil
}
