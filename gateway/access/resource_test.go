package access

import (
	"crypto/rand"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/token"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

const (
	publicURL = "https://mcp.example.com"
	annToken  = "anns-token-0123456789"
)

// pages stand for the handler of sign-in.
type pages struct{ http.HandlerFunc }

func (pages) Serves(path string) bool {
	return path == "/sign-in/token" || path == "/.well-known/oauth-protected-resource/sign-in/mcp"
}

// ofSignIn is what a lookup says of a token that was got in a sign-in for the resource.
func ofSignIn(resource string) grantstest.Data {
	return grantstest.Data{
		"kind": "leased", "resource": resource, "application": "https://claude.ai/oauth/client", "login": "employees",
		"person": "ann@example.com", "entity_id": "entity-ann", "sign_in": "sign-in-ann", "accessor": "accessor-ann",
	}
}

// newSignInStage is newStage with sign-in, and with the aggregate endpoint.
func newSignInStage(t *testing.T) *stage {
	t.Helper()
	return newStage(t, func(o *Options) {
		o.Aggregate = o.Next
		o.Listener.PublicURL, _ = url.Parse(publicURL)
		o.SignIn = pages{func(w http.ResponseWriter, r *http.Request) {
			id, source := Visit(r.Context())
			content, err := io.ReadAll(r.Body)
			if err != nil {
				Refuse(w, r, BodyRefusal(err))
				return
			}
			_, _ = io.WriteString(w, strings.Join([]string{"sign-in", id[:3], source.String(), string(content)}, " "))
		}}
		o.Root = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the page") })
	})
}

// Every kind of token at every endpoint: a token of a sign-in is good at its own resource alone,
// and every other one outside of /sign-in.
func TestTokensAreGoodAtTheirOwnResourceAlone(t *testing.T) {
	const whole, files, github = publicURL + "/sign-in/mcp", publicURL + "/sign-in/servers/files/mcp", publicURL + "/sign-in/servers/github/mcp"
	minted, err := token.New(rand.Reader)
	require.NoError(t, err)
	kinds := map[string]struct {
		token  string
		answer grantstest.Data
		goodAt []string
	}{
		"an issued token":                          {minted, grantstest.Data{"kind": "issued"}, []string{"/mcp", "/servers/files/mcp", "/servers/github/mcp"}},
		"a custom token":                           {"custom-token-0123456789", grantstest.Data{"kind": "custom"}, []string{"/mcp", "/servers/files/mcp", "/servers/github/mcp"}},
		"a leased token":                           {"leased-token-0123456789", grantstest.Data{"kind": "leased"}, []string{"/mcp", "/servers/files/mcp", "/servers/github/mcp"}},
		"a sign-in's token for all servers":        {"sign-in-all-0123456789", ofSignIn(whole), []string{"/sign-in/mcp"}},
		"a sign-in's token for one server":         {"sign-in-files-0123456789", ofSignIn(files), []string{"/sign-in/servers/files/mcp"}},
		"a sign-in's token for another server":     {"sign-in-github-0123456789", ofSignIn(github), []string{"/sign-in/servers/github/mcp"}},
		"a sign-in's token of another public URL":  {"sign-in-other-0123456789", ofSignIn("https://other.example.com/sign-in/mcp"), nil},
		"a sign-in's token with a slash too many":  {"sign-in-slash-0123456789", ofSignIn(whole + "/"), nil},
		"a sign-in's token for the origin":         {"sign-in-origin-0123456789", ofSignIn(publicURL), nil},
		"a sign-in's token for a path outside":     {"sign-in-outside-0123456789", ofSignIn(publicURL + "/mcp"), nil},
		"a sign-in's token in other letters":       {"sign-in-letters-0123456789", ofSignIn(strings.ToUpper(whole)), nil},
		"a sign-in's token with part of it absent": {"sign-in-part-0123456789", grantstest.Data{"kind": "leased", "resource": whole}, nil},
	}
	paths := []string{"/mcp", "/servers/files/mcp", "/servers/github/mcp", "/sign-in/mcp", "/sign-in/servers/files/mcp", "/sign-in/servers/github/mcp"}
	s := newSignInStage(t)
	for name, kind := range kinds {
		s.vault.AddToken(kind.token, "engineering", kind.answer)
		for _, path := range paths {
			for _, slash := range []string{"", "/"} {
				response, body := s.raw(post(path+slash, kind.token, "x"))
				switch {
				case slices.Contains(kind.goodAt, path):
					require.Equal(t, http.StatusOK, response.StatusCode, "%s at %s: %s", name, path+slash, body)
				case name == "a sign-in's token with part of it absent":
					require.Equal(t, http.StatusServiceUnavailable, response.StatusCode, "%s at %s: the gateway does not guess", name, path+slash)
				default:
					require.Equal(t, http.StatusUnauthorized, response.StatusCode, "%s at %s", name, path+slash)
					require.Contains(t, response.Header.Get("WWW-Authenticate"), `error="invalid_token"`)
				}
			}
		}
	}
}

// A seal changes nothing: the resource is part of Vault's answer about the token in it.
func TestSealedTokensAreGoodAtTheirOwnResourceAlone(t *testing.T) {
	const whole = publicURL + "/sign-in/mcp"
	sealed := vaultclient.Lookup{Active: true, Client: "c", ClientID: "id-c", Accessor: "a", DataKey: "0000000000000001"}
	signedIn := sealed
	signedIn.Resource, signedIn.Application, signedIn.Login, signedIn.Person, signedIn.EntityID, signedIn.SignIn = whole, "claude", "employees", "ann", "e", "s"
	for _, resource := range []string{"", whole, whole + "/", publicURL + "/sign-in/servers/files/mcp"} {
		for of, l := range map[string]*vaultclient.Lookup{"": &sealed, whole: &signedIn} {
			grant, err := grants.NewGrant(l, time.Now())
			require.NoError(t, err)
			require.Equal(t, resource == of, checkAudience(grant, resource) == nil, "one of %q at %q", of, resource)
		}
	}
}

func TestAudienceIsARefusalInTheAuditLog(t *testing.T) {
	s := newSignInStage(t)
	s.vault.AddToken(annToken, "engineering", ofSignIn(publicURL+"/sign-in/mcp"))
	s.raw(post("/mcp", annToken, "x"))
	line := s.lines(1)[0]
	require.Equal(t, "refusal", line["type"])
	require.Equal(t, ReasonAudience, line["reason"])
	require.Equal(t, "the token was got in a sign-in, and is for https://mcp.example.com/sign-in/mcp alone", line["detail"])
	require.Equal(t, "ann@example.com", line["person"])
}

func TestEveryLineNamesThePersonAndTheApplication(t *testing.T) {
	s := newSignInStage(t)
	s.vault.AddToken(annToken, "engineering", ofSignIn(publicURL+"/sign-in/servers/files/mcp"))
	s.raw(post("/sign-in/servers/files/mcp", annToken, "x"))
	s.raw(post("/sign-in/servers/github/mcp", annToken, "x"))
	types := map[any]bool{}
	for _, line := range s.lines(3) {
		types[line["type"]] = true
		for field, want := range map[string]string{
			"client": "engineering", "person": "ann@example.com", "entity_id": "entity-ann",
			"application": "https://claude.ai/oauth/client", "sign_in": "sign-in-ann", "accessor": "accessor-ann",
		} {
			require.Equal(t, want, line[field], "%s in %v", field, line)
		}
	}
	require.Equal(t, map[any]bool{"decision": true, "outcome": true, "refusal": true}, types)

	s.raw(post("/servers/files/mcp", goodToken, "x"))
	for _, line := range s.lines(5)[3:] {
		for _, field := range []string{"person", "entity_id", "application", "sign_in"} {
			require.NotContains(t, line, field, "a client of its own is nobody's sign-in")
		}
	}
}

// A 401 at a resource says each time, on every method, where the resource's metadata is: of the
// URL that was typed.
func TestResourcesSayHowToSignIn(t *testing.T) {
	s := newSignInStage(t)
	const metadata = publicURL + "/.well-known/oauth-protected-resource"
	for _, path := range []string{"/sign-in/mcp", "/sign-in/mcp/", "/sign-in/servers/files/mcp", "/sign-in/servers/nobody-has-this/mcp/"} {
		for _, method := range []string{"POST", "GET", "DELETE", "HEAD", "PUT", "PATCH", "OPTIONS", "TRACE"} {
			for range 3 {
				without, _ := s.raw(strings.Replace(post(path, "", ""), "POST", method, 1))
				require.Equal(t, http.StatusUnauthorized, without.StatusCode, method+path)
				require.Equal(t, []string{`Bearer realm="mcp", resource_metadata="` + metadata + path + `", scope="mcp"`}, without.Header["Www-Authenticate"])
				bad, _ := s.raw(strings.Replace(post(path, badToken, ""), "POST", method, 1))
				require.Equal(t, http.StatusUnauthorized, bad.StatusCode, method+path)
				require.Equal(t, []string{
					`Bearer realm="mcp", error="invalid_token", error_description="The access token is not valid", resource_metadata="` + metadata + path + `", scope="mcp"`,
				}, bad.Header["Www-Authenticate"])
			}
		}
	}
	s.vault.AddToken(annToken, "engineering", ofSignIn(publicURL+"/sign-in/mcp"))
	response, _ := s.raw(strings.Replace(post("/sign-in/mcp", annToken, ""), "POST", "PUT", 1))
	require.Equal(t, http.StatusMethodNotAllowed, response.StatusCode, "with a token, the method counts")
}

func TestPagesOfAllowedOriginsMayReadTheChallenge(t *testing.T) {
	s := newStage(t, func(o *Options) {
		o.Listener.PublicURL, _ = url.Parse(publicURL)
		o.Listener.AllowedOrigins = []string{"https://inspector.example.com"}
		o.SignIn = pages{}
	})
	response, _ := s.raw(post("/sign-in/servers/files/mcp", "", "x", "Origin: https://inspector.example.com"))
	require.Equal(t, http.StatusUnauthorized, response.StatusCode)
	require.Contains(t, response.Header.Get("Access-Control-Expose-Headers"), "Www-Authenticate")
	require.Equal(t, "https://inspector.example.com", response.Header.Get("Access-Control-Allow-Origin"))
	preflight, _ := s.raw("OPTIONS /sign-in/servers/files/mcp HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nOrigin: https://inspector.example.com\r\n" +
		"Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization\r\n\r\n")
	require.Equal(t, http.StatusNoContent, preflight.StatusCode)
}

// wellKnown are the documents that clients ask for after a 401, or before their first request,
// in their order: Cursor and Claude Code take what they find there for a reason to drop the
// header that they are configured with.
func wellKnown(path string) []string {
	return []string{
		"/.well-known/oauth-protected-resource" + path,
		"/.well-known/oauth-protected-resource",
		"/.well-known/oauth-authorization-server" + path,
		"/.well-known/oauth-authorization-server",
		"/.well-known/openid-configuration" + path,
		"/.well-known/openid-configuration",
		path + "/.well-known/oauth-protected-resource",
		path + "/.well-known/oauth-authorization-server",
		path + "/.well-known/openid-configuration",
		"/register",
	}
}

// While people sign in beside them, the endpoints for configured tokens stay what they were: no
// document and no challenge there leads a client to the other ones.
func TestSignInChangesNothingForConfiguredTokens(t *testing.T) {
	s := newSignInStage(t)
	for _, path := range []string{"/mcp", "/servers/files/mcp"} {
		for _, document := range wellKnown(path) {
			response, body := s.raw("GET " + document + " HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nMCP-Protocol-Version: 2025-11-25\r\n\r\n")
			require.Equal(t, http.StatusNotFound, response.StatusCode, document)
			require.Equal(t, "text/plain; charset=utf-8", response.Header.Get("Content-Type"))
			require.Empty(t, response.Header.Get("WWW-Authenticate"))
			require.NotContains(t, body, "There is no sign-in at this gateway", "there is one")
		}
		response, _ := s.raw(post(path, "", "x"))
		require.Equal(t, challengeNoToken, response.Header.Get("WWW-Authenticate"))
		response, _ = s.raw(post(path, badToken, "x"))
		require.Equal(t, challengeBadToken, response.Header.Get("WWW-Authenticate"))
		response, _ = s.raw(strings.Replace(post(path, "", ""), "POST", "PUT", 1))
		require.Equal(t, http.StatusMethodNotAllowed, response.StatusCode, "before the token is looked at")
	}
}

func TestThereIsNoResourceWithoutSignIn(t *testing.T) {
	s := newStage(t, func(o *Options) {
		o.Aggregate = o.Next
		o.Listener.PublicURL, _ = url.Parse(publicURL)
	})
	s.vault.AddToken(annToken, "engineering", ofSignIn(publicURL+"/sign-in/mcp"))
	for _, path := range []string{"/sign-in/mcp", "/sign-in/servers/files/mcp", "/sign-in/token"} {
		response, body := s.raw(post(path, annToken, "x"))
		require.Equal(t, http.StatusNotFound, response.StatusCode, path)
		require.Contains(t, body, "There is no sign-in at this gateway")
	}
	response, _ := s.raw(post("/mcp", annToken, "x"))
	require.Equal(t, http.StatusUnauthorized, response.StatusCode, "a token of a sign-in elsewhere")
}

func TestPagesOfSignInPassTheGateWithoutAToken(t *testing.T) {
	s := newSignInStage(t)
	response, body := s.raw(post("/sign-in/token", "", "grant_type=refresh_token"))
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Regexp(t, "^sign-in [a-z2-7]{3} 127.0.0.1 grant_type=refresh_token$", body)
	response, body = s.raw(post("/sign-in/token", "", "x", "Origin: https://anywhere.example.com"))
	require.Equal(t, http.StatusOK, response.StatusCode, "the handler looks at the origin: %s", body)

	tests := map[string]struct {
		request string
		status  int
	}{
		"another host":             {"GET /sign-in/token HTTP/1.1\r\nHost: evil.example.com\r\n\r\n", http.StatusForbidden},
		"two lengths":              {"POST /sign-in/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", http.StatusBadRequest},
		"two authorizations":       {post("/sign-in/token", "", "x", "Authorization: Basic YTpi", "Authorization: Basic YTpi"), http.StatusBadRequest},
		"a body that is too large": {post("/sign-in/token", "", strings.Repeat("x", maxSignInBody+1)), http.StatusRequestEntityTooLarge},
		"one without its length": {
			post("/sign-in/token", "", "10001\r\n"+strings.Repeat("x", maxSignInBody+1)+"\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), http.StatusRequestEntityTooLarge,
		},
		"a path in another spelling": {post("/sign-in%2Ftoken", "", "x"), http.StatusNotFound},
		"a path beside it":           {post("/sign-in/tokens", "", "x"), http.StatusNotFound},
	}
	for name, test := range tests {
		response, body := s.raw(test.request)
		require.Equal(t, test.status, response.StatusCode, "%s: %s", name, body)
	}
}

func TestTheRootHasAPageForBrowsersAlone(t *testing.T) {
	s := newSignInStage(t)
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 404, "PUT": 404} {
		response, _ := s.raw(method + " / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: 0\r\n\r\n")
		require.Equal(t, want, response.StatusCode, method)
	}
	response, _ := s.raw("GET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n")
	require.Equal(t, http.StatusForbidden, response.StatusCode)
	response, _ = newStage(t, nil).raw("GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n")
	require.Equal(t, http.StatusNotFound, response.StatusCode, "without a page")
}

func TestSignInsAreInTheAuditLogBeforeAnythingIsHandedOut(t *testing.T) {
	s := newSignInStage(t)
	log := NewSignInAudit(s.log)
	require.NoError(t, log.Record(SignInEvent{
		RequestID: "r-1", Event: "token", Client: "engineering", Person: "ann", EntityID: "e", Application: "claude", SignIn: "acc",
		Login: "employees", Resource: publicURL + "/sign-in/mcp", Generation: 3, Status: 200,
	}))
	line := s.lines(1)[0]
	delete(line, "time")
	require.Equal(t, map[string]any{
		"type": "sign-in", "request_id": "r-1", "event": "token", "client": "engineering", "person": "ann", "entity_id": "e", "application": "claude",
		"sign_in": "acc", "login": "employees", "resource": publicURL + "/sign-in/mcp", "generation": 3.0, "status": 200.0,
	}, line)
	for range 1000 {
		log.Count(SignInEvent{RequestID: "r-2", Event: "refused", Reason: "invalid_client", Status: 401})
	}
	log.Close()
	line = s.lines(2)[1]
	require.Equal(t, "refusals", line["type"])
	require.Equal(t, "refused", line["event"])
	require.Equal(t, "invalid_client", line["reason"])
	require.InDelta(t, 1000, line["count"], 0)
	s.log.Close()
	require.ErrorIs(t, log.Record(SignInEvent{Event: "token"}), ErrAudit, "then nothing is handed out")
}
