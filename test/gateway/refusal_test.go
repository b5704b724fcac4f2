package gateway

import (
	"net/http"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// badTokens are Authorization headers with which every request must be refused.
func badTokens(wrong string) map[string]http.Header {
	bearer := func(values ...string) http.Header { return http.Header{"Authorization": values} }
	return map[string]http.Header{
		"without a token":                  {},
		"with an empty token":              bearer("Bearer "),
		"with a token nobody issued":       bearer("Bearer " + wrong),
		"with a custom token nobody wrote": bearer("Bearer my-own-token-0123456789"),
		"with a token of a broken form":    bearer("Bearer " + wrong[:40]),
		"with a token of another alphabet": bearer("Bearer abcdefghijkl\"mnopqr"),
		"with another scheme":              bearer("Basic dXNlcjpwYXNzd29yZA=="),
		"with two tokens in one header":    bearer("Bearer " + wrong + ", Bearer " + wrong),
	}
}

func TestNobodyComesInWithoutAValidToken(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Everywhere(func(s *stage.Stage) {
		t := s.T
		wrong := harness.UnissuedToken(t)
		s.Secret(wrong)
		s.Secret("my-own-token-0123456789")
		challenges := map[string]string{}
		for name, header := range badTokens(wrong) {
			t.Run(name, func(t *testing.T) {
				s := s.In(t)
				for _, server := range []string{stage.Calculator, stage.Forbidden, stage.Absent} {
					for what, ask := range s.Asks(server, header) {
						r := ask()
						stage.WantRefusal(t, r, http.StatusUnauthorized)
						challenge := r.Header.Get("WWW-Authenticate")
						if !strings.HasPrefix(challenge, "Bearer") {
							t.Errorf("%s: the challenge is %q", what, challenge)
						}
						challenges[name] = challenge
					}
				}
				s.Untouched(t)
			})
		}
		if a, b := challenges["with a token nobody issued"], challenges["with a token of a broken form"]; a != b {
			t.Errorf("bad tokens are told apart: %q and %q", a, b)
		}
	})
}

func TestTokenCountsInTheAuthorizationHeaderOnly(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	s.Everywhere(func(s *stage.Stage) {
		t := s.T
		token := s.Client("cursor", nil)
		call := harness.CallBody(s.At.Tool(stage.Calculator, "add"), `{"a":1,"b":2}`)
		url := s.URL(stage.Calculator)
		tests := map[string]struct {
			url    string
			header http.Header
		}{
			"in the query":                 {url + "?access_token=" + token, nil},
			"in a cookie":                  {url, http.Header{"Cookie": {"access_token=" + token}}},
			"in a header of another name":  {url, http.Header{"X-Api-Key": {token}}},
			"in Vault's header":            {url, http.Header{"X-Vault-Token": {token}}},
			"in the header for proxies":    {url, http.Header{"Proxy-Authorization": {"Bearer " + token}}},
			"as a password":                {strings.Replace(url, "http://", "http://user:"+token+"@", 1), nil},
			"without the scheme's name":    {url, http.Header{"Authorization": {token}}},
			"after another scheme's name":  {url, http.Header{"Authorization": {"Token " + token}}},
			"after a comma":                {url, http.Header{"Authorization": {"Basic x, Bearer " + token}}},
			"with something behind it":     {url, http.Header{"Authorization": {"Bearer " + token + " x"}}},
			"in quotes":                    {url, http.Header{"Authorization": {`Bearer "` + token + `"`}}},
			"in the path of the server":    {s.Gateway.ServerURL(token), nil},
			"in the id of a session":       {url, http.Header{"Mcp-Session-Id": {token}}},
			"in the address of the client": {url, http.Header{"X-Forwarded-For": {token}}},
		}
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				s := s.In(t)
				r := s.Do(http.MethodPost, test.url, "", test.header, call)
				stage.WantRefusal(t, r, http.StatusUnauthorized)
				s.Untouched(t)
			})
		}
	})
}

func TestServerThatIsNotAllowedIsLikeOneThatDoesNotExist(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	header := http.Header{"Authorization": {"Bearer " + s.Client("cursor", nil)}}
	bodies := map[string]map[string]string{}
	for _, server := range []string{stage.Forbidden, stage.Absent, "Calculator", "calculator2", "x"} {
		t.Run(server, func(t *testing.T) {
			s := s.In(t)
			bodies[server] = map[string]string{}
			for what, ask := range s.Asks(server, header) {
				r := ask()
				stage.WantRefusal(t, r, http.StatusForbidden)
				bodies[server][what] = stage.WithoutID(r.Body)
			}
			s.Untouched(t)
		})
	}
	for what, body := range bodies[stage.Forbidden] {
		if other := bodies[stage.Absent][what]; other != body {
			t.Errorf("who %s is told %q of a server not allowed, and %q of one that does not exist", what, body, other)
		}
	}
	t.Run("a client without servers reaches none", func(t *testing.T) {
		s := s.In(t)
		none := s.CreateClient("nobody", nil)
		stage.WantRefusal(t, s.Add(none), http.StatusForbidden)
		s.Untouched(t)
	})
	s.Works(t, strings.TrimPrefix(header.Get("Authorization"), "Bearer "))
}
