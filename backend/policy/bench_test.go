package policy

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkHostilePattern shows the cost of patterns made to backtrack. Twice
// the pattern and twice the URL must cost no more than four times as much:
// ns/byte², the cost by pattern times URL, must not rise.
func BenchmarkHostilePattern(b *testing.B) {
	shapes := []struct {
		name    string
		pattern func(n int) string
		url     func(n int) string
	}{
		{"stars", func(n int) string { return strings.Repeat("*a", n/2) + "*b*" }, func(n int) string { return strings.Repeat("a", n) }},
		{"long parts", func(n int) string { return "*" + strings.Repeat("a", n/2) + "b*" }, func(n int) string { return strings.Repeat("a", n) }},
		{"parts that nearly match", func(n int) string { return strings.Repeat("*aaaab", n/6) + "*" }, func(n int) string { return strings.Repeat("aaaaab", n/12) + strings.Repeat("aaaac", n/10) }},
		{"only stars", func(n int) string { return strings.Repeat("*", n) + "b*" }, func(n int) string { return strings.Repeat("a", n) }},
	}
	for _, shape := range shapes {
		for _, n := range []int{512, 1024, 2048, 4000} {
			pattern := compileURL("https://h.com/" + shape.pattern(n))
			url := newTarget("https://h.com/" + shape.url(n))
			b.Run(fmt.Sprintf("%s/%d", shape.name, n), func(b *testing.B) {
				for b.Loop() {
					if pattern.denies(url) {
						b.Fatal("match")
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n*n), "ns/byte²")
			})
		}
	}
}

// BenchmarkHostileCompile shows the cost of reading the longest patterns.
func BenchmarkHostileCompile(b *testing.B) {
	for _, part := range []string{"*a", "/", "/..", "é", "%"} {
		pattern := "https://h.com/" + strings.Repeat(part, 4000/len(part))
		b.Run(part, func(b *testing.B) {
			for b.Loop() {
				_ = compileURL(pattern)
			}
		})
	}
	for _, part := range []string{"a.", "*.", "é."} {
		pattern := "https://" + strings.Repeat(part, 4000/len(part)) + "com/"
		b.Run("host of "+part, func(b *testing.B) {
			for b.Loop() {
				_ = compileURL(pattern)
			}
		})
	}
}

// BenchmarkEvaluate shows the cost of a decision that is not in a cache.
func BenchmarkEvaluate(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		var d Document
		for i := range n {
			d.Denied = append(d.Denied, Entry{Kind: ServerURL, Text: fmt.Sprintf("https://*.h%d.com/*", i)})
			d.Allowed = append(d.Allowed, Entry{Kind: ServerURL, Text: fmt.Sprintf("https://h%d.com/mcp", i)})
		}
		p := Compile([]Source{{Name: "corp", Managed: true, Policy: d}})
		server := Server{Name: "last", URL: fmt.Sprintf("https://h%d.com/mcp", n-1)}
		b.Run(fmt.Sprintf("%d entries", 2*n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !p.Evaluate(&server).Allowed {
					b.Fatal("blocked")
				}
			}
		})
	}
}

// BenchmarkFilter shows the cost of rules about items in each request.
func BenchmarkFilter(b *testing.B) {
	rules := CompileRules("github", []Rights{
		{Lists: Lists{
			AllowedServers: []string{"*"}, AllowedTools: []string{"github/get_*", "github/create_issue"}, DeniedTools: []string{"*/delete_*"},
			AllowedResources: []string{"github/file:///srv/docs/*", "github/https://h.com/*"}, DeniedResources: []string{"*/*secret*"},
		}},
	})
	for _, use := range []struct {
		name   string
		filter *Filter
		item   string
	}{
		{"tool", rules.Tools, "create_issue"},
		{"file", rules.Resources, "file:///srv/docs/guide/start.md"},
		{"web page", rules.Resources, "https://h.com/docs/start.html"},
		{"file with escapes", rules.Resources, "file:///srv/docs/caf%C3%A9.md"},
		{"file in another spelling", rules.Resources, "file:///srv/docs/Start here.md"},
	} {
		b.Run(use.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !use.filter.Allows(use.item) {
					b.Fatal("refused")
				}
			}
		})
	}
}

// BenchmarkHostileURI shows the cost of the longest URIs.
func BenchmarkHostileURI(b *testing.B) {
	f := CompileRules("s", []Rights{{Lists: Lists{AllowedServers: []string{"*"}, DeniedResources: []string{"*/*a*b*c*"}}}}).Resources
	for _, part := range []string{"/", "a", "%41", "é", "%20", "..", ";"} {
		for _, start := range []string{"note://h/", "https://"} {
			uri := start + strings.Repeat(part, (maxURL-len(start))/len(part))
			b.Run(start+part, func(b *testing.B) {
				for b.Loop() {
					f.Allows(uri)
				}
			})
		}
	}
}

// BenchmarkCompileRules shows the cost of the first request to a server under the most
// rules.
func BenchmarkCompileRules(b *testing.B) {
	var l Lists
	for i := range 1024 {
		l.AllowedServers = append(l.AllowedServers, fmt.Sprintf("s%d", i))
		l.AllowedTools = append(l.AllowedTools, fmt.Sprintf("s%d/get_*", i))
		l.AllowedResources = append(l.AllowedResources, fmt.Sprintf("s%d/https://h%d.com/*", i, i))
	}
	for b.Loop() {
		CompileRules("s7", []Rights{{Lists: l}})
	}
}
