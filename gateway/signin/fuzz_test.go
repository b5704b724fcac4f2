package signin

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/gateway/access"
)

// FuzzNoResourceOfAnotherServiceIsTaken: whatever the spelling, a resource that is taken is
// one of this gateway's, in its one spelling, and is taken again.
func FuzzNoResourceOfAnotherServiceIsTaken(f *testing.F) {
	for _, seed := range []string{
		"", publicURL, publicURL + "/sign-in/mcp/", "HTTPS://MCP.EXAMPLE.COM:443/sign-in/servers/a/mcp", publicURL + "/sign-in/servers/%61/mcp",
		"https://mcp.example.com@evil.test/sign-in/mcp", "https://mcp.example.com\\.evil.test/", "https:mcp.example.com/sign-in/mcp", "https://[::1]/sign-in/mcp",
	} {
		f.Add(seed)
	}
	h := &Handler{Options: Options{PublicURL: publicURL}}
	f.Fuzz(func(t *testing.T, asked string) {
		resource, ok := h.canonicalResource(asked)
		if !ok {
			return
		}
		path, own := strings.CutPrefix(resource, publicURL)
		if !own || !access.IsResource(path) {
			t.Fatalf("%q is taken as %q", asked, resource)
		}
		if again, ok := h.canonicalResource(resource); !ok || again != resource {
			t.Fatalf("%q is taken as %q, and that as %q", asked, resource, again)
		}
		if u, err := url.Parse(asked); asked != "" && (err != nil || !strings.EqualFold(u.Hostname(), "mcp.example.com")) {
			t.Fatalf("%q is of another host", asked)
		}
	})
}

// FuzzParametersStandOnce: the parsed form has each parameter once, and with a value.
func FuzzParametersStandOnce(f *testing.F) {
	for _, seed := range []string{"a=1&a=2", "a=&b", "a=1;b=2", "%zz", "a=%00", "=x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest(http.MethodGet, authorizePath, http.NoBody)
		r.URL.RawQuery = query
		values, err := parameters(httptest.NewRecorder(), r)
		if err != nil {
			return
		}
		for name, all := range values {
			if len(all) != 1 || all[0] == "" {
				t.Fatalf("%q: %q is %q", query, name, all)
			}
		}
	})
}

// FuzzAnAnswerKeepsItsRedirect: an answer goes to the redirect as it was registered, with the
// parameters after it, and with no line in a header but the one.
func FuzzAnAnswerKeepsItsRedirect(f *testing.F) {
	for _, seed := range []string{deskRedirect, deskRedirect + "?a=b", deskRedirect + "?", deskRedirect + "?a&", "cursor://a/b"} {
		f.Add(seed, "state")
	}
	f.Fuzz(func(t *testing.T, redirect, state string) {
		answer := answerURL(redirect, url.Values{"code": {"c"}, "state": {state}})
		added, ok := strings.CutPrefix(answer, redirect)
		if !ok {
			t.Fatalf("%q became %q", redirect, answer)
		}
		values, err := url.ParseQuery(strings.TrimLeft(added, "?&"))
		if err != nil || values.Get("code") != "c" || values.Get("state") != state || len(values) != 2 {
			t.Fatalf("%q: %q", answer, values)
		}
		if strings.ContainsAny(added, "\r\n #") {
			t.Fatalf("%q", added)
		}
	})
}
