package uri

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// answers are the parameters that the gateway adds to a redirect (RFC 6749 §4.1.2, RFC 9207).
var answers = []string{"code", "error", "error_description", "error_uri", "iss", "state"}

// ParseRedirect reads a redirect URI. One that brings a parameter of the answer with it is
// refused: an application might take that one for the gateway's.
func ParseRedirect(text string) (*URI, error) {
	u, err := Parse(text)
	if err != nil {
		return nil, err
	}
	values, err := url.ParseQuery(strings.TrimPrefix(u.query, "?"))
	if err != nil {
		return nil, errors.New("its query is not valid: write it as ?name=value&name=value")
	}
	for _, name := range answers {
		if values.Has(name) {
			return nil, fmt.Errorf("its query has the parameter %q, which the gateway adds: remove it", name)
		}
	}
	return u, nil
}

// Matches reports whether a redirect URI is the one that was registered: the same letter by
// letter, or a loopback one that differs in its port alone, since an application listens
// where it finds a free port (RFC 8252 §7.3).
func (u *URI) Matches(registered *URI) bool {
	return u.WithoutPort() == registered.WithoutPort()
}

// WithoutPort is the URI as it is compared: a loopback one without its port, and with a slash
// where it has no path, which is the same to every HTTP client. Others are as they were
// given.
func (u *URI) WithoutPort() string {
	if u.Kind != Loopback {
		return u.Text
	}
	host := u.Host
	if at := strings.LastIndexByte(host, ':'); at > strings.LastIndexByte(host, ']') {
		host = host[:at]
	}
	path := u.path
	if path == "" {
		path = "/"
	}
	return "http://" + host + path + u.query
}

// ParseURL reads the https URL of a document: one without a query, which a server might take
// for another document.
func ParseURL(text string) (*URI, error) {
	u, err := Parse(text)
	switch {
	case err != nil:
		return nil, err
	case u.Kind != HTTPS:
		return nil, errors.New("it is not an https URL")
	case u.query != "":
		return nil, errors.New("it has a query (?…): remove it")
	case u.path == "" || u.path == "/":
		return nil, errors.New("it has no path: write it as https://host/path")
	}
	return u, nil
}

// Prefix stands for all https URIs of one host whose path begins so.
type Prefix struct {
	host, path string
	exact      bool
}

// ParsePrefix reads a prefix of the gateway's file: an https URL with a path. One that ends
// with a slash stands for all beneath it, any other for itself alone.
func ParsePrefix(text string) (Prefix, error) {
	u, err := ParseURL(text)
	if err != nil {
		return Prefix{}, fmt.Errorf("%s is not a valid prefix: %w", Shown(text), err)
	}
	if strings.Contains(u.path, "*") {
		return Prefix{}, fmt.Errorf("%q is not a valid prefix: a \"*\" has no meaning here: a slash at the end stands for all that is below", text)
	}
	if strings.Contains(u.path, "//") {
		return Prefix{}, fmt.Errorf("%q is not a valid prefix: its path has an empty part", text)
	}
	if text != "https://"+u.Host+u.path {
		return Prefix{}, fmt.Errorf("%q is not a valid prefix: write it as %q", text, "https://"+u.Host+u.path)
	}
	return Prefix{host: u.Host, path: u.path, exact: !strings.HasSuffix(u.path, "/")}, nil
}

// Host is the one of all its URIs, with a port if it is not 443.
func (p Prefix) Host() string { return p.host }

// Open reports whether the prefix stands for more than itself.
func (p Prefix) Open() bool { return !p.exact }

// Contains reports whether the URI is beneath the prefix. Both were parsed: neither has
// parts such as "..", hidden slashes, or another user, host or port than one sees.
func (p Prefix) Contains(u *URI) bool {
	if u.Kind != HTTPS || u.Host != p.host {
		return false
	}
	if p.exact {
		return u.path == p.path && u.query == ""
	}
	return strings.HasPrefix(u.path, p.path) && len(u.path) > len(p.path)
}
