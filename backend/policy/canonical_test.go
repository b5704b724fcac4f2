package policy

import (
	"strings"
	"testing"
)

func TestCanonicalAccepts(t *testing.T) {
	for _, url := range []string{
		"http://127.0.0.1:9001/mcp",
		"https://h.com/",
		"https://h.com:8443/mcp/",
		"https://my_host.internal/mcp",
		"https://[::1]:8443/mcp",
		"https://xn--caf-dma.com/caf%C3%A9",
		"https://h.com/a%20b/@scope;v=1",
		"https://h.com/mcp?key=a%2fb&u=https%3A%2F%2Fx//y",
		"https://h.com/100%25",
	} {
		got, err := Canonical(url)
		if err != nil || got != url {
			t.Errorf("Canonical(%q) = %q, %v", url, got, err)
		}
	}
}

func TestCanonicalRefuses(t *testing.T) {
	tests := []struct{ name, url, want string }{
		{"an empty URL", "", "not valid"},
		{"no scheme", "h.com/mcp", "not valid"},
		{"a port that is none", "https://h.com:99999/", "not valid"},
		{"another scheme", "ftp://h.com/", "not http or https"},
		{"a websocket", "wss://h.com/", "not http or https"},
		{"a file", "file:///etc/passwd", "not http or https"},
		{"user information", "https://user:secret@h.com/", "remove them"},
		{"a fragment", "https://h.com/#f", "fragment"},
		{"an empty fragment", "https://h.com/#", "fragment"},
		{"no path", "https://h.com", "write it as https://h.com/"},
		{"an upper-case host", "https://H.com/Mcp", "write it as https://h.com/Mcp"},
		{"an upper-case scheme", "HTTPS://h.com/", "write it as https://h.com/"},
		{"the scheme's own port", "https://h.com:443/", "write it as https://h.com/"},
		{"a trailing dot", "https://h.com./", "write it as https://h.com/"},
		{"two trailing dots", "https://h.com../", "empty part"},
		{"letters beyond ASCII in the host", "https://café.com/", "write it as https://xn--caf-dma.com/"},
		{"letters beyond ASCII in the path", "https://h.com/café", "write it as https://h.com/caf%C3%A9"},
		{"a short IPv4 address", "http://127.1/", "write it as http://127.0.0.1/"},
		{"an IPv4 address as a number", "http://2130706433/", "write it as http://127.0.0.1/"},
		{"a long IPv6 address", "http://[0:0::1]/", "write it as http://[::1]/"},
		{"a dot segment", "https://h.com/a/../mcp", "write it as https://h.com/mcp"},
		{"an encoded dot segment", "https://h.com/a/%2e%2e/mcp", "write it as https://h.com/mcp"},
		{"a backslash", `https://h.com\mcp`, "write it as https://h.com/mcp"},
		{"a space around", " https://h.com/ ", "write it as https://h.com/"},
		{"a line end inside", "https://h.com/m\ncp", "write it as https://h.com/mcp"},
		{"an empty query", "https://h.com/mcp?", "write it as https://h.com/mcp"},
		{"an empty part of the path", "https://h.com//mcp", "one slash instead of two"},
		{"an encoded letter", "https://h.com/%6Dcp", `write 'm' instead`},
		{"an encoded letter in lower case", "https://h.com/%6dcp", `write 'm' instead`},
		{"an escape in lower case", "https://h.com/caf%c3%a9", `write it in upper case, "%C3"`},
		{"half an escape", "https://h.com/%4", "%25"},
		{"an encoded slash", "https://h.com/mcp/..%2Fadmin", "servers read differently"},
		{"an encoded backslash", "https://h.com/%5C", "servers read differently"},
		{"an encoded NUL", "https://h.com/%00", "servers read differently"},
		{"a percent sign alone", "https://h.com/100%", "%25"},
		{"a percent sign before no digits", "https://h.com/%zz", "%25"},
		{"a wildcard in the host", "https://*.h.com/", "no host's name"},
		{"a URL without end", "https://h.com/" + strings.Repeat("a", maxURL), "bytes long"},
	}
	for _, test := range tests {
		t.Run(test.name+" is refused", func(t *testing.T) {
			_, err := Canonical(test.url)
			wantError(t, err, test.want)
		})
	}
}

func TestCanonicalNeverShowsCredentials(t *testing.T) {
	for _, url := range []string{
		"https://user:secret@h.com/",
		"https://H.com/?key=secret",
		"https://h.com:bad/?key=secret",
		"https://h.com//x?key=secret",
		"ftp://h.com/?key=secret",
	} {
		if _, err := Canonical(url); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("Canonical(%q): error %v", url, err)
		}
	}
}
