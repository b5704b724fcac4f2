package page

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestTextsFromOutsideAreCleaned(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"a name":                         {"Claude Code", "Claude Code"},
		"another alphabet":               {"יישום عربي 応用", "יישום عربي 応用"},
		"the order of a text is turned":  {"Cl\u202eaude\u2066\u200f", "Claude"},
		"a character has no width":       {"Cla\u200bude\ufeff", "Claude"},
		"lines and tabs":                 {" Claude\r\n\tCode\u2028 ", "Claude Code"},
		"control characters":             {"Claude\x00\x07\x1b[31m", "Claude[31m"},
		"bytes that are no text":         {"Claude\xff\xfe", "Claude"},
		"nothing that can be read":       {"\u202e\u200b", ""},
		"a character of no assigned use": {"Claude\ue000", "Claude"},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, clean(test.text)) })
	}
	require.Equal(t, strings.Repeat("é", maxText)+"…", clean(strings.Repeat("é", maxText+1)))
	require.Equal(t, "(no name)", applicationName("\u202e"))
}

func FuzzClean(f *testing.F) {
	f.Add("Claude\u202e Code\n")
	f.Fuzz(func(t *testing.T, text string) {
		got := clean(text)
		require.True(t, utf8.ValidString(got))
		require.LessOrEqual(t, utf8.RuneCountInString(got), maxText+2)
		require.Equal(t, got, clean(got))
		require.NotContains(t, got, "\u202e")
		require.NotContains(t, got, "\n")
	})
}

func TestTheDestinationIsThePlaceThatGetsTheCode(t *testing.T) {
	for redirect, want := range map[string]destination{
		"https://claude.ai/api/callback":       {Name: "claude.ai"},
		"https://localhost.attacker.example/":  {Name: "localhost.attacker.example"},
		"https://user@claude.ai:pw@evil.test/": {Name: "evil.test"},
		"https://example.com:8443/":            {Name: "example.com:8443"},
		"http://localhost/callback":            {Local: true, Name: "localhost"},
		"http://localhost:33418":               {Local: true, Name: "localhost:33418"},
		"http://127.0.0.1:33418/":              {Local: true, Name: "127.0.0.1:33418"},
		"http://[::1]:5/":                      {Local: true, Name: "[::1]:5"},
		"http://[::1]/":                        {Local: true, Name: "[::1]"},
		"com.example.app:/callback":            {Local: true, Name: "com.example.app://"},
		"cursor://anysphere.cursor-mcp/oauth":  {Local: true, Name: "cursor://"},
		"https://\u0430pple.com/":              {Name: `\u0430pple.com`}, // a Cyrillic letter
	} {
		t.Run(redirect, func(t *testing.T) { require.Equal(t, want, destinationOf(redirect)) })
	}
}

func TestTimeSpansAreWords(t *testing.T) {
	for span, want := range map[time.Duration]string{
		0:                             "",
		time.Second:                   "",
		time.Minute:                   "1 minute",
		90 * time.Minute:              "1 hour and 30 minutes",
		12 * time.Hour:                "12 hours",
		25*time.Hour + 2*time.Minute:  "1 day and 1 hour and 2 minutes",
		720 * time.Hour:               "30 days",
		12*time.Hour - 10*time.Second: "12 hours",
	} {
		require.Equal(t, want, lasting(span))
	}
}

func TestSentencesMarkWhatIsTyped(t *testing.T) {
	require.Equal(t, []piece{{Text: "In "}, {Code: true, Text: "a.json"}, {Text: ":"}}, pieces("In `a.json`:"))
	require.Equal(t, []piece{{Code: true, Text: "a"}}, pieces("`a`"))
	require.Empty(t, pieces(""))
}
