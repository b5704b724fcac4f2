package policy

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// readTestdata reads a file of observed decisions.
func readTestdata(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// urlRow is one pattern and one URL, with the real program's decision.
type urlRow struct {
	List, Pattern, URL string
	Match              bool
}

func TestURLMatchesAsObserved(t *testing.T) {
	var file struct{ Rows []urlRow }
	readTestdata(t, "policy-urls.json", &file)
	if len(file.Rows) == 0 {
		t.Fatal("no rows")
	}
	for _, row := range file.Rows {
		pattern := compileURL(row.Pattern)
		match := pattern.allows
		if row.List == "deny" {
			match = pattern.denies
		}
		if got := match(newTarget(row.URL)); got != row.Match {
			t.Errorf("%s entry %q, URL %q: match = %v, observed %v", row.List, row.Pattern, row.URL, got, row.Match)
		}
	}
}

// Rows of the same program about patterns with wildcards, and conclusions from them.
func TestDenialsAreWiderForPatternsWithWildcards(t *testing.T) {
	for _, row := range []struct {
		pattern, url  string
		denied, equal bool // equal: also as an entry of an allow-list
	}{
		{"*://localhost/MCP/a*b/", "https://localhost/MCP/amcpb/?x=1", true, false},
		{"*://localhost/MCP/a*b/", "https://localhost/MCP/amcpb/", true, true},
		{"*://localhost/MCP/a*b/", "https://localhost/MCP/amcpb//?x=1", false, false}, // the slash of a pattern with a wildcard stays
		{"*://localhost/MCP/a*b", "https://localhost/MCP/amcpb/?x=1", true, false},
		{"*://a.*.com:*3/mcp", "https://a.a.com:3/mcp//", true, false},
		{"*://a.*.com:*3/mcp", "https://a.a.com:3/mcp?x=1", true, false},
		{"*://a.*.com:*3/mcp", "https://a.a.com:3/mcp/?x=1", true, false},
		{"*://a.*.com:*3/mcp/", "https://a.a.com:3/mcp", true, false},
		{"*://a.*.com:*3/mcp", "https://a.a.com:3/mcp/x", false, false},
		{"https://h.com:84*/a*/", "https://h.com:8443/ab/?x=1", true, false},
		{"https://h.com:84*/mcp?x=1", "https://h.com:8443/mcp/?x=1", false, false},
		{"https://h.com/*/mcp?x=1", "https://h.com/a/mcp/?x=1", false, false},
		{"http://[::*]/mcp", "http://[::1]/mcp/", true, false},
		{"https://h.com/*", "https://h.com/", true, true},
	} {
		p, u := compileURL(row.pattern), newTarget(row.url)
		if got := p.denies(u); got != row.denied {
			t.Errorf("deny entry %q, URL %q: match = %v", row.pattern, row.url, got)
		}
		if got := p.allows(u); got != row.equal {
			t.Errorf("allow entry %q, URL %q: match = %v", row.pattern, row.url, got)
		}
	}
}

// A pattern without a query that denies a URL denies it with any query.
func TestADenialCannotBeEvadedByAQuery(t *testing.T) {
	r := rand.New(rand.NewPCG(18, 1))
	tried := 0
	for range 4_000 {
		pattern := randomPattern(r)
		url := instance(r, pattern)
		p := compileURL(pattern)
		if p.hasQuery || strings.ContainsAny(url, "?#") {
			continue
		}
		if !p.denies(newTarget(url)) {
			continue
		}
		tried++
		if longer := url + from(r, "?x=1", "?", "?a/b"); !p.denies(newTarget(longer)) {
			t.Errorf("deny entry %q denies %q, and not %q", pattern, url, longer)
		}
	}
	if tried < 100 {
		t.Errorf("only %d pairs were tried", tried)
	}
}

// A pattern without a query and without a slash at its end that denies a URL denies it
// with slashes at its end, too.
func TestADenialCannotBeEvadedByASlash(t *testing.T) {
	r := rand.New(rand.NewPCG(18, 2))
	tried := 0
	for range 4_000 {
		pattern := randomPattern(r)
		url := instance(r, pattern)
		p, u := compileURL(pattern), newTarget(url)
		if p.hasQuery || strings.ContainsAny(url, "?#") || !u.parsed || strings.HasSuffix(u.path, "/") || !p.denies(u) {
			continue
		}
		tried++
		if longer := url + from(r, "/", "//", "/?x=1"); !p.denies(newTarget(longer)) {
			t.Errorf("deny entry %q denies %q, and not %q", pattern, url, longer)
		}
	}
	if tried < 100 {
		t.Errorf("only %d pairs were tried", tried)
	}
}

// instance is a URL that a pattern may describe.
func instance(r *rand.Rand, pattern string) string {
	text := strings.Replace(pattern, "*://", from(r, "http://", "https://"), 1)
	text = strings.Replace(text, ":*/", from(r, ":8443/", "/"), 1)
	for strings.Contains(text, "*") {
		text = strings.Replace(text, "*", from(r, "a", "1", "ab", ""), 1)
	}
	return strings.TrimSpace(text) // the parser would, and not before the appended text
}
