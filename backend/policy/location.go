package policy

import (
	"strings"

	whatwg "github.com/nlnwa/whatwg-url/url"
)

// maxURL bounds a server's URL and an entry's pattern, in bytes. Nothing
// longer is parsed: the parser's cost is not linear.
const maxURL = 4096

// location is a URL as it is compared: in the reading of a browser's parser (WHATWG).
// User information and fragment are left out, since they do not affect the destination
// of a request.
type location struct {
	scheme string
	host   string // lower case, punycode, without the trailing dot
	port   string // empty: the scheme's own
	path   string // starts with "/", except for URLs without a host
	query  string // empty, or with its "?"
}

// parseLocation reports whether the text is a URL at all.
func parseLocation(text string) (location, bool) {
	if len(text) > maxURL {
		return location{}, false
	}
	u, err := whatwg.Parse(text)
	if err != nil {
		return location{}, false
	}
	return location{
		scheme: u.Scheme(),
		host:   foldHost(u.Hostname()),
		port:   u.Port(),
		path:   u.Pathname(),
		query:  u.Search(),
	}, true
}

// foldHost drops the dot at the end of a fully qualified name (one only), and
// folds the case, which the parser leaves alone where it does not know the
// scheme.
func foldHost(host string) string {
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// authority returns scheme, host and port, as in "https://example.com:8443".
func (l *location) authority() string {
	s := l.scheme + "://" + l.host
	if l.port != "" {
		s += ":" + l.port
	}
	return s
}

// full returns the whole of the location as one text.
func (l *location) full() string { return l.authority() + l.path + l.query }

// shown returns the location for a reader, without its query, which may hold
// a credential.
func (l *location) shown() string {
	if l.query == "" {
		return l.full()
	}
	return l.authority() + l.path + "?…"
}
