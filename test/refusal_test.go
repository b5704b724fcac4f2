package test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

// badTokens are what stands in the Authorization header of a client that may
// not come in, whatever it asks for.
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

// asks are the ways in which a server can be asked for something.
func (s *stage) asks(server string, header http.Header) map[string]func() harness.Response {
	url, tool := s.url(server), s.at.tool(server, "add")
	send := func(method, body string, more http.Header) func() harness.Response {
		return func() harness.Response {
			all := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}}
			for _, h := range []http.Header{more, header} {
				for name, values := range h {
					all[name] = values
				}
			}
			return s.Do(method, url, "", all, body)
		}
	}
	stateless := http.Header{"Mcp-Protocol-Version": {harness.StatelessEra}, "Mcp-Method": {"tools/call"}, "Mcp-Name": {tool}}
	session := http.Header{"Mcp-Session-Id": {"some-session"}, "Mcp-Protocol-Version": {harness.SessionEra}}
	return map[string]func() harness.Response{
		"calls a tool in one request": send(http.MethodPost, harness.CallBody(tool, `{"a":1,"b":2}`), stateless),
		"opens a session": send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"`+harness.SessionEra+
			`","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`, nil),
		"calls a tool in a session": send(http.MethodPost, `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+tool+`","arguments":{"a":1,"b":2}}}`, session),
		"opens a stream":            send(http.MethodGet, "", session),
		"ends a session":            send(http.MethodDelete, "", session),
		"sends what is no message":  send(http.MethodPost, `[`, nil),
	}
}

func TestNobodyComesInWithoutAValidToken(t *testing.T) {
	s := newStage(t, harness.GatewayOptions{})
	s.everywhere(func(s *stage) {
		t := s.t
		wrong := unissuedToken(t)
		s.Secret(wrong)
		s.Secret("my-own-token-0123456789")
		challenges := map[string]string{}
		for name, header := range badTokens(wrong) {
			t.Run(name, func(t *testing.T) {
				s := s.in(t)
				for _, server := range []string{calculator, forbidden, absent} {
					for what, ask := range s.asks(server, header) {
						r := ask()
						wantRefusal(t, r, http.StatusUnauthorized)
						challenge := r.Header.Get("WWW-Authenticate")
						if !strings.HasPrefix(challenge, "Bearer") {
							t.Errorf("%s: the challenge is %q", what, challenge)
						}
						challenges[name] = challenge
					}
				}
				s.untouched(t)
			})
		}
		if a, b := challenges["with a token nobody issued"], challenges["with a token of a broken form"]; a != b {
			t.Errorf("bad tokens are told apart: %q and %q", a, b)
		}
	})
}

func TestTokenCountsInTheAuthorizationHeaderOnly(t *testing.T) {
	s := newStage(t, harness.GatewayOptions{})
	s.everywhere(func(s *stage) {
		t := s.t
		token := s.client("cursor", nil)
		call := harness.CallBody(s.at.tool(calculator, "add"), `{"a":1,"b":2}`)
		url := s.url(calculator)
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
			"in the path of the server":    {s.gateway.ServerURL(token), nil},
			"in the id of a session":       {url, http.Header{"Mcp-Session-Id": {token}}},
			"in the address of the client": {url, http.Header{"X-Forwarded-For": {token}}},
		}
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				s := s.in(t)
				r := s.Do(http.MethodPost, test.url, "", test.header, call)
				wantRefusal(t, r, http.StatusUnauthorized)
				s.untouched(t)
			})
		}
	})
}

func TestServerThatIsNotAllowedIsLikeOneThatDoesNotExist(t *testing.T) {
	s := newStage(t, harness.GatewayOptions{})
	header := http.Header{"Authorization": {"Bearer " + s.client("cursor", nil)}}
	bodies := map[string]map[string]string{}
	for _, server := range []string{forbidden, absent, "Calculator", "calculator2", "x"} {
		t.Run(server, func(t *testing.T) {
			s := s.in(t)
			bodies[server] = map[string]string{}
			for what, ask := range s.asks(server, header) {
				r := ask()
				wantRefusal(t, r, http.StatusForbidden)
				bodies[server][what] = withoutID(r.Body)
			}
			s.untouched(t)
		})
	}
	for what, body := range bodies[forbidden] {
		if other := bodies[absent][what]; other != body {
			t.Errorf("who %s is told %q of a server not allowed, and %q of one that does not exist", what, body, other)
		}
	}
	t.Run("a client without servers reaches none", func(t *testing.T) {
		s := s.in(t)
		none := s.CreateClient("nobody", nil)
		wantRefusal(t, s.add(none), http.StatusForbidden)
		s.untouched(t)
	})
	s.works(t, strings.TrimPrefix(header.Get("Authorization"), "Bearer "))
}

// withoutID takes the request's id out of a refusal.
func withoutID(body string) string {
	before, after, _ := strings.Cut(body, `"request_id":"`)
	_, after, _ = strings.Cut(after, `"`)
	return before + after
}

func TestRealClientIsRefused(t *testing.T) {
	s := newStage(t, harness.GatewayOptions{})
	token := s.client("cursor", nil)
	for _, era := range []string{harness.SessionEra, harness.StatelessEra, ""} {
		for name, try := range map[string]struct{ server, token string }{
			"without a token":                {calculator, ""},
			"with a wrong token":             {calculator, unissuedToken(t)},
			"at a server not allowed":        {forbidden, token},
			"at a server that was not there": {absent, token},
		} {
			t.Run(fmt.Sprintf("%s, era %q", name, era), func(t *testing.T) {
				s := s.in(t)
				session, err := s.TryConnect(s.gateway.ServerURL(try.server), try.token, harness.ConnectOptions{Version: era})
				if err == nil {
					if _, err = session.ListTools(t.Context(), nil); err == nil {
						t.Error("the client lists tools")
					}
				}
				s.untouched(t)
			})
		}
	}
}

func TestRevokedTokenIsRefused(t *testing.T) {
	s := newStage(t, harness.GatewayOptions{})
	s.everywhere(func(s *stage) {
		t := s.t
		for name, end := range map[string]func(client string){
			"revoked by its client": func(client string) { s.Write("mcp/revoke-client/"+client, nil) },
			"revoked by itself": func(client string) {
				s.Write("mcp/revoke-accessor", harness.Map{"accessor": s.Read("mcp/clients/" + client)["accessor"]})
			},
			"deleted with its client": func(client string) { s.Delete("mcp/clients/" + client) },
			"disabled":                func(client string) { s.Write("mcp/clients/"+client, harness.Map{"disabled": true}) },
			"rotated without grace":   func(client string) { s.Write("mcp/rotate-client/"+client, harness.Map{"grace_period": 0}) },
			"revoked with all others": func(string) { s.Write("mcp/revoke-all", nil) },
		} {
			t.Run("a token "+name, func(t *testing.T) {
				s := s.in(t)
				client := strings.ReplaceAll(name, " ", "-")
				token := s.client(client, nil)
				s.works(t, token)
				s.forget()
				end(client)
				s.refusedSoon(t, token)
				for what, ask := range s.asks(calculator, http.Header{"Authorization": {"Bearer " + token}}) {
					r := ask()
					wantRefusal(t, r, http.StatusUnauthorized)
					if t.Failed() {
						t.Fatal(what)
					}
				}
				s.untouched(t)
			})
		}
	})
}

// refusedSoon waits until a token that was accepted is not any more. A gateway
// hears of a revocation within a second; how fast, the benchmarks measure.
func (s *stage) refusedSoon(t *testing.T, token string) {
	t.Helper()
	s.Within(10*time.Second, "the token is refused", func() error {
		switch status, err := s.tryAdd(t, token); {
		case err != nil:
			return err
		case status == http.StatusUnauthorized:
			return nil
		case status == http.StatusOK:
			return errors.New("it is accepted")
		case status == http.StatusServiceUnavailable:
			return errUndecided
		default:
			t.Fatalf("answered %d", status)
			return nil
		}
	})
}

func TestExpiredTokenIsRefused(t *testing.T) {
	s := newStage(t, harness.GatewayOptions{})
	issue := map[string]func() harness.Map{
		"of a client": func() harness.Map {
			return s.Write("mcp/clients/short", harness.Map{"allowed_servers": calculator, "token_ttl": "3s"})
		},
		"of a lease": func() harness.Map {
			s.client("leased", nil)
			return s.Write("mcp/creds/leased", harness.Map{"ttl": "3s"})
		},
	}
	for name, write := range issue {
		t.Run("a token "+name, func(t *testing.T) {
			s := s.in(t)
			data := write()
			token, end := s.Token(data), when(t, data["expires_at"])
			s.acceptedUntil(t, token, end)
			s.forget()
			for range 3 {
				wantRefusal(t, s.add(token), http.StatusUnauthorized)
			}
			s.untouched(t)
			if data := s.Write("mcp/lookup", harness.Map{"token": token}); data["active"] != false {
				t.Errorf("the engine takes it for active")
			}
		})
	}
}

// lookupBound is how long a lookup may take: see docs/reliability.md.
const lookupBound = time.Second

// acceptedUntil fails the test unless the token is accepted until its end, and
// refused from then on.
func (s *stage) acceptedUntil(t *testing.T, token string, end time.Time) {
	t.Helper()
	s.works(t, token)
	s.Eventually("the token expires", func() error {
		asked := time.Now()
		status, err := s.tryAdd(t, token)
		switch answered := time.Now(); {
		case err != nil:
			return err
		case status == http.StatusOK && asked.After(end):
			t.Fatalf("accepted %s after its end", asked.Sub(end))
		case status == http.StatusUnauthorized && answered.Before(end.Add(-lookupBound)):
			// A gateway counts from when it asked, so it may be early by a lookup.
			t.Fatalf("refused %s before its end", end.Sub(answered))
		case status == http.StatusUnauthorized:
			return nil
		case status == http.StatusServiceUnavailable:
			return errUndecided
		case status != http.StatusOK:
			t.Fatalf("answered %d", status)
		}
		return errors.New("it is accepted")
	})
}
