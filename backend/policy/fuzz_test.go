package policy

import (
	"fmt"
	"math/rand/v2"
	neturl "net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// compareWithReference fails the test where the matcher and the slow one
// disagree, and where a denial is narrower than an allowance.
func compareWithReference(t *testing.T, pattern, url string) {
	t.Helper()
	p, u := compileURL(pattern), newTarget(url)
	allows, denies := p.allows(u), p.denies(u)
	if !utf8.ValidString(pattern) {
		return // no policy holds such a text; it must do no harm
	}
	if want, known := slowMatch(false, pattern, url); known && allows != want {
		t.Errorf("allow entry %q, URL %q: match = %v, the slow way says %v", pattern, url, allows, want)
	}
	if want, known := slowMatch(true, pattern, url); known && denies != want {
		t.Errorf("deny entry %q, URL %q: match = %v, the slow way says %v", pattern, url, denies, want)
	}
	if allows && !denies {
		t.Errorf("entry %q, URL %q: allowed, and not denied", pattern, url)
	}
	if p.useless() != "" && allows && strings.HasPrefix(url, "http") {
		t.Errorf("entry %q matches %q, and is said to match nothing", pattern, url)
	}
}

func TestReferenceMatchesAsObserved(t *testing.T) {
	var file struct{ Rows []urlRow }
	readTestdata(t, "policy-urls.json", &file)
	unknown := 0
	for _, row := range file.Rows {
		match, known := slowMatch(row.List == "deny", row.Pattern, row.URL)
		if !known {
			unknown++
		} else if match != row.Match {
			t.Errorf("%s entry %q, URL %q: the slow way says %v, observed %v", row.List, row.Pattern, row.URL, match, row.Match)
		}
	}
	if unknown > len(file.Rows)/4 {
		t.Errorf("the slow way knows no answer for %d of %d rows", unknown, len(file.Rows))
	}
}

func FuzzURLMatch(f *testing.F) {
	var file struct{ Rows []urlRow }
	readTestdata(f, "policy-urls.json", &file)
	for i := 0; i < len(file.Rows); i += 7 {
		f.Add(file.Rows[i].Pattern, file.Rows[i].URL)
	}
	for _, s := range [][2]string{
		{"", ""},
		{"*//h.com/*", "https://h.com/x"},
		{"https:*", "https://h.com/"},
		{"https://*./x", "https://a./x"},
		{"*://H.com?x", "http://h.com/?x"},
		{"https://h.com/*/", "https://h.com/a/?q"},
		{"https://%2a.com", "https://a.com"},
		{"https://*.xn--caf-dma.com/*", "https://a.café.com/b/c"},
		{"*:*", "https://h.com"},
		{"https://[*]:*/", "https://[::1]:80/"},
		{"*://*:*", "https://u:p@h.com:1/#"},
		{" *://h.com", "https://h.com"},
		{"https://h.com/\t", "https://h.com/x"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(compareWithReference)
}

// from returns one of the texts.
func from(r *rand.Rand, texts ...string) string { return texts[r.IntN(len(texts))] }

func randomURL(r *rand.Rand) string {
	url := from(r, "http://", "https://", "HTTPS://", "ws://", `https:\\`, "https:") +
		from(r, "", "", "", "u@", "u:p@") +
		from(r, "h.com", "H.com", "h.com.", "h.com..", "a.h.com", "a.b.h.com", "127.1", "127.0.0.1", "[::1]", "[0::1]", "é.com", "a.é.com", "localhost") +
		from(r, "", "", "", ":", ":80", ":443", ":8443", ":0443", ":99999")
	for range r.IntN(4) {
		url += from(r, "/", "/", `\`) + from(r, "", "a", "b", "ab", "mcp", "MCP", ".", "..", "%2e", "%6dcp", "é", "a b", "(x)")
	}
	return url + from(r, "", "", "", "?", "?x=1", "?x=1&y=/") + from(r, "", "", "#f")
}

func randomPattern(r *rand.Rand) string {
	pattern := from(r, "*://", "*://", "http://", "https://", "HTTPS://", "http*://", "*s://", "", "//", `https:\\`, "https:") +
		from(r, "", "", "", "u@", "u:*@", "*@") +
		from(r, "*", "*.com", "h.com", "H.com", "h.*", "*.h.com", "*h.com", "**.h.com.", "a.*.com", "h.com*", "10.0.*.1", "127.*", "127.1", "[*]", "[::1]", "[::*]", "é.com", "*.é.com", "*é.com", "xn--9ca.com") +
		from(r, "", "", "", ":", ":80", ":443", ":8443", ":*", ":*", ":**", ":84*")
	for range r.IntN(4) {
		pattern += "/" + from(r, "", "*", "a", "*b", "a*", "a*b", "mcp", "m*", "**", ".", "..", "%6dcp", "é", "a b", "(x)")
	}
	return pattern + from(r, "", "", "", "?", "?*", "?x=1", "?x=*") + from(r, "", "", "", "#f", " ")
}

func TestGeneratedPatternsMatchAsTheSlowWay(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5_000 {
		compareWithReference(t, randomPattern(r), randomURL(r))
	}
}

func FuzzParse(f *testing.F) {
	var file struct{ Cases []caseRow }
	readTestdata(f, "policy-cases.json", &file)
	for _, row := range file.Cases {
		f.Add([]byte(fmt.Sprintf(`{"allowedMcpServers":%s,"deniedMcpServers":%s}`, row.Allow, row.Deny)), "h.com")
	}
	f.Add([]byte(`{"allowManagedMcpServersOnly":"true","x":{}}`), "https://h.com/")
	f.Fuzz(func(t *testing.T, data []byte, url string) {
		d, _, err := Parse(data)
		if err != nil {
			return
		}
		text, err := encode(d)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := Parse(text)
		if err != nil {
			t.Fatalf("%s is refused as it was read back: %v", text, err)
		}
		one, two := Compile([]Source{{Policy: d}}), Compile([]Source{{Policy: again}})
		if one.Digest() != two.Digest() {
			t.Errorf("%s is another policy as it was read back", text)
		}
		for _, server := range []Server{{Name: url, URL: url}, {Name: url, Stdio: true, Command: url}} {
			if a, b := one.Evaluate(&server), two.Evaluate(&server); a.Decision != b.Decision || a.Reason == "" {
				t.Errorf("%s: %+v and %+v", text, a, b)
			}
		}
	})
}

func FuzzCanonical(f *testing.F) {
	for _, url := range []string{"https://h.com/", "https://H.com:443//%6dcp?x#y", "http://user@127.1/", "https://é.com/%zz", "https://h.com/a|b[c]^d\"", "https://h.com/a%20b?x=%zz&y[]=|", "http://[::1]:80/%25"} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		canonical, err := Canonical(url)
		if err != nil {
			return
		}
		if canonical != url {
			t.Errorf("%q is accepted, and is to be written %q", url, canonical)
		}
		l, ok := parseLocation(url)
		if !ok || l.full() != url {
			t.Errorf("%q is accepted, and read as %+v", url, l)
		}
		// The gateway connects with the standard library's reading of it.
		u, err := neturl.Parse(url)
		if err != nil || u.Scheme != l.scheme || u.Hostname() != strings.Trim(l.host, "[]") || u.Port() != l.port ||
			u.EscapedPath() != l.path || strings.TrimPrefix(l.query, "?") != u.RawQuery || u.User != nil || u.Fragment != "" {
			t.Errorf("%q is read as %+v, and by the standard library as %+v (%v)", url, l, u, err)
		}
	})
}
