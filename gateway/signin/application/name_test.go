package application

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestNamesAreCleaned(t *testing.T) {
	for text, want := range map[string]string{
		"Claude Code":                        "Claude Code",
		"Über-Werkzeug №5 · 東京 🦊":            "Über-Werkzeug №5 · 東京 🦊",
		"  a \t\r\n b\u2003c\u00a0d  ":       "a b c d",
		"evil\u202egnp.exe":                  "evilgnp.exe",
		"\u2066a\u2069\u200e\u200f\u061c":    "a",
		"a\u200bb\ufeffc\u00add\u2060e":      "abcde",
		"a\x00b\x1b[31mc\x7fd\u0085e":        "ab[31mcd e",
		"line\u2028break\u2029here":          "line break here",
		"\u3164\u115f\uffa0\u2800\u034f":     "",
		"tag\U000e0041\U000e007f":            "tag",
		"broken\xff\xfeutf8\ufffd":           "brokenutf8",
		"private\ue000use":                   "privateuse",
		"e\u0301\u0301\u0301\u0301\u0301":    "e\u0301\u0301",
		"\u0301a":                            "a",
		"a \u0301b":                          "a b",
		"<script>alert(1)</script>":          "<script>alert(1)</script>",
		"":                                   "",
		" \u202e ":                           "",
		strings.Repeat("ab ", 200):           strings.TrimSpace(strings.Repeat("ab ", 67))[:199] + "",
		strings.Repeat("\u202e", 5000) + "a": "a",
		strings.Repeat("字", 300):             strings.Repeat("字", 200),
	} {
		got := cleanName(text)
		if len(want) > 150 {
			require.LessOrEqual(t, utf8.RuneCountInString(got), maxName)
			require.True(t, strings.HasPrefix(text, got))
			continue
		}
		require.Equal(t, want, got, "%q", text)
	}
}

// FuzzCleanName: a cleaned name is clean, short and has no two spaces.
func FuzzCleanName(f *testing.F) {
	f.Add("Claude\u202e Code")
	f.Add(strings.Repeat("e\u0301 ", 300))
	f.Fuzz(func(t *testing.T, text string) {
		got := cleanName(text)
		if cleanName(got) != got || utf8.RuneCountInString(got) > maxName || !utf8.ValidString(got) || strings.TrimSpace(got) != got || strings.Contains(got, "  ") {
			t.Fatalf("%q is cleaned to %q", text, got)
		}
		if strings.ContainsAny(got, "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200b\x00\n") {
			t.Fatalf("%q is cleaned to %q", text, got)
		}
	})
}
