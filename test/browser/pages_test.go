package browser

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/export"
	"vault-plugin-secrets-mcp/gateway/signin/page"
	"vault-plugin-secrets-mcp/test/browser/chromium"
)

// Numbers of views in which axe looks at a page. Where only the words are other ones, one
// is enough.
const (
	one = 1
	two = 2 // narrow and light, wide and dark
	all = 4
)

// shown is a page with what it is shown with.
type shown struct {
	name  string
	views int
	show  func(http.ResponseWriter)
}

// hostile is a name of 200 characters that tries to turn the page's text around, and to
// look like another one.
var hostile = strings.Repeat("\u202eClaude\u2066 \u200bCode\u0007 <b>by Anthropic</b> יישום عربي ", 6)[:200] + strings.Repeat("w", 80)

func identities(n, servers int) []page.Identity {
	list := make([]page.Identity, n)
	for i := range list {
		list[i] = page.Identity{Name: fmt.Sprintf("%c-team-%03d", 'a'+i%23, i), Description: "Engineers of team " + fmt.Sprint(i)}
		for j := range servers {
			list[i].Servers = append(list[i].Servers, fmt.Sprintf("server-%02d", j))
		}
	}
	return list
}

func consent(change func(*page.ConsentData)) func(http.ResponseWriter) {
	d := page.ConsentData{
		Application: "Claude Code", Redirect: "http://localhost:51234/callback",
		Person: "ada@example.com", Login: "Example Inc.", Resource: "https://mcp.example.com/sign-in/mcp", Lasts: 12 * time.Hour,
		Identities: []page.Identity{
			{Name: "engineering", Description: "Engineers", Servers: []string{"calculator", "github", "notes"}},
			{Name: "oncall", Description: "People on call, with the production systems", Servers: strings.Fields("alerts calendar database deployments github incidents kubernetes logs metrics notes pager tickets traces wiki")},
			{Name: "platform", AllServers: true},
			{Name: "readonly", Servers: []string{"wiki"}},
			{Name: "trainee", Description: "Nothing yet"},
		},
		Form: "sealed", Action: "/sign-in/consent",
	}
	change(&d)
	return func(w http.ResponseWriter) { page.Consent(w, d) }
}

func problem(d page.ErrorData) func(http.ResponseWriter) {
	d.RequestID = "01JDZK5W9QH7Y0T3N8R2M4V6XC"
	return func(w http.ResponseWriter) { page.Error(w, http.StatusBadRequest, d) }
}

// pages are all pages, in every state that changes their looks.
func pages() []shown {
	choose := func(d page.ChooseData) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { page.Choose(w, d) }
	}
	root := func(d page.RootData) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { page.Root(w, d) }
	}
	list := []shown{
		{"choose", all, choose(page.ChooseData{Application: "Claude", Logins: []page.Login{{Name: "employees", Title: "Example Inc."}, {Name: "contractors", Title: "Contractors and partners of Example Inc."}, {Name: "lab"}}, Form: "sealed", Action: "/sign-in/login"})},
		{"choose-hostile", all, choose(page.ChooseData{Application: hostile, Logins: []page.Login{{Name: "employees", Title: strings.Repeat("long", 40)}}, Form: "sealed", Action: "/sign-in/login"})},
		{"consent-1", all, consent(func(d *page.ConsentData) {
			d.Application, d.Redirect, d.Verified, d.Vouch = "Claude", "https://claude.ai/api/callback", true, "claude.ai vouches for this application."
			d.Identities = d.Identities[:1]
		})},
		{"consent-5", all, consent(func(*page.ConsentData) {})},
		{"consent-500", two, consent(func(d *page.ConsentData) { d.Identities = identities(500, 12) })},
		{"consent-hostile", all, consent(func(d *page.ConsentData) {
			d.Application, d.Person, d.Login = hostile, hostile, strings.Repeat("long", 30)
			d.Redirect = "https://" + strings.Repeat("a", 60) + "." + strings.Repeat("b", 60) + ".аpple.com/callback"
			d.Identities = []page.Identity{{Name: strings.Repeat("n", 120), Description: hostile, Servers: []string{strings.Repeat("s", 120), "b"}}, {Name: "b"}}
		})},
		{"consent-cursor", one, consent(func(d *page.ConsentData) {
			d.Application, d.Redirect = "Cursor", "cursor://anysphere.cursor-mcp/oauth/callback"
		})},
		{"no-identity", all, func(w http.ResponseWriter) {
			page.NoIdentity(w, page.NoIdentityData{Application: "Claude", Person: "ada@example.com", Login: "Example Inc.", RequestID: "01JDZK5W9QH7Y0T3N8R2M4V6XC", Form: "sealed", Action: "/sign-in/consent"})
		}},
		{"root", all, root(page.RootData{PublicURL: "https://mcp.example.com"})},
		{"root-sign-in", all, root(page.RootData{PublicURL: "https://mcp.example.com", SignIn: true, DynamicRegistration: true})},
		{"root-unnamed", one, root(page.RootData{})},
		{"error-request", all, problem(page.Request("invalid_request", "code_challenge_method is missing"))},
		{"error-begin-again", one, problem(page.BeginAgain())},
		{"error-other-browser", one, problem(page.OtherBrowser())},
		{"error-cookie", one, problem(page.MissingCookie())},
		{"error-form", one, problem(page.ForeignForm())},
		{"error-provider", one, problem(page.ProviderRefused("access_denied", "The user is not assigned to this application."))},
		{"error-login", one, problem(page.LoginFailed(`claim "groups" not found in token`))},
		{"error-administrator", one, problem(page.Administrator([]string{"admin", "mcp-admin"}))},
		{"error-token-kind", one, problem(page.TokenKind("token_type of auth/oidc-mcp/role/mcp is batch: set it to service."))},
		{"error-too-many", one, problem(page.TooMany(time.Minute))},
		{"error-unavailable", one, problem(page.Unavailable())},
		{"error-redirect-role", one, problem(page.RedirectNotAllowed("oidc-mcp", "mcp", "https://mcp.example.com/sign-in/callback"))},
		{"error-application", one, problem(page.UnknownApplication("dynamic registration is off at this gateway"))},
		{"error-document", one, problem(page.ApplicationUnavailable("https://claude.ai/oauth/claude-code-client-metadata answered 403"))},
		{"error-redirect", one, problem(page.RedirectNotRegistered("https://attacker.example/" + strings.Repeat("x", 800)))},
	}
	for _, code := range []string{"access_denied", "unauthorized_client", "unsupported_response_type", "invalid_scope", "invalid_target", "server_error", "temporarily_unavailable"} {
		list = append(list, shown{"error-" + strings.ReplaceAll(code, "_", "-"), one, problem(page.Request(code, "A sentence that says more."))})
	}
	return list
}

func TestNoPageHasAnObstacle(t *testing.T) {
	program := chromium.Program(t)
	list := pages()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		if i := slices.IndexFunc(list, func(s shown) bool { return s.name == name }); i >= 0 {
			list[i].show(w)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(server.Close)
	type object = map[string]any
	input := object{
		"browser":  program,
		"pictures": os.Getenv("TEST_PICTURES"),
		"views": []object{
			{"width": 360, "scheme": "light"},
			{"width": 1280, "scheme": "dark"},
			{"width": 360, "scheme": "dark"},
			{"width": 1280, "scheme": "light"},
		},
	}
	var open []object
	for _, s := range list {
		open = append(open, object{"name": s.name, "url": server.URL + "/" + s.name, "views": s.views})
	}
	input["pages"] = open
	var findings []string
	run(t, "pages.cjs", input, &findings)
	require.Empty(t, findings, strings.Join(findings, "\n"))
}

// TestTheRootPageHasTheConfigurationsOfExport holds the page's text against what
// `mcp-bootstrap export` writes, which the real clients read in test/clients.
func TestTheRootPageHasTheConfigurationsOfExport(t *testing.T) {
	w := httptest.NewRecorder()
	page.Root(w, page.RootData{PublicURL: "https://mcp.example.com"})
	text := html.UnescapeString(w.Body.String())
	for _, format := range []string{"cursor", "vscode", "claude-desktop", "codex", "gemini"} {
		t.Run(format, func(t *testing.T) {
			file, err := export.Write(format, export.Input{Client: "NAME", GatewayURL: "https://mcp.example.com", Servers: []string{"one"}, TokenEnv: "MCP_TOKEN"})
			require.NoError(t, err)
			want := strings.Replace(file.Content, "Token of the MCP client NAME", "Token for MCP", 1)
			require.Contains(t, text, "<code>"+strings.TrimSpace(want)+"</code>")
		})
	}
}
