package bed

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Session is a person who has signed in with an application.
type Session struct {
	Application *Application
	// Access and Refresh are the newest tokens.
	AccessToken, RefreshToken string
	// Answers are all answers of the token endpoint.
	Answers []*Answer
	// Browser is the person's.
	Browser *Browser
}

// SignIn has a person sign in with an application, and approve it as an identity.
func (b *Bed) SignIn(t *testing.T, person string, a *Application, identity string) *Session {
	t.Helper()
	b = b.In(t)
	a = a.In(t)
	browser := b.Browser(person)
	try := a.Begin(nil)
	code, err := try.Code(Approve(browser.Open(try.URL()), identity))
	if err != nil {
		t.Fatal(err)
	}
	s := &Session{Application: a, Browser: browser}
	s.take(t, try.Redeem(code, nil))
	return s
}

// Approve approves the application on the consent page.
func Approve(page *Page, identity string) *Page {
	page.browser.t.Helper()
	return page.Send(url.Values{"identity": {identity}, "decision": {"allow"}})
}

// take keeps the tokens of an answer, which must have them.
func (s *Session) take(t *testing.T, answer *Answer) {
	t.Helper()
	if err := answer.Tokens(); err != nil {
		t.Fatal(err)
	}
	s.AccessToken, s.RefreshToken = answer.AccessToken, answer.RefreshToken
	s.Answers = append(s.Answers, answer)
}

// Tokens is nil for an answer that is as every answer with tokens must be.
func (a *Answer) Tokens() error {
	switch {
	case a.Status != http.StatusOK:
		return fmt.Errorf("the answer is %d %s", a.Status, a.Body)
	case a.Header.Get("Cache-Control") != "no-store":
		return fmt.Errorf("the answer may be kept: %q", a.Header.Get("Cache-Control"))
	case !strings.HasPrefix(a.Header.Get("Content-Type"), "application/json"):
		return fmt.Errorf("the answer is %q", a.Header.Get("Content-Type"))
	case a.TokenType != "Bearer" || a.AccessToken == "" || a.RefreshToken == "":
		return fmt.Errorf("the answer has the type %q, and tokens of %d and %d bytes", a.TokenType, len(a.AccessToken), len(a.RefreshToken))
	case a.ExpiresIn <= 0 || a.ExpiresIn > 900:
		return fmt.Errorf("the token lives for %d seconds", a.ExpiresIn)
	case a.Scope != "mcp":
		return fmt.Errorf("the scope is %q", a.Scope)
	}
	return nil
}

// Refresh gets newer tokens.
func (s *Session) Refresh(t *testing.T) {
	t.Helper()
	answer, err := s.Application.Refresh(s.RefreshToken, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.take(t, answer)
}
