package browser

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/browser/chromium"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/signin/bed"
)

// The addresses at which applications get their answers.
const (
	claudeCallback = "https://claude.ai/api/mcp/auth_callback"
	cursorCallback = "cursor://anysphere.cursor-mcp/oauth/callback"
)

// The headings of the pages that a person comes to.
const (
	choosing  = "Sign in"
	company   = "Demo identity provider"
	deciding  = "Allow access?"
	delivered = "Back in the application"
)

// stage is a bed with a browser, and with the applications' own pages.
type stage struct {
	*bed.Bed
	*chromium.Browser
	claude, cursor, editor *bed.Application
	arrivals               *arrivals
	windows                *atomic.Int64
}

// window is a person's window, at an address of its own: the gateway bounds how often one
// address may sign in.
func (s *stage) window(t *testing.T) *chromium.Window {
	t.Helper()
	return s.Window(t, map[string]string{"X-Forwarded-For": fmt.Sprintf("203.0.113.%d", s.windows.Add(1))})
}

// arrivals are the requests that reach the applications' callbacks.
type arrivals struct {
	mu   sync.Mutex
	seen []url.URL
}

func (a *arrivals) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := *r.URL
	at.Host, at.Scheme = r.Host, "http"
	if r.TLS != nil {
		at.Scheme = "https"
	}
	a.seen = append(a.seen, at)
	w.Header().Set("Content-Type", "text/html")
	_, _ = io.WriteString(w, "<h1>"+delivered+"</h1>")
}

// of are the arrivals with this state.
func (a *arrivals) of(try *bed.Attempt) []url.URL {
	a.mu.Lock()
	defer a.mu.Unlock()
	var found []url.URL
	for _, at := range a.seen {
		if at.Query().Get("state") == try.State {
			found = append(found, at)
		}
	}
	return found
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{arrivals: &arrivals{}, windows: &atomic.Int64{}}
	claude := httptest.NewTLSServer(s.arrivals)
	t.Cleanup(claude.Close)
	loopback := httptest.NewServer(s.arrivals)
	t.Cleanup(loopback.Close)
	s.Browser = chromium.Start(t, map[string]string{"claude.ai": claude.Listener.Addr().String()})
	s.Bed = bed.New(t, bed.Options{TLS: true, SignIn: fmt.Sprintf(`
  dynamic_registration = true
  redirect_schemes = ["cursor"]
  login "contractors" { 
    mount = %q
    role  = %q
    title = "Contractors"
  }
  application "claude" { 
    name = "Claude"
    redirect_uris = [%q]
  }
`, bed.Mount, bed.Role, claudeCallback)})
	resource := s.ServerURL(bed.Calculator)
	s.claude, s.editor = s.Application("claude", resource), s.Application(bed.Editor, resource)
	s.claude.Redirect = claudeCallback
	s.editor.Redirect = loopback.URL + "/callback"
	s.cursor = s.Application(s.register(t, "Cursor", cursorCallback), resource)
	s.cursor.Redirect = cursorCallback
	return s
}

// register registers an application by itself, and returns its client_id.
func (s *stage) register(t *testing.T, name, redirect string) string {
	t.Helper()
	got, err := s.editor.Do(bed.Request{
		Method: http.MethodPost, URL: s.editor.Server.RegistrationEndpoint,
		Body: fmt.Sprintf(`{"client_name":%q,"redirect_uris":[%q],"token_endpoint_auth_method":"none"}`, name, redirect),
	})
	require.NoError(t, err)
	require.Equal(t, http.StatusCreated, got.Status, got.Body)
	var answer struct {
		ClientID string `json:"client_id"`
	}
	require.NoError(t, json.Unmarshal([]byte(got.Body), &answer))
	return answer.ClientID
}

// arrive opens an attempt in a tab, and goes to the company's page.
func (s *stage) arrive(tab *chromium.Tab, try *bed.Attempt) {
	tab.Open(try.URL()).Heading(choosing)
	tab.Press("Example Inc.").Heading(company)
}

// logIn types a person's name and password.
func (s *stage) logIn(tab *chromium.Tab, person string) {
	tab.Fill("Name", person).Fill("Password", bed.Password).Press("Log in")
}

// code is the code with which the browser has come to the application, once.
func (s *stage) code(t *testing.T, tab *chromium.Tab, try *bed.Attempt) string {
	t.Helper()
	at := tab.Visited(try.Query.Get("redirect_uri"))
	link, err := url.Parse(at)
	require.NoError(t, err)
	code, err := try.Code(&bed.Page{URL: link})
	require.NoError(t, err)
	if link.Scheme == "cursor" {
		require.Empty(t, s.arrivals.of(try))
		return code
	}
	tab.Heading(delivered)
	arrived := s.arrivals.of(try)
	require.Len(t, arrived, 1)
	require.Equal(t, link.RawQuery, arrived[0].RawQuery)
	require.Equal(t, link.Host, arrived[0].Host)
	return code
}

// TestPeopleSignInWithABrowser is what a person does and sees, in a browser that runs no
// script.
func TestPeopleSignInWithABrowser(t *testing.T) {
	t.Parallel()
	s := newStage(t)

	for name, row := range map[string]struct {
		application *bed.Application
		says        []string
	}{
		"at an address of https": {s.claude, []string{"Claude asks to use", "The people who run this gateway", "Access goes to\nclaude.ai"}},
		"on the loopback":        {s.editor, []string{"Example Editor asks to use", "a program on this computer (127.0.0.1:"}},
		"by a link of its own": {s.cursor, []string{
			"An application that calls itself Cursor asks", "Unverified application", "a program on this computer (cursor://)",
		}},
	} {
		t.Run("Allow reaches an application "+name, func(t *testing.T) {
			tab := s.window(t).Tab(t)
			try := row.application.In(t).Begin(nil)
			s.arrive(tab, try)
			s.logIn(tab, bed.Alice)
			seen := tab.Heading(deciding)
			for _, words := range append(row.says, "alice", "Example Inc.", s.claude.Resource, bed.Engineering, bed.Oncall, bed.Calculator) {
				require.Contains(t, seen.Text, words)
			}
			require.NotContains(t, seen.Text, bed.Hidden)
			tab.Choose(bed.Engineering).Press("Allow")
			answer := try.Redeem(s.code(t, tab, try), nil)
			require.NoError(t, answer.Tokens())
			got, err := row.application.In(t).Try(row.application.Resource, answer.AccessToken)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, got.Status, got.Body)
		})
	}

	t.Run("three tabs finish in any order", func(t *testing.T) {
		window := s.window(t)
		var tabs [3]*chromium.Tab
		var tries [3]*bed.Attempt
		for i, application := range []*bed.Application{s.editor, s.claude, s.editor} {
			tabs[i], tries[i] = window.Tab(t), application.In(t).Begin(nil)
			s.arrive(tabs[i], tries[i])
		}
		for _, i := range []int{2, 0, 1} {
			s.logIn(tabs[i], bed.Alice)
			tabs[i].Heading(deciding)
		}
		for _, i := range []int{1, 2, 0} {
			tabs[i].Choose(bed.Oncall).Press("Allow")
			require.NoError(t, tries[i].Redeem(s.code(t, tabs[i], tries[i]), nil).Tokens())
		}
	})

	t.Run("a callback that comes twice does not spoil the first", func(t *testing.T) {
		window := s.window(t)
		tab, try := window.Tab(t), s.editor.In(t).Begin(nil)
		s.arrive(tab, try)
		s.logIn(tab, bed.Alice)
		seen := tab.Heading(deciding)
		window.Tab(t).Open(seen.URL).Heading("This sign-in has ended")
		tab.Choose(bed.Oncall).Press("Allow")
		require.NoError(t, try.Redeem(s.code(t, tab, try), nil).Tokens())
	})

	t.Run("a callback in another browser is refused", func(t *testing.T) {
		for what, row := range map[string]struct {
			heading string
			begun   bool
		}{
			"that has no cookie of a sign-in": {"The sign-in’s cookie is missing", false},
			"that has begun one of its own":   {"This sign-in began in another browser", true},
		} {
			// Somebody begins, and has another person finish on the company's page.
			somebody, try := s.window(t).Tab(t), s.editor.In(t).Begin(nil)
			s.arrive(somebody, try)
			window := s.window(t)
			if row.begun {
				s.arrive(window.Tab(t), s.editor.In(t).Begin(nil))
			}
			tab := window.Tab(t)
			tab.Open(somebody.See().URL).Heading(company)
			s.logIn(tab, bed.Alice)
			tab.Heading(row.heading)
			require.Empty(t, s.arrivals.of(try), what)
		}
	})

	t.Run("a browser that has lost its cookies is told so", func(t *testing.T) {
		window := s.window(t)
		tab, try := window.Tab(t), s.editor.In(t).Begin(nil)
		s.arrive(tab, try)
		window.Forget(t)
		s.logIn(tab, bed.Alice)
		tab.Heading("The sign-in’s cookie is missing")
		require.Empty(t, s.arrivals.of(try))
	})

	refused := func(t *testing.T, tab *chromium.Tab, try *bed.Attempt) {
		t.Helper()
		at := tab.Visited(try.Query.Get("redirect_uri"))
		link, err := url.Parse(at)
		require.NoError(t, err)
		_, err = try.Code(&bed.Page{URL: link})
		require.EqualError(t, err, "access_denied")
		require.Empty(t, link.Query().Get("code"))
	}

	t.Run("Deny tells the application, and needs no identity to be chosen", func(t *testing.T) {
		for _, application := range []*bed.Application{s.claude, s.cursor} {
			tab, try := s.window(t).Tab(t), application.In(t).Begin(nil)
			s.arrive(tab, try)
			s.logIn(tab, bed.Alice)
			tab.Heading(deciding)
			tab.Press("Deny")
			refused(t, tab, try)
		}
	})

	t.Run("Allow without an identity goes nowhere", func(t *testing.T) {
		tab, try := s.window(t).Tab(t), s.editor.In(t).Begin(nil)
		s.arrive(tab, try)
		s.logIn(tab, bed.Alice)
		before := tab.Heading(deciding)
		tab.Press("Allow")
		require.Equal(t, before.Visits, tab.See().Visits)
	})

	t.Run("an only identity is chosen already", func(t *testing.T) {
		tab, try := s.window(t).Tab(t), s.claude.In(t).Begin(nil)
		s.arrive(tab, try)
		s.logIn(tab, bed.Bob)
		require.NotContains(t, tab.Heading(deciding).Text, bed.Oncall)
		tab.Press("Allow")
		require.NoError(t, try.Redeem(s.code(t, tab, try), nil).Tokens())
	})

	t.Run("a person without an identity learns whom to ask, and the application of it", func(t *testing.T) {
		tab, try := s.window(t).Tab(t), s.claude.In(t).Begin(nil)
		s.arrive(tab, try)
		s.logIn(tab, bed.Carol)
		require.Contains(t, tab.Heading("No identity for you yet").Text, "Ask the people who run Vault at your company")
		tab.Press("Back to the application")
		refused(t, tab, try)
	})

	t.Run("of five hundred identities one is found", func(t *testing.T) {
		s.Bed.In(t).Write("sys/policies/acl/mcp-person-all", harness.Map{"policy": `path "mcp/creds/*" { capabilities = ["update"] }`})
		entity := s.Company.EntityOf(t, bed.Bob)
		s.Bed.In(t).Write("identity/entity/id/"+entity, harness.Map{"policies": "mcp-person-all"})
		for i := range 500 {
			s.Bed.In(t).Write(fmt.Sprintf("mcp/clients/%c-team-%03d", 'a'+i%26, i), harness.Map{"allowed_servers": bed.Calculator, "sign_in": true})
		}
		tab, try := s.window(t).Tab(t), s.claude.In(t).Begin(nil)
		s.arrive(tab, try)
		s.logIn(tab, bed.Bob)
		require.Contains(t, tab.Heading(deciding).Text, "There are 502.")
		tab.Choose("m-team-012").Press("Allow")
		require.NoError(t, try.Redeem(s.code(t, tab, try), nil).Tokens())
	})

	for heading, change := range map[string]url.Values{
		"This application is not known here":          {"client_id": {"nobody"}},
		"You would have been sent to a wrong address": {"redirect_uri": {"https://attacker.example/callback"}},
	} {
		t.Run("a request that leads nowhere: "+heading, func(t *testing.T) {
			tab, try := s.window(t).Tab(t), s.editor.In(t).Begin(change)
			seen := tab.Open(try.URL()).Heading(heading)
			require.Len(t, seen.Visits, 1)
		})
	}

	t.Run("the company says no", func(t *testing.T) {
		tab, try := s.window(t).Tab(t), s.cursor.In(t).Begin(nil)
		s.arrive(tab, try)
		tab.Press("Cancel").Heading("Your company’s login refused you")
		for _, at := range tab.See().Visits {
			require.False(t, strings.HasPrefix(at, "cursor:"), "an application that nobody vouches for gets no answer before a decision")
		}
	})

	t.Run("an account with an administrator's rights is told so", func(t *testing.T) {
		s.Bed.In(t).Write("identity/entity/id/"+s.Company.EntityOf(t, bed.Carol), harness.Map{"policies": "mcp-admin"})
		tab, try := s.window(t).Tab(t), s.editor.In(t).Begin(nil)
		s.arrive(tab, try)
		s.logIn(tab, bed.Carol)
		require.Contains(t, tab.Heading("This account can do too much").Text, "mcp-admin")
		require.Empty(t, s.arrivals.of(try))
	})

	t.Run("the root says what this is", func(t *testing.T) {
		seen := s.window(t).Tab(t).Open(s.Door.URL).Heading("A gateway for MCP servers")
		require.Contains(t, seen.Text, s.Door.URL+"/sign-in/mcp")
		for _, name := range []string{bed.Calculator, bed.Notes, bed.Engineering, bed.Oncall, bed.Hidden} {
			require.NotContains(t, strings.ToLower(seen.Text), name)
		}
	})
}
