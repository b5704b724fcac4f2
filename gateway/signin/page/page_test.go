package page_test

import (
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/signin/page"
)

var update = flag.Bool("update", false, "write the files in testdata/ again")

// shown returns a page's answer.
func shown(show func(http.ResponseWriter)) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	show(w)
	return w
}

func consentData() page.ConsentData {
	return page.ConsentData{
		Application: "Claude Code", Redirect: "http://localhost:51234/callback", Person: "ada@example.com", Login: "Example Inc.",
		Resource: "https://mcp.example.com/sign-in/mcp", Lasts: 12 * time.Hour,
		Identities: []page.Identity{
			{Name: "oncall", Description: "People on call", Servers: []string{"github", "alerts"}},
			{Name: "engineering", Servers: strings.Fields("k j i h g f e d c b a")},
			{Name: "platform", AllServers: true},
			{Name: "trainee"},
		},
		Form: "sealed", Action: "/sign-in/consent",
	}
}

func consent(change func(*page.ConsentData)) func(http.ResponseWriter) {
	d := consentData()
	change(&d)
	return func(w http.ResponseWriter) { page.Consent(w, d) }
}

// pages are one of each.
var pages = map[string]func(http.ResponseWriter){
	"choose": func(w http.ResponseWriter) {
		page.Choose(w, page.ChooseData{
			Application: "Claude Code", Form: "sealed", Action: "/sign-in/login",
			Logins: []page.Login{{Name: "employees", Title: "Example Inc."}, {Name: "lab"}},
		})
	},
	"consent": consent(func(*page.ConsentData) {}),
	"consent-verified": consent(func(d *page.ConsentData) {
		d.Verified, d.Vouch, d.Redirect, d.Identities = true, "claude.ai vouches for this application.", "https://claude.ai/api/callback", d.Identities[:1]
	}),
	"no-identity": func(w http.ResponseWriter) {
		page.NoIdentity(w, page.NoIdentityData{Application: "Claude Code", Person: "ada@example.com", Login: "Example Inc.", RequestID: "4711", Form: "sealed", Action: "/sign-in/consent"})
	},
	"error": func(w http.ResponseWriter) {
		d := page.Request("invalid_request", "code_challenge is missing")
		d.RequestID = "4711"
		page.Error(w, http.StatusBadRequest, d)
	},
	"root": func(w http.ResponseWriter) { page.Root(w, page.RootData{PublicURL: "https://mcp.example.com"}) },
	"root-sign-in": func(w http.ResponseWriter) {
		page.Root(w, page.RootData{PublicURL: "https://mcp.example.com", SignIn: true, MetadataDocuments: true})
	},
}

var styleElement = regexp.MustCompile(`(?s)<style>(.*)</style>`)

func TestEveryPageIsAsItIsKept(t *testing.T) {
	for name, show := range pages {
		t.Run(name, func(t *testing.T) {
			got := styleElement.ReplaceAllString(shown(show).Body.String(), "<style></style>")
			golden := filepath.Join("testdata", name+".html")
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(got), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), got)
		})
	}
}

func TestEveryPageCarriesTheHeadersThatKeepItSafe(t *testing.T) {
	status := map[string]int{"no-identity": http.StatusForbidden, "error": http.StatusBadRequest}
	for name, show := range pages {
		t.Run(name, func(t *testing.T) {
			w := shown(show)
			want := http.StatusOK
			if status[name] != 0 {
				want = status[name]
			}
			require.Equal(t, want, w.Code)
			require.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
			require.Equal(t, "same-origin", w.Header().Get("Referrer-Policy"), "under no-referrer browsers send Origin: null with a form")
			require.Equal(t, "DENY", w.Header().Get("X-Frame-Options"))
			require.Equal(t, fmt.Sprint(w.Body.Len()), w.Header().Get("Content-Length"))

			style := styleElement.FindStringSubmatch(w.Body.String())
			require.NotNil(t, style)
			sum := sha256.Sum256([]byte(style[1]))
			require.Equal(t,
				"default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'; base-uri 'none'; frame-ancestors 'none'",
				w.Header().Get("Content-Security-Policy"),
				"the one style sheet by its hash, no script, no frame around the page; a form-action would stop Allow on its way to the application")
		})
	}
}

func TestNoPageHasAScriptOrLoadsAnything(t *testing.T) {
	for name, show := range pages {
		t.Run(name, func(t *testing.T) {
			require.NotRegexp(t, `(?i)<script|<img|<link|<iframe|\son[a-z]+\s*=|\ssrc\s*=|\sstyle\s*=|javascript:|url\(|@import`, shown(show).Body.String())
		})
	}
}

func TestTextsFromOutsideStayTexts(t *testing.T) {
	const attack = `"><script>alert(1)</script><b x='`
	all := consent(func(d *page.ConsentData) {
		d.Application, d.Redirect, d.Vouch, d.Person, d.Login, d.Resource = attack, attack, attack, attack, attack, attack
		d.Form, d.Action = attack, attack
		d.Identities = []page.Identity{{Name: attack, Description: attack, Servers: []string{attack}}, {Name: "b", Servers: strings.Fields(strings.Repeat(`"><b> `, 20))}}
	})
	for name, show := range map[string]func(http.ResponseWriter){
		"consent": all,
		"choose": func(w http.ResponseWriter) {
			page.Choose(w, page.ChooseData{Application: attack, Logins: []page.Login{{Name: attack, Title: attack}}, Form: attack, Action: attack})
		},
		"no identity": func(w http.ResponseWriter) {
			page.NoIdentity(w, page.NoIdentityData{Application: attack, Person: attack, Login: attack, RequestID: attack, Form: attack, Action: attack})
		},
		"error": func(w http.ResponseWriter) {
			page.Error(w, http.StatusBadRequest, page.ErrorData{Title: attack, Message: attack, Advice: attack, Code: attack, Detail: attack, RequestID: attack})
		},
		"root": func(w http.ResponseWriter) { page.Root(w, page.RootData{PublicURL: attack, SignIn: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			body := shown(show).Body.String()
			for _, part := range []string{"<script", "<b ", "<b>", " x='"} {
				require.NotContains(t, body, part)
			}
		})
	}
}

func TestConsentNamesWhatIsAllowed(t *testing.T) {
	body := shown(consent(func(*page.ConsentData) {})).Body.String()
	for what, text := range map[string]string{
		"the application":            `<bdi class="name">Claude Code</bdi>`,
		"that nobody vouches for it": "<strong>Unverified application</strong>",
		"where the access goes":      `a program on this computer <span class="soft">(localhost:51234)</span>`,
		"the person":                 `<bdi class="name">ada@example.com</bdi>`,
		"the endpoint":               "https://mcp.example.com/sign-in/mcp",
		"how long it lasts":          "12 hours at most",
		"an identity":                `value="oncall"`,
		"what it reaches":            "Reaches 2 servers: alerts, github",
		"all of a long list":         "a, b, c, d, e, f, g, h, i, j, k</details>",
		"an identity without limits": "Reaches every server that is registered, now and later.",
		"one that reaches no server": "Reaches no server at the moment.",
		"a button to allow":          `name="decision" value="allow"`,
		"a button to deny, which needs no identity to be chosen": `name="decision" value="deny" formnovalidate`,
	} {
		require.Contains(t, body, text, what)
	}
	require.NotContains(t, body, " checked", "of several identities none is chosen beforehand")
}

func TestAVerifiedApplicationIsNotCalledUnverified(t *testing.T) {
	body := shown(pages["consent-verified"]).Body.String()
	require.NotContains(t, body, "Unverified")
	require.Contains(t, body, "claude.ai vouches for this application.")
	require.Contains(t, body, "<strong>claude.ai</strong>")
}

// TestAProgramOnTheComputerMayTakeAVerifiedName: the client_id of another program is not secret,
// and any program that listens at the redirect gets the code (MCP authorization, "Localhost
// Redirect URI Risks").
func TestAProgramOnTheComputerMayTakeAVerifiedName(t *testing.T) {
	const warning = "any program on this computer can ask in its name. Allow it only if you began this yourself just now."
	for redirect, warned := range map[string]bool{
		"http://localhost:51234/callback": true, "http://[::1]:51234/callback": true, "cursor://anysphere.cursor-mcp/oauth/callback": true,
		"https://claude.ai/api/callback": false, "https://localhost.example.com/callback": false,
	} {
		body := shown(consent(func(d *page.ConsentData) {
			d.Verified, d.Vouch, d.Redirect = true, "claude.ai vouches for this application.", redirect
		})).Body.String()
		require.Contains(t, body, "claude.ai vouches for this application.", redirect)
		require.Equal(t, warned, strings.Contains(body, warning), redirect)
		require.Equal(t, warned, strings.Contains(body, `class="note warn"`), redirect)
		require.NotContains(t, body, "Unverified", redirect)
	}
}

func TestAnOnlyIdentityIsChosenBeforehand(t *testing.T) {
	require.Contains(t, shown(pages["consent-verified"]).Body.String(), " required checked>")
}

func TestEveryIdentityOfFiveHundredCanBeFound(t *testing.T) {
	identities := make([]page.Identity, 500)
	for i := range identities {
		identities[i] = page.Identity{Name: fmt.Sprintf("%c-%03d", 'a'+i%26, i)}
		for j := range 300 {
			identities[i].Servers = append(identities[i].Servers, fmt.Sprintf("server-%03d", j))
		}
	}
	w := shown(consent(func(d *page.ConsentData) { d.Identities = identities }))
	body := w.Body.String()
	for _, i := range identities {
		require.Contains(t, body, `value="`+i.Name+`"`)
	}
	require.Contains(t, body, "Reaches 300 servers: server-000,")
	for letter := 'a'; letter <= 'z'; letter++ {
		require.Contains(t, body, fmt.Sprintf(`href="#from-%c"`, letter))
		require.Contains(t, body, fmt.Sprintf(`id="from-%c"`, letter))
	}
	require.Less(t, w.Body.Len(), 1<<20, "the names of all servers of all identities would be two megabytes")
}

func TestTheCallersListsStayAsTheyWere(t *testing.T) {
	d := consentData()
	page.Consent(httptest.NewRecorder(), d)
	require.Equal(t, consentData(), d)
	logins := []page.Login{{Name: "lab"}}
	page.Choose(httptest.NewRecorder(), page.ChooseData{Logins: logins})
	require.Equal(t, []page.Login{{Name: "lab"}}, logins)
}

func TestTheRootPageSaysWhatItsGatewayHas(t *testing.T) {
	root := func(d page.RootData) string {
		return shown(func(w http.ResponseWriter) { page.Root(w, d) }).Body.String()
	}
	without := root(page.RootData{PublicURL: "https://mcp.example.com/"})
	require.Contains(t, without, "https://mcp.example.com/mcp")
	require.NotContains(t, without, "/sign-in", "where nobody signs in")
	with := root(page.RootData{PublicURL: "https://mcp.example.com", SignIn: true})
	require.Contains(t, with, "https://mcp.example.com/sign-in/mcp")
	require.NotContains(t, with, "Applications may register themselves")
	require.Contains(t, root(page.RootData{SignIn: true, DynamicRegistration: true}), "Applications may register themselves")
	require.Contains(t, root(page.RootData{}), "https://GATEWAY/mcp", "where the file has no public_url")
}
