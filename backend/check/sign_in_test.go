package check

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
)

func TestResourcesAreURLsOfOneForm(t *testing.T) {
	for _, good := range []string{
		"https://mcp.example.com/sign-in/mcp",
		"https://mcp.example.com:8443/sign-in/servers/github/mcp",
		"http://127.0.0.1:8100/sign-in/mcp",
		"http://localhost:8100/sign-in/mcp",
		"http://[::1]:8100/sign-in/mcp",
	} {
		require.NoError(t, Resource(good), good)
	}
	for _, bad := range []string{
		"", "x", "/sign-in/mcp", "//mcp.example.com/x", "https:mcp", "urn:x:y", "https://mcp.example.com/",
		"https://mcp.example.com/x/", "https://mcp.example.com/x?", "https://mcp.example.com/x#", "https://mcp.example.com/%78",
		"https://mcp.example.com./x", "https://mcp.example.com//x", "HTTPS://mcp.example.com/x", "http://10.0.0.1/x",
		"http://localhost.example.com/x", "https://a@mcp.example.com/x", " https://mcp.example.com/x", "https://mcp.example.com/x\n",
		"https://mcp.example.com\\@other/x",
	} {
		require.Error(t, Resource(bad), bad)
	}
}

func FuzzAResourceThatIsTakenIsReadInOneWay(f *testing.F) {
	for _, seed := range []string{
		"https://mcp.example.com/sign-in/mcp", "http://127.0.0.1:8100/x", "http://[::1]/x", "https://a:b@c/d", "https://a/b?c#d",
		"https://a/../b", "https://a%2fb/c", "https://a/b\\c", "https://ä/x",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if Resource(text) != nil {
			return
		}
		u, err := url.Parse(text)
		require.NoError(t, err)
		require.Equal(t, text, u.Scheme+"://"+u.Host+u.EscapedPath(), "a part is left over, or is written in two ways")
		require.True(t, strings.HasPrefix(u.Path, "/") && !strings.HasSuffix(u.Path, "/"), text)
		require.True(t, u.Scheme == "https" || u.Scheme == "http" && isPrivateLink(text), text)
		canonical, err := policy.Canonical(text)
		require.NoError(t, err)
		require.Equal(t, text, canonical)
	})
}

func FuzzTheNameOfAnApplicationShowsWhatItIs(f *testing.F) {
	for _, seed := range []string{"Cursor", " a\x00b\r\n", "\u202eevil\u2066", "\xff\xfe", strings.Repeat("ä", 201), "\u2028", "👩‍👩‍👧"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		clean, err := ApplicationName(text)
		if err != nil {
			require.Greater(t, utf8.RuneCountInString(text), maxApplicationName)
			return
		}
		require.True(t, utf8.ValidString(clean))
		require.False(t, strings.ContainsFunc(clean, invisible))
		require.LessOrEqual(t, utf8.RuneCountInString(clean), maxApplicationName)
		again, err := ApplicationName(clean)
		require.NoError(t, err)
		require.Equal(t, clean, again)
	})
}

func TestNamesOfPeopleAreTakenAsTheyAreOrNotAtAll(t *testing.T) {
	for _, good := range []string{"ann", "ann@example.com", "Ann Ämter", "00u1:x", "李", "repo:org/app:ref:refs/heads/main"} {
		require.NoError(t, PersonName(good), good)
	}
	for _, bad := range []string{"", " ann", "ann ", "a\tb", "a\u202eb", "a\u200db", "\xff", strings.Repeat("a", 513), "\ue000"} {
		require.Error(t, PersonName(bad), "%q", bad)
	}
}

func TestATimeIsRFC3339OrSecondsSince1970(t *testing.T) {
	want := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for _, good := range []any{
		"2026-11-30T12:00:00Z", "2026-11-30T13:00:00+01:00", "1796040000", json.Number("1796040000"), float64(1796040000), 1796040000, int64(1796040000),
	} {
		got, err := Time(good)
		require.NoError(t, err, "%v", good)
		require.Equal(t, want, got, "%v", good)
	}
	for _, bad := range []any{"", "now", "12:00", "2026-11-30", "-1", "1e9", json.Number("1.5"), 1.5, true, nil, []any{"x"}, "2026-11-30 12:00:00"} {
		_, err := Time(bad)
		require.ErrorContains(t, err, "is not a valid time", "%v", bad)
	}
}

func TestApplicationsAreNamedInVisibleASCII(t *testing.T) {
	for _, good := range []string{"cursor", "dynamic:abcdefgh234567", "https://claude.ai/oauth/claude-code-client-metadata"} {
		require.NoError(t, Application(good), good)
	}
	for _, bad := range []string{"a b", "a\x7f", "ä", strings.Repeat("a", 513)} {
		require.Error(t, Application(bad), "%q", bad)
	}
}
