package signin

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/signin/bed"
)

// TestAttacksOnTheBrowser are those of RFC 9700 and of MCP's page on security, one each.
func TestAttacksOnTheBrowser(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	page := func(t *testing.T, p *bed.Page) {
		t.Helper()
		require.GreaterOrEqual(t, p.Status, 400, "the browser is at %s", p.URL)
		require.Less(t, p.Status, 500, p.Text())
		require.Nil(t, p.Choices("identity"))
	}
	t.Run("open redirect: nobody is sent to what is not registered", func(t *testing.T) {
		for name, more := range map[string]url.Values{
			"another host":             {"redirect_uri": {"https://evil.example.com/callback"}},
			"another path":             {"redirect_uri": {app.Redirect + "/more"}},
			"a path of dots":           {"redirect_uri": {"http://127.0.0.1/callback/../elsewhere"}},
			"another scheme":           {"redirect_uri": {"https://127.0.0.1/callback"}},
			"user information":         {"redirect_uri": {"http://127.0.0.1@evil.example.com/callback"}},
			"a query of its own":       {"redirect_uri": {app.Redirect + "?next=https://evil.example.com"}},
			"a fragment":               {"redirect_uri": {app.Redirect + "#x"}},
			"a script":                 {"redirect_uri": {"javascript:alert(1)"}},
			"a name of the loopback":   {"redirect_uri": {"http://127.0.0.1.evil.example.com/callback"}},
			"a backslash":              {"redirect_uri": {`http://127.0.0.1\@evil.example.com/callback`}},
			"a line break":             {"redirect_uri": {"http://127.0.0.1/callback\r\nSet-Cookie: a=b"}},
			"two of them":              {"redirect_uri": {app.Redirect, "https://evil.example.com/callback"}},
			"none":                     {"redirect_uri": nil},
			"an unknown application":   {"client_id": {"unknown"}},
			"no application":           {"client_id": nil},
			"two applications":         {"client_id": {bed.Editor, bed.Assistant}},
			"a document not allowed":   {"client_id": {"https://evil.example.com/client.json"}},
			"a document in the inside": {"client_id": {"https://169.254.169.254/latest"}},
		} {
			t.Run(name, func(t *testing.T) {
				try := app.In(t).Begin(more)
				page(t, b.In(t).Browser(bed.Alice).Open(try.URL()))
			})
		}
	})
	t.Run("downgrade: PKCE is there, and with S256", func(t *testing.T) {
		for name, more := range map[string]url.Values{
			"no challenge":               {"code_challenge": nil, "code_challenge_method": nil},
			"no method, which is plain":  {"code_challenge_method": nil},
			"plain":                      {"code_challenge_method": {"plain"}},
			"a challenge of no S256":     {"code_challenge": {"short"}},
			"an implicit flow":           {"response_type": {"token"}},
			"a code in the fragment":     {"response_type": {"code token"}},
			"a request object":           {"request": {"eyJhbGciOiJub25lIn0.e30."}},
			"a request by reference":     {"request_uri": {"https://evil.example.com/request"}},
			"somebody else's resource":   {"resource": {"https://mcp.example.com/mcp"}},
			"two resources":              {"resource": {b.AllURL(), b.ServerURL(bed.Notes)}},
			"a resource of today's path": {"resource": {b.OfClients(b.AllURL())}},
		} {
			t.Run(name, func(t *testing.T) {
				try := app.In(t).Begin(more)
				p := b.In(t).Browser(bed.Alice).Open(try.URL())
				if p.Status != 0 {
					page(t, p)
					return
				}
				code, err := try.Code(p) // which compares state and iss, so that nothing is mixed up
				require.Empty(t, code)
				require.Error(t, err)
				require.Contains(t, []string{"invalid_request", "unsupported_response_type", "invalid_target", "request_not_supported", "request_uri_not_supported"}, err.Error())
			})
		}
	})
	t.Run("session fixation: what began in one browser ends in no other", func(t *testing.T) {
		attacker, victim := b.In(t).Browser(""), b.In(t).Browser("")
		login := attacker.Open(app.In(t).Begin(nil).URL())
		attacker.Person = bed.Bob
		back := attacker.Callback(login)
		page(t, victim.Open(back))
		// A victim with a sign-in of their own under way is no better.
		victim.Open(app.In(t).Begin(nil).URL())
		page(t, victim.Open(back))
	})
	t.Run("the company hears of nothing that is between the application and the gateway", func(t *testing.T) {
		try := app.In(t).Begin(nil)
		for _, at := range b.In(t).Browser("").Open(try.URL()).Trail[1:] {
			for _, own := range []string{app.Resource, url.QueryEscape(app.Resource), try.State, try.Query.Get("code_challenge"), url.QueryEscape(app.Redirect)} {
				require.NotContains(t, at, own)
			}
		}
	})
	t.Run("a callback counts once, and only as it is", func(t *testing.T) {
		browser := b.In(t).Browser("")
		login := browser.Open(app.In(t).Begin(nil).URL())
		browser.Person = bed.Alice
		back := browser.Callback(login)
		at, err := url.Parse(back)
		require.NoError(t, err)
		for name, change := range map[string]func(url.Values){
			"without a state":          func(q url.Values) { q.Del("state") },
			"with another state":       func(q url.Values) { q.Set("state", alter(q.Get("state"), 5)) },
			"without a code":           func(q url.Values) { q.Del("code") },
			"with an error":            func(q url.Values) { q.Del("code"); q.Set("error", "<script>") },
			"with two states":          func(q url.Values) { q.Add("state", "x") },
			"with a state of nobody's": func(q url.Values) { q.Set("state", "st_nobody") },
		} {
			t.Run(name, func(t *testing.T) {
				q := at.Query()
				change(q)
				changed := *at
				changed.RawQuery = q.Encode()
				other := b.In(t).Browser("")
				p := other.Open(changed.String())
				page(t, p)
				require.NotContains(t, p.Body, "<script>")
			})
		}
		require.Equal(t, []string{bed.Engineering, bed.Oncall}, sorted(browser.Open(back).Choices("identity")))
		again := browser.Open(back)
		page(t, again)
		require.Contains(t, again.Text(), "again")
	})
	t.Run("CSRF: a consent that the person has not given counts for nothing", func(t *testing.T) {
		browser := b.In(t).Browser(bed.Alice)
		try := app.In(t).Begin(nil)
		consent := browser.Open(try.URL())
		action, values, err := consent.Fill(url.Values{"identity": {bed.Engineering}, "decision": {"allow"}})
		require.NoError(t, err)
		ours := b.Door.URL
		for name, header := range map[string]http.Header{
			"from another page":                       {"Origin": {"https://evil.example.com"}, "Sec-Fetch-Site": {"cross-site"}},
			"from a page of the same site":            {"Origin": {strings.Replace(ours, "127.0.0.1", "evil.127.0.0.1", 1)}, "Sec-Fetch-Site": {"same-site"}},
			"from a sandbox":                          {"Origin": {"null"}},
			"from nowhere":                            {},
			"from the gateway's host at another port": {"Origin": {"http://127.0.0.1:1"}, "Sec-Fetch-Site": {"same-site"}},
			"by a script that claims to be elsewhere": {"Origin": {"https://evil.example.com"}, "Sec-Fetch-Site": {"same-origin"}},
		} {
			t.Run(name, func(t *testing.T) {
				p := consent.SendAs(action, values, header)
				page(t, p)
				require.Equal(t, http.StatusForbidden, p.Status)
			})
		}
		t.Run("in a browser without the cookie", func(t *testing.T) {
			other := b.In(t).Browser(bed.Bob)
			theirs := other.Open(app.In(t).Begin(nil).URL()) // with a consent of its own
			page(t, theirs.SendAs(action, values, nil))
		})
		t.Run("with an altered form", func(t *testing.T) {
			altered := url.Values{}
			for name, value := range values {
				altered[name] = value
			}
			altered.Set("form", alter(values.Get("form"), 20))
			page(t, consent.SendAs(action, altered, nil))
		})
		t.Run("as a link", func(t *testing.T) {
			link := *action
			link.RawQuery = values.Encode()
			p := browser.Open(link.String())
			require.GreaterOrEqual(t, p.Status, 400, "the browser is at %s", p.URL)
		})
		// And the person's own still counts.
		code, err := try.Code(bed.Approve(consent, bed.Engineering))
		require.NoError(t, err)
		require.NoError(t, try.Redeem(code, nil).Tokens())
		t.Run("sent twice", func(t *testing.T) {
			// A second click must not end the sign-in that the first has begun; at worst it
			// shows a page.
			p := consent.SendAs(action, values, nil)
			require.True(t, p.Status == 0 || p.Status >= 400 && p.Status < 500, "%d %s", p.Status, p.Text())
		})
	})
	t.Run("clickjacking: the consent is in no frame, and runs no script", func(t *testing.T) {
		consent := b.In(t).Browser(bed.Alice).Open(app.In(t).Begin(nil).URL())
		policy := consent.Header.Get("Content-Security-Policy")
		require.Contains(t, policy, "frame-ancestors 'none'")
		require.Contains(t, policy, "default-src 'none'")
		require.NotContains(t, policy, "form-action", "Chromium would hold up the redirect to the application")
		require.NotContains(t, consent.Body, "<script")
		require.Equal(t, "no-store", consent.Header.Get("Cache-Control"))
		require.Equal(t, "same-origin", consent.Header.Get("Referrer-Policy"))
		require.Equal(t, "nosniff", consent.Header.Get("X-Content-Type-Options"))
		require.Empty(t, consent.Header.Get("Access-Control-Allow-Origin"))
	})
	t.Run("confused deputy: consent is asked for each time, and says for whom", func(t *testing.T) {
		browser := b.In(t).Browser(bed.Bob)
		for _, application := range []string{bed.Editor, bed.Editor, bed.Assistant} {
			try := b.In(t).Application(application, app.Resource).Begin(nil)
			consent := browser.Open(try.URL())
			require.Contains(t, consent.Text(), map[string]string{bed.Editor: "Example Editor", bed.Assistant: "Example Assistant"}[application])
			require.Contains(t, consent.Text(), "127.0.0.1")
			require.Contains(t, consent.Text(), bed.Bob)
			_, err := try.Code(bed.Approve(consent, bed.Engineering))
			require.NoError(t, err)
		}
	})
	t.Run("mix-up: every answer says whose it is, a refusal too", func(t *testing.T) {
		try := app.In(t).Begin(nil)
		_, err := try.Code(b.In(t).Browser(bed.Alice).Open(try.URL()).Send(url.Values{"decision": {"deny"}}))
		require.EqualError(t, err, "access_denied")
	})
}

// TestBrowsersAsPeopleUseThem: tabs, reloads, missing cookies.
func TestBrowsersAsPeopleUseThem(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	t.Run("three tabs finish in any order", func(t *testing.T) {
		for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}} {
			browser := b.In(t).Browser(bed.Alice)
			tries, pages := make([]*bed.Attempt, 3), make([]*bed.Page, 3)
			for i := range tries {
				tries[i] = app.In(t).Begin(nil)
				pages[i] = browser.Open(tries[i].URL())
			}
			for _, i := range order {
				code, err := tries[i].Code(bed.Approve(pages[i], bed.Engineering))
				require.NoError(t, err)
				require.NoError(t, tries[i].Redeem(code, nil).Tokens())
			}
		}
	})
	t.Run("the same link twice: both of its pages work, and the first one sent is good", func(t *testing.T) {
		browser, try := b.In(t).Browser(bed.Alice), app.In(t).Begin(nil)
		first, second := browser.Open(try.URL()), browser.Open(try.URL())
		for _, page := range []*bed.Page{first, second} {
			code, err := try.Code(bed.Approve(page, bed.Engineering))
			require.NoError(t, err)
			require.NoError(t, try.Redeem(code, nil).Tokens())
		}
	})
	t.Run("tens of tabs: the cookies stay small, and the newest tab works", func(t *testing.T) {
		browser := b.In(t).Browser("")
		var try *bed.Attempt
		var login *bed.Page
		for range 25 {
			try = app.In(t).Begin(url.Values{"state": {strings.Repeat("s", 900)}})
			try.State = try.Query.Get("state")
			login = browser.Open(try.URL())
			size := 0
			for _, cookie := range browser.Jar() {
				size += len(cookie.Name) + len(cookie.Value)
			}
			require.Less(t, size, 13<<10)
		}
		browser.Person = bed.Alice
		code, err := try.Code(bed.Approve(browser.SignInAt(login), bed.Engineering))
		require.NoError(t, err)
		require.NoError(t, try.Redeem(code, nil).Tokens())
	})
	t.Run("without cookies, a page says that they are missing", func(t *testing.T) {
		browser := b.In(t).Browser("")
		login := browser.Open(app.In(t).Begin(nil).URL())
		browser.Person = bed.Alice
		back := browser.Callback(login)
		page := b.In(t).Browser("").Open(back)
		require.GreaterOrEqual(t, page.Status, 400)
		require.Contains(t, strings.ToLower(page.Text()), "cookie")
	})
	t.Run("applications differ in what they ask for, and all of them get the same", func(t *testing.T) {
		for name, more := range map[string]url.Values{
			"no state":                    {"state": nil},
			"an empty scope":              {"scope": {""}},
			"no scope":                    {"scope": nil},
			"unknown scopes":              {"scope": {" claudeai openid email profile"}},
			"offline_access alone":        {"scope": {"offline_access"}},
			"prompt and others":           {"prompt": {"consent"}, "access_type": {"offline"}, "nonce": {"n"}, "ui_locales": {"de"}},
			"the resource with a slash":   {"resource": {app.Resource + "/"}},
			"the resource of all servers": {"resource": {b.AllURL()}},
			"no resource":                 {"resource": nil},
		} {
			t.Run(name, func(t *testing.T) {
				app := app.In(t)
				if more.Has("resource") {
					app = app.At(b.AllURL())
					if len(more["resource"]) > 0 {
						app = app.At(strings.TrimSuffix(more.Get("resource"), "/"))
					}
				}
				try := app.Begin(more)
				try.State = try.Query.Get("state")
				code, err := try.Code(bed.Approve(b.In(t).Browser(bed.Alice).Open(try.URL()), bed.Engineering))
				require.NoError(t, err)
				redeem := url.Values{}
				if resource, ok := more["resource"]; ok {
					redeem["resource"] = resource
				}
				got := try.Redeem(code, redeem)
				require.NoError(t, got.Tokens())
				answer, err := app.Do(bed.Request{
					Method: http.MethodPost, URL: app.Resource, Token: got.AccessToken, Body: ping,
					Header: http.Header{"Mcp-Protocol-Version": {"2025-11-25"}},
				})
				require.NoError(t, err)
				require.NotEqual(t, http.StatusUnauthorized, answer.Status, answer.Body)
			})
		}
	})
}
