package config

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"unicode"
)

// Proxy is an HTTP proxy on the way to registered servers: upstream_proxy { }, or
// proxy { } of one upstream.
type Proxy struct {
	// URL, url, required: http or https, with a host and perhaps a port.
	URL *url.URL
	// Username, username, and PasswordFile, password_file, both or none: the gateway shows
	// them to the proxy (Basic, RFC 7617). It reads the file for each connection.
	Username     string
	PasswordFile string
	// NoProxy, no_proxy, are the hosts that are reached without the proxy, in the forms of
	// the variable NO_PROXY.
	NoProxy []string
	// CACertFile, ca_cert_file, PEM: the authorities to trust for a proxy of https, instead
	// of the system's.
	CACertFile string
}

// proxyURL is the URL of an HTTP proxy: nothing but scheme, host and port. It may have been
// given a password, so no error quotes it.
func (s *section) proxyURL(name string) *url.URL {
	text := s.str(name, "")
	if s.required(name, text); !s.has(name) {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		s.bad(name, "it is not a valid URL of a proxy: write it as \"http://host:port\" or \"https://host:port\"")
		return nil
	case u.User != nil:
		s.bad(name, "it holds a user: write username and password_file instead")
		return nil
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		s.bad(name, "it holds more than scheme, host and port: leave the rest out")
		return nil
	}
	return u
}

// upstreamProxy reads a block with a proxy; nil if there is none.
func upstreamProxy(s *section) *Proxy {
	if s == nil {
		return nil
	}
	p := &Proxy{
		URL:          s.proxyURL("url"),
		Username:     s.str("username", ""),
		PasswordFile: s.proxyPassword("password_file"),
		NoProxy:      s.list("no_proxy"),
		CACertFile:   s.authorities("ca_cert_file"),
	}
	switch {
	case (p.Username == "") != (p.PasswordFile == ""):
		present := "username"
		if p.Username == "" {
			present = "password_file"
		}
		s.bad(present, "username and password_file go together: give both or none")
	case strings.ContainsFunc(p.Username, func(c rune) bool { return c == ':' || unicode.IsControl(c) }):
		s.bad("username", "it holds a colon or a control character, which Basic authentication cannot carry (RFC 7617)")
	}
	if p.CACertFile != "" && p.URL != nil && p.URL.Scheme != "https" {
		s.bad("ca_cert_file", "the proxy is spoken to without TLS: write its url as \"https://…\", or leave this out")
	}
	for _, host := range p.NoProxy {
		if host == "" || strings.ContainsAny(host, ", ") || strings.Contains(host, "://") {
			s.bad("no_proxy", "%q is not a host, a domain, an address or a range: write \"host\", \".example.com\", \"host:port\", \"10.1.2.3\" or \"10.0.0.0/8\"", host)
		}
	}
	s.end()
	return p
}

// ReadProxyPassword reads a file with the password for a proxy. No error holds any of it.
func ReadProxyPassword(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fileProblem(path, err)
	}
	password := strings.TrimRight(string(content), "\r\n")
	if password == "" || strings.ContainsFunc(password, unicode.IsControl) {
		return "", fmt.Errorf("%s is not a password: write one line without control characters", path)
	}
	return password, nil
}

// proxyPassword is a file with the password for a proxy.
func (s *section) proxyPassword(name string) string {
	path := s.file(name)
	if path != "" && checkReadable(path) == nil {
		if _, err := ReadProxyPassword(path); err != nil {
			s.bad(name, "%v", err)
		}
	}
	return path
}

// proxiesInClear names the blocks whose password other machines could read on its way.
func (c *Config) proxiesInClear() []string {
	var names []string
	note := func(name string, p *Proxy) {
		if p != nil && p.Username != "" && p.URL.Scheme == "http" && !onLoopback(p.URL.Hostname()) {
			names = append(names, name)
		}
	}
	note("upstream_proxy", c.UpstreamProxy)
	for name, upstream := range c.Upstreams {
		note(fmt.Sprintf("upstream %q: proxy", name), upstream.Proxy)
	}
	slices.Sort(names)
	return names
}
