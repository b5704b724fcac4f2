package bed

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// redirect is where the applications of the file get their answers, without a port.
const redirect = "http://127.0.0.1/callback"

// Application is a program that uses one resource: an OAuth client, as raw HTTP.
type Application struct {
	ID string
	// Secret authenticates it with HTTP's scheme Basic; "": it is a public client.
	Secret string
	// Redirect is the address on which it waits for its answer.
	Redirect string
	// Resource is the URL that its user has typed.
	Resource string
	// Source is the address that its requests come from.
	Source string
	// Server is the metadata of the authorization server that it has found.
	Server AuthorizationServer

	bed    *Bed
	t      *testing.T
	client *http.Client
}

// AuthorizationServer is a part of the document of RFC 8414.
type AuthorizationServer struct {
	Issuer                string   `json:"issuer"`
	AuthorizationEndpoint string   `json:"authorization_endpoint"`
	TokenEndpoint         string   `json:"token_endpoint"`
	RevocationEndpoint    string   `json:"revocation_endpoint"`
	RegistrationEndpoint  string   `json:"registration_endpoint"`
	Scopes                []string `json:"scopes_supported"`
	Methods               []string `json:"code_challenge_methods_supported"`
	Documents             bool     `json:"client_id_metadata_document_supported"`
}

// Application is a new one that has discovered the resource's authorization server.
func (b *Bed) Application(id, resource string) *Application {
	b.t.Helper()
	n := sources.Add(1)
	a := &Application{
		ID: id, Resource: resource, Redirect: "http://127.0.0.1:33418/callback",
		Source: fmt.Sprintf("198.51.%d.%d", 100+n/250, n%250+1),
		bed:    b, t: b.t, client: b.client(),
	}
	if err := a.discover(); err != nil {
		b.t.Fatal(err)
	}
	return a
}

// In returns the application for a subtest.
func (a *Application) In(t *testing.T) *Application {
	t.Helper()
	view := *a
	view.bed, view.t = a.bed.In(t), t
	return &view
}

// At returns the same application for another resource.
func (a *Application) At(resource string) *Application {
	view := *a
	view.Resource = resource
	return &view
}

var metadataURL = regexp.MustCompile(`resource_metadata="([^"]+)"`)

// discover goes from the resource's challenge to the endpoints.
func (a *Application) discover() error {
	challenge, err := a.send(http.MethodPost, a.Resource, nil, nil)
	if err != nil {
		return err
	}
	link := metadataURL.FindStringSubmatch(challenge.Header.Get("WWW-Authenticate"))
	if challenge.Status != http.StatusUnauthorized || link == nil {
		return fmt.Errorf("the resource answers %d %q %s", challenge.Status, challenge.Header.Get("WWW-Authenticate"), challenge.Body)
	}
	var resource struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
	}
	if err := a.document(link[1], &resource); err != nil {
		return err
	}
	if resource.Resource != a.Resource || len(resource.Servers) != 1 {
		return fmt.Errorf("%s is about %q, with %q", link[1], resource.Resource, resource.Servers)
	}
	issuer, err := url.Parse(resource.Servers[0])
	if err != nil {
		return err
	}
	issuer.Path = "/.well-known/oauth-authorization-server" + issuer.Path
	if err := a.document(issuer.String(), &a.Server); err != nil {
		return err
	}
	if a.Server.Issuer != resource.Servers[0] {
		return fmt.Errorf("the issuer %q calls itself %q", resource.Servers[0], a.Server.Issuer)
	}
	return nil
}

func (a *Application) document(at string, into any) error {
	answer, err := a.send(http.MethodGet, at, nil, nil)
	if err != nil {
		return err
	}
	if answer.Status != http.StatusOK {
		return fmt.Errorf("%s answers %d %s", at, answer.Status, answer.Body)
	}
	return decode([]byte(answer.Body), into)
}

// Answer is an answer of an OAuth endpoint.
type Answer struct {
	Status int
	Header http.Header
	Body   string

	AccessToken      string `json:"access_token"`
	RefreshToken     string `json:"refresh_token"`
	TokenType        string `json:"token_type"`
	ExpiresIn        int    `json:"expires_in"`
	Scope            string `json:"scope"`
	Error            string `json:"error"`
	ErrorDescription string `json:"error_description"`
}

// send sends one request, with a form where there is one.
func (a *Application) send(method, at string, form url.Values, header http.Header) (*Answer, error) {
	var body io.Reader = http.NoBody
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	request, err := http.NewRequestWithContext(a.t.Context(), method, at, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set(source, a.Source)
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if a.Secret != "" {
			request.SetBasicAuth(url.QueryEscape(a.ID), url.QueryEscape(a.Secret))
		}
	}
	maps.Copy(request.Header, header)
	response, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	return &Answer{Status: response.StatusCode, Header: response.Header, Body: string(content)}, nil
}

// Post sends a form to an OAuth endpoint, as the application. It may be called by many
// goroutines.
func (a *Application) Post(at string, form url.Values) (*Answer, error) {
	if form.Get("client_id") == "" && a.Secret == "" {
		form.Set("client_id", a.ID)
	}
	answer, err := a.send(http.MethodPost, at, form, nil)
	if err != nil {
		return nil, err
	}
	if err := decode([]byte(answer.Body), answer); err != nil && answer.Status < 500 {
		return nil, fmt.Errorf("%s answers %d with no JSON: %w: %s", at, answer.Status, err, answer.Body)
	}
	for _, secret := range []string{answer.AccessToken, answer.RefreshToken} {
		a.bed.Secret(secret)
	}
	return answer, nil
}

// Attempt is one authorization request of an application.
type Attempt struct {
	Application *Application
	State       string
	Verifier    string
	// Query is the request.
	Query url.Values
}

// Begin makes an authorization request. More overrides its parameters; one without values
// is left out.
func (a *Application) Begin(more url.Values) *Attempt {
	try := &Attempt{Application: a, State: rand.Text(), Verifier: rand.Text() + rand.Text()}
	sum := sha256.Sum256([]byte(try.Verifier))
	try.Query = url.Values{
		"response_type": {"code"}, "client_id": {a.ID}, "redirect_uri": {a.Redirect}, "state": {try.State},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		"resource": {a.Resource}, "scope": {"mcp offline_access"},
	}
	maps.Copy(try.Query, more)
	for name, values := range try.Query {
		if len(values) == 0 {
			delete(try.Query, name)
		}
	}
	a.bed.Secret(try.Verifier)
	return try
}

// URL is the URL that the application opens in the browser.
func (try *Attempt) URL() string {
	return try.Application.Server.AuthorizationEndpoint + "?" + try.Query.Encode()
}

// Code is the code with which the browser has come back to the application.
func (try *Attempt) Code(page *Page) (string, error) {
	if page.Status != 0 {
		return "", fmt.Errorf("the browser stays at %s: %d %s", page.URL.Path, page.Status, page.Text())
	}
	if at := page.URL.Scheme + "://" + page.URL.Host + page.URL.Path; at != try.Query.Get("redirect_uri") {
		return "", fmt.Errorf("the browser is sent to %s", at)
	}
	query := page.URL.Query()
	if query.Get("state") != try.State || query.Get("iss") != try.Application.Server.Issuer {
		return "", fmt.Errorf("the answer has the state %q and is from %q", query.Get("state"), query.Get("iss"))
	}
	if reason := query.Get("error"); reason != "" {
		return "", errors.New(reason)
	}
	try.Application.bed.Secret(query.Get("code"))
	return query.Get("code"), nil
}

// Redeem sends a code to the token endpoint. More overrides the parameters.
func (try *Attempt) Redeem(code string, more url.Values) *Answer {
	try.Application.t.Helper()
	answer, err := try.Application.Post(try.Application.Server.TokenEndpoint, try.redemption(code, more))
	if err != nil {
		try.Application.t.Fatal(err)
	}
	return answer
}

func (try *Attempt) redemption(code string, more url.Values) url.Values {
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {try.Query.Get("redirect_uri")},
		"code_verifier": {try.Verifier}, "resource": {try.Application.Resource},
	}
	maps.Copy(form, more)
	for name, values := range form {
		if len(values) == 0 {
			delete(form, name)
		}
	}
	return form
}

// Refresh sends a refresh token.
func (a *Application) Refresh(token string, more url.Values) (*Answer, error) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "resource": {a.Resource}}
	maps.Copy(form, more)
	for name, values := range form {
		if len(values) == 0 {
			delete(form, name)
		}
	}
	return a.Post(a.Server.TokenEndpoint, form)
}
