package doctor

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/gateway/config"
)

// From outside, sign-in is looked at as applications see it: what names the documents, what is
// in them, and the cookie of a sign-in that begins.

const (
	signInPath     = "/sign-in/mcp"
	resourcePath   = "/.well-known/oauth-protected-resource/sign-in/mcp"
	headerResource = "/.well-known/oauth-protected-resource/mcp"
	serverPath     = "/.well-known/oauth-authorization-server/sign-in"
	issuerPath     = "/sign-in"
	cookieName     = "mcp-sign-in-"
	// certificateSoon is how soon a certificate must end to be worth telling.
	certificateSoon = 14 * 24 * time.Hour
)

const proxyHint = "look at the proxy before the gateway: it must pass the path, the headers and the body on as they are"

// outside is the answer to a request from outside.
type outside struct {
	code   int
	header http.Header
	body   string
	tls    *tls.ConnectionState
}

// fetch gets a URL as an application does, without following redirects.
func (e *examination) fetch(ctx context.Context, address string) (outside, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return outside{}, err
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return outside{}, causeOf(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	return outside{code: response.StatusCode, header: response.Header, body: string(body), tls: response.TLS}, err
}

// checkSignInOutside looks at sign-in under the public URL: that of the gateway's file, or else
// the one where clients connect.
func (e *examination) checkSignInOutside(ctx context.Context) {
	base, block := strings.TrimSuffix(e.GatewayURL, "/"), e.signInBlock()
	if block != nil {
		base = block.Origin
	}
	if base == "" || block == nil && !e.offersSignIn(ctx, base) {
		return
	}
	before := e.findings
	if !e.checkChallenge(ctx, base) {
		return
	}
	e.checkResource(ctx, base)
	e.checkServerDocument(ctx, base)
	if got, err := e.fetch(ctx, base+headerResource); err == nil && got.code == http.StatusOK {
		e.wrong(proxyHint, "%s answers 200: applications that have a token in a header drop it there and try to sign in", base+headerResource)
	}
	if block != nil {
		e.checkCookie(ctx, block)
	}
	if before == e.findings {
		e.ok("applications find sign-in at %s: the challenge, the resource's document and that of the authorization server agree", base+signInPath)
	}
}

// offersSignIn reports whether a gateway has sign-in, where its file is not here to say so.
func (e *examination) offersSignIn(ctx context.Context, base string) bool {
	got, err := e.fetch(ctx, base+resourcePath)
	return err == nil && got.code == http.StatusOK
}

// checkChallenge asks without a token, which is how every application begins.
func (e *examination) checkChallenge(ctx context.Context, base string) bool {
	got, err := e.fetch(ctx, base+signInPath)
	if err != nil {
		return e.wrong("start the gateway, or correct public_url in its block listener, DNS, or the certificate", "nobody can sign in: %s does not answer: %v", base+signInPath, err)
	}
	e.checkCertificate(base, got.tls)
	if at, err := http.ParseTime(got.header.Get("Date")); err == nil {
		e.checkClock("the gateway", at)
	}
	challenges := got.header.Values("WWW-Authenticate")
	want := fmt.Sprintf("resource_metadata=%q", base+resourcePath)
	switch {
	case got.code != http.StatusUnauthorized:
		return e.wrong(proxyHint+"; the gateway's file needs a block sign_in", "%s answers %d to a request without a token, and not 401: no application begins to sign in", base+signInPath, got.code)
	case len(challenges) != 1:
		e.wrong(proxyHint, "%s answers with %d headers WWW-Authenticate, and not one: applications do not find the sign-in", base+signInPath, len(challenges))
	case !strings.Contains(challenges[0], want):
		e.wrong("correct public_url in the gateway's block listener; "+proxyHint, "the challenge of %s does not have %s, which applications follow", base+signInPath, want)
	}
	return true
}

// checkCertificate looks at the end of the certificate. That it is trusted is known then.
func (e *examination) checkCertificate(base string, state *tls.ConnectionState) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return
	}
	end := state.PeerCertificates[0].NotAfter
	if left := time.Until(end); left < certificateSoon {
		e.wrong("renew it", "the certificate of %s ends in %s, at %s", base, left.Round(time.Hour), end.UTC().Format(time.RFC3339))
	}
}

// checkResource reads the document of the resource (RFC 9728).
func (e *examination) checkResource(ctx context.Context, base string) {
	var document struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
	}
	if !e.readDocument(ctx, base+resourcePath, &document) {
		return
	}
	if document.Resource != base+signInPath {
		e.wrong("correct public_url in the gateway's block listener", "%s names the resource %q, and not %s: applications refuse it", base+resourcePath, document.Resource, base+signInPath)
	}
	if len(document.Servers) == 0 || document.Servers[0] != base+issuerPath {
		e.wrong("correct public_url in the gateway's block listener", "%s names the authorization servers %q, and not %s", base+resourcePath, document.Servers, base+issuerPath)
	}
}

// checkServerDocument reads the document of the authorization server (RFC 8414).
func (e *examination) checkServerDocument(ctx context.Context, base string) {
	var document map[string]any
	if !e.readDocument(ctx, base+serverPath, &document) {
		return
	}
	if document["issuer"] != base+issuerPath {
		e.wrong("correct public_url in the gateway's block listener", "%s names the issuer %q, and not %s: applications refuse it", base+serverPath, document["issuer"], base+issuerPath)
	}
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "revocation_endpoint", "registration_endpoint"} {
		endpoint, given := document[name].(string)
		if given && !strings.HasPrefix(endpoint, base+issuerPath+"/") {
			e.wrong("correct public_url in the gateway's block listener; "+proxyHint, "%s names %q as %s, which is not under %s", base+serverPath, endpoint, name, base+issuerPath)
		}
	}
	if !slices.Contains(texts(document["code_challenge_methods_supported"]), "S256") {
		e.wrong(proxyHint, "%s does not name S256 among the code_challenge_methods_supported: applications show no login page", base+serverPath)
	}
}

// readDocument reads a document of JSON.
func (e *examination) readDocument(ctx context.Context, address string, into any) bool {
	got, err := e.fetch(ctx, address)
	switch {
	case err != nil:
		return e.wrong(proxyHint, "%s does not answer: %v", address, err)
	case got.code != http.StatusOK:
		return e.wrong(proxyHint, "%s answers %d, and not 200: applications do not find the sign-in", address, got.code)
	}
	if err := json.Unmarshal([]byte(got.body), into); err != nil {
		return e.wrong(proxyHint, "%s does not answer in JSON: applications do not find the sign-in", address)
	}
	return true
}

// checkCookie begins a sign-in as an application would, and looks at the cookie with which the
// browser would come back. Nobody finishes it.
func (e *examination) checkCookie(ctx context.Context, block *config.SignIn) {
	id, redirect, who := e.anApplication(ctx, block)
	if id == "" || len(block.Logins) != 1 {
		e.ok("the cookie of a sign-in was not looked at: that needs one login, and an application in the gateway's file or dynamic_registration")
		return
	}
	sum := sha256.Sum256([]byte(rand.Text()))
	got, err := e.fetch(ctx, block.Origin+"/sign-in/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {id}, "redirect_uri": {redirect},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
		"resource": {block.Origin + signInPath}, "state": {"doctor"},
	}.Encode())
	if err != nil {
		e.wrong(proxyHint, "no sign-in begins as %s: %s does not answer: %v", who, block.Origin+"/sign-in/authorize", err)
		return
	}
	if got.code != http.StatusFound && got.code != http.StatusSeeOther {
		e.wrong("the gateway's audit log has the reason, in a line with this status; a person who connects an application sees the same page", "no sign-in begins as %s: the gateway answers %d%s", who, got.code, headingOf(got.body))
		return
	}
	if to, err := url.Parse(got.header.Get("Location")); err == nil && to.Query().Has("error") {
		e.wrong("the gateway's audit log has the reason", "no sign-in begins as %s: the gateway answers the error %s", who, to.Query().Get("error"))
		return
	}
	cookies := (&http.Response{Header: got.header}).Cookies()
	i := slices.IndexFunc(cookies, func(c *http.Cookie) bool { return strings.Contains(c.Name, cookieName) })
	if i < 0 {
		e.wrong(proxyHint, "a sign-in begins without its cookie: nobody comes back from the login page")
		return
	}
	if why := cookieFault(cookies[i], strings.HasPrefix(block.Origin, "https:")); why != "" {
		e.wrong(proxyHint, "the cookie of a sign-in %s: browsers drop it, or send it where it does not belong", why)
	}
}

// anApplication is one as which a sign-in can begin: of the file, or one that registers itself,
// of which the gateway stores nothing. Who names it in a finding.
func (e *examination) anApplication(ctx context.Context, block *config.SignIn) (id, redirect, who string) {
	for _, application := range block.Applications {
		if len(application.RedirectURIs) > 0 {
			return application.ID, application.RedirectURIs[0], "the application " + application.ID
		}
	}
	if !block.DynamicRegistration {
		return "", "", ""
	}
	const own = "http://127.0.0.1/callback"
	got, err := send(ctx, http.MethodPost, block.Origin+"/sign-in/register", http.Header{"Content-Type": {"application/json"}},
		`{"client_name": "mcp-bootstrap doctor", "redirect_uris": ["`+own+`"], "token_endpoint_auth_method": "none"}`)
	var registered struct {
		ID string `json:"client_id"`
	}
	if err != nil || got.code != http.StatusCreated || json.Unmarshal([]byte(got.body), &registered) != nil || registered.ID == "" {
		e.wrong(proxyHint, "no application can register itself: %s answers %d", block.Origin+"/sign-in/register", got.code)
		return "", "", ""
	}
	return registered.ID, own, "an application that registers itself"
}

var heading = regexp.MustCompile(`<h1>([^<]*)</h1>`)

// headingOf is the heading of a page of the gateway's, to follow its status; "" if it has none.
func headingOf(page string) string {
	found := heading.FindStringSubmatch(page)
	if found == nil {
		return ""
	}
	return fmt.Sprintf(", %q", html.UnescapeString(found[1]))
}

// cookieFault names the mistake in the cookie of a sign-in; "" if there is none.
func cookieFault(c *http.Cookie, secure bool) string {
	switch {
	case secure && (!strings.HasPrefix(c.Name, "__Host-") || !c.Secure):
		return "is not Secure, with a name that begins with __Host-"
	case c.Domain != "":
		return "has a Domain"
	case c.Path != "/":
		return "has another Path than /"
	case !c.HttpOnly:
		return "is not HttpOnly"
	case c.SameSite != http.SameSiteLaxMode:
		return "is not SameSite=Lax"
	}
	return ""
}
