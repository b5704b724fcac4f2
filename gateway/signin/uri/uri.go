// Package uri reads the URIs that applications bring with them: redirect URIs, and the URLs
// of metadata documents and keys. A URI that two programs could read in two ways is refused:
// a redirect is compared by the gateway and followed by a browser, and a URL is compared with
// a prefix of the gateway's file and then fetched.
//
// Nothing here does I/O.
package uri

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Max is the length of the longest URI that is read, in bytes.
const Max = 1024

// Kind says where a URI leads.
type Kind int

const (
	// HTTPS leads to a host.
	HTTPS Kind = iota + 1
	// Loopback is plain HTTP to this machine (RFC 8252 §7.3).
	Loopback
	// Private has a scheme that an application has registered with the system (RFC 8252 §7.1).
	Private
)

// URI is one that was read.
type URI struct {
	Text string // as it was given
	Kind Kind
	// Scheme is in lower case.
	Scheme string
	// Host is the name or address, with the port if it is not that of https. Empty for Kind
	// Private.
	Host string
	// path is in the escaped form, and query as it was given with its question mark.
	path, query string
}

var (
	// A host as DNS has it, in lower case. An underscore is in use below some domains.
	hostForm = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

	// A scheme as RFC 3986 §3.1 has it, in lower case.
	schemeForm = regexp.MustCompile(`^[a-z][a-z0-9+.-]*$`)

	// The characters that a path may not hide in an escape: a dot, a slash, a backslash, a
	// control character, a percent sign that begins another escape.
	hiddenForm = regexp.MustCompile(`(?i)%(2e|2f|5c|25|[01][0-9a-f]|7f)`)

	errUser     = errors.New("it holds a user or a password: remove them")
	errFragment = errors.New("it has a fragment (#…), which a redirect cannot have: remove it")
	errHost     = errors.New("its host is not a name in lower case or an address: write it as browsers do")
)

// Parse reads an absolute URI: https, http to the loopback, or one with a private scheme.
func Parse(text string) (*URI, error) {
	if err := checkText(text); err != nil {
		return nil, err
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("it is not a valid URI: write it as https://host/path")
	}
	scheme, _, _ := strings.Cut(text, ":")
	if u.Scheme == "" || u.Scheme != scheme { // the parser takes schemes in upper case
		return nil, errors.New("it does not begin with a scheme in lower case: write it as https://host/path")
	}
	if u.User != nil {
		return nil, errUser
	}
	if err := checkPath(u.EscapedPath()); err != nil {
		return nil, err
	}
	parsed := &URI{Text: text, Scheme: scheme, path: u.EscapedPath()}
	if u.RawQuery != "" || u.ForceQuery {
		parsed.query = "?" + u.RawQuery
	}
	switch scheme {
	case "https", "http":
		return parsed, parsed.web(u)
	}
	return parsed, parsed.private(u)
}

// checkText refuses characters that browsers drop, replace or read in their own way.
func checkText(text string) error {
	switch {
	case text == "":
		return errors.New("it is empty")
	case len(text) > Max:
		return fmt.Errorf("it is %d bytes long: at most %d are allowed", len(text), Max)
	case strings.Contains(text, "#"):
		return errFragment
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' || strings.IndexByte("\\\"<>^`{|}", c) >= 0 {
			return fmt.Errorf("it has the character %q at byte %d, which a URI cannot have: escape it as %%%02X", c, i+1, c)
		}
	}
	return nil
}

// checkPath refuses paths that a program may read as another one.
func checkPath(path string) error {
	if hidden := hiddenForm.FindString(path); hidden != "" {
		return fmt.Errorf("its path hides a character in %q: write the path that is meant", hidden)
	}
	for part := range strings.SplitSeq(path, "/") {
		bare, _, _ := strings.Cut(part, ";") // some servers cut off the text after it
		if bare == "." || bare == ".." {
			return fmt.Errorf("its path has a part %q: write the path that is meant", part)
		}
	}
	return nil
}

// web reads the rest of an https or http URI.
func (u *URI) web(parsed *url.URL) error {
	if parsed.Opaque != "" || parsed.Host == "" {
		return errors.New("it has no host: write it as https://host/path")
	}
	host, port := parsed.Hostname(), parsed.Port()
	bracketed := strings.HasPrefix(parsed.Host, "[")
	if addr, err := netip.ParseAddr(host); bracketed {
		if err != nil || !addr.Is6() || addr.Zone() != "" || addr.String() != host {
			return errHost
		}
	} else if !hostForm.MatchString(host) || len(host) > 253 || err != nil && isNumber(host) {
		return errHost
	}
	if n, err := strconv.ParseUint(port, 10, 16); strings.HasSuffix(parsed.Host, ":") || port != "" && (err != nil || n == 0 || port[0] == '0') {
		return errors.New("its port is not a number from 1 to 65535")
	}
	if bracketed {
		host = "[" + host + "]"
	}
	switch {
	case u.Scheme == "http" && !IsLoopback(host):
		return errors.New("it is plain HTTP to another machine: use https; http is for localhost, 127.0.0.1 and [::1]")
	case u.Scheme == "http":
		u.Kind = Loopback
	default:
		u.Kind = HTTPS
	}
	if u.Host = host; port != "" && (port != "443" || u.Kind == Loopback) {
		u.Host = net.JoinHostPort(strings.Trim(host, "[]"), port)
	}
	return nil
}

// isNumber reports whether browsers take a name for an IPv4 address: its last label is a
// number, in any base.
func isNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	_, err := strconv.ParseUint(last, 0, 64)
	return err == nil || strings.Trim(last, "0123456789") == ""
}

// IsLoopback reports whether a host, without a port, is this machine by one of the three
// names that applications use (RFC 8252 §7.3 and §8.3).
func IsLoopback(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "[::1]"
}

// private reads the rest of a URI with a private scheme.
func (u *URI) private(parsed *url.URL) error {
	if err := CheckScheme(u.Scheme); err != nil {
		return err
	}
	if parsed.Opaque != "" {
		return fmt.Errorf("nothing but a path may stand behind its scheme: write it as %s://host/path or %s:/path", u.Scheme, u.Scheme)
	}
	u.Kind = Private
	return nil
}

// taken are schemes that browsers and systems have given a meaning: a redirect to one runs a
// script, shows its content, opens a file, or starts a program.
var taken = []string{
	"about", "acct", "afp", "android-app", "app-settings", "blob", "chrome", "chrome-extension", "cid", "content", "data", "dns", "edge", "facetime",
	"feed", "file", "filesystem", "ftp", "ftps", "geo", "git", "gopher", "help", "http", "https", "imap", "intent", "irc", "ircs", "itms", "itms-apps",
	"jar", "javascript", "ldap", "ldaps", "livescript", "magnet", "mailto", "market", "mid", "mms", "mocha", "moz-extension", "moz-icon", "mk", "news",
	"nfs", "nntp", "openurl", "pop", "rdp", "res", "resource", "rlogin", "rtsp", "search", "sftp", "shell", "sip", "sips", "sms", "smb", "ssh",
	"svn", "tel", "telnet", "tftp", "tn3270", "urn", "vbs", "vbscript", "view-source", "vnc", "wais", "webcal", "ws", "wss", "wyciwyg", "xmpp",
}

// CheckScheme refuses a scheme that no application can have to itself.
func CheckScheme(scheme string) error {
	switch {
	case !schemeForm.MatchString(scheme) || len(scheme) > 64:
		return fmt.Errorf("%q is not a valid scheme: use lower-case letters, digits, +, - and dots, and begin with a letter", scheme)
	case slices.Contains(taken, scheme), strings.HasPrefix(scheme, "ms-"), strings.HasPrefix(scheme, "search-"):
		return fmt.Errorf("the scheme %q is not an application's own: browsers or systems have given it a meaning", scheme)
	}
	return nil
}

// Shown is a text as errors quote it: shortened, and without a possible user and password.
func Shown(text string) string {
	const most = 200
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		text = "…" + text[at:]
	}
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strconv.Quote(text)
}

// CheckHost refuses a host of the gateway's file that is not a name in lower case, with a port
// if it is not that of https.
func CheckHost(host string) error {
	u, err := Parse("https://" + host + "/")
	if err != nil || u.Host != host || u.path != "/" || u.query != "" {
		return fmt.Errorf("%s is not a valid host: write it in lower case, as \"app.example.com\", or \"app.example.com:8443\" where the port is not 443", Shown(host))
	}
	return nil
}
