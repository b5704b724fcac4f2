package application

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// assertionType is the client_assertion_type of private_key_jwt (RFC 7523 §2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// Parameters of the form that say who asks.
const (
	paramID            = "client_id"
	paramSecret        = "client_secret"
	paramAssertion     = "client_assertion"
	paramAssertionType = "client_assertion_type"
)

// credentials are those of one request.
type credentials struct {
	clientID  string
	method    string
	secrets   []string // client_secret in the spellings that it may mean
	assertion string
	basic     bool // by the Authorization header
}

// Authenticate returns the application that sends a request to the token endpoint or the
// revocation endpoint, once it has authenticated by its own method and no other (RFC 6749
// §2.3, RFC 7523 §2.2). The form is the request's body. The error is an [*Error].
func (r *Registry) Authenticate(ctx context.Context, header http.Header, form url.Values) (*Application, error) {
	shown, err := readCredentials(header, form)
	if err != nil {
		return nil, err
	}
	a, err := r.Find(ctx, shown.clientID)
	if err != nil {
		return nil, shown.mark(err)
	}
	if !a.authenticatesBy(shown.method) {
		return nil, shown.mark(notAuthentic("The application's method to authenticate is " + a.AuthMethod + ", and the request uses " + shown.method + "."))
	}
	switch shown.method {
	case MethodBasic, MethodPost:
		if !a.hasSecret(shown.secrets) {
			return nil, shown.mark(notAuthentic("The client_secret is not the application's."))
		}
	case MethodSigned:
		if err := r.checkAssertion(ctx, a, shown.assertion); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// authenticatesBy reports whether that is the application's method. Which of the two ways a
// secret of the file comes in, the file does not say, and programs do not let one choose.
func (a *Application) authenticatesBy(method string) bool {
	return method == a.AuthMethod || a.Vouch == VouchFile && a.AuthMethod == MethodBasic && method == MethodPost
}

func (a *Application) hasSecret(shown []string) bool {
	return len(a.secret) > 0 && slices.ContainsFunc(shown, func(secret string) bool {
		return secret != "" && hmac.Equal(digest([]byte(secret)), a.secret)
	})
}

// readCredentials reads those of a request: the client_id, and at most one method.
func readCredentials(header http.Header, form url.Values) (*credentials, error) {
	for _, name := range []string{paramID, paramSecret, paramAssertion, paramAssertionType} {
		if len(form[name]) > 1 {
			return nil, malformed("The request has the parameter " + name + " more than once.")
		}
	}
	shown := &credentials{clientID: form.Get(paramID), method: MethodNone}
	methods := 0
	if values := header.Values("Authorization"); len(values) > 0 {
		id, secrets, err := readBasic(values)
		if err != nil {
			return nil, err
		}
		shown.basic = true
		if err := shown.is(id); err != nil {
			return nil, err
		}
		if secrets[0] != "" { // an empty one is none (RFC 6749 §2.3.1)
			methods++
			shown.method, shown.secrets = MethodBasic, secrets
		}
	}
	if secret := form.Get(paramSecret); secret != "" {
		methods++
		shown.method, shown.secrets = MethodPost, []string{secret}
	}
	if form.Get(paramAssertion) != "" || form.Get(paramAssertionType) != "" {
		methods++
		if err := shown.readAssertion(form); err != nil {
			return nil, err
		}
	}
	switch {
	case methods > 1:
		return nil, shown.mark(malformed("The request authenticates in more than one way."))
	case shown.clientID == "":
		return nil, shown.mark(malformed("The request does not say which application sends it: the parameter client_id is missing."))
	}
	return shown, nil
}

// is notes a client_id that must be the same wherever it stands.
func (c *credentials) is(id string) error {
	if c.clientID != "" && c.clientID != id {
		return c.mark(malformed("The request has two client_ids that differ."))
	}
	c.clientID = id
	return nil
}

// readBasic reads client_secret_basic (RFC 6749 §2.3.1). Both halves are form-encoded; not
// every program does so, so a secret may also be meant as it stands there.
func readBasic(values []string) (id string, secrets []string, err error) {
	scheme, encoded, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Basic") {
		return "", nil, &Error{Kind: NotAuthentic, Message: "The Authorization header is not one of the scheme Basic.", Basic: true}
	}
	text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	rawID, rawSecret, found := strings.Cut(string(text), ":")
	if err != nil || !found {
		return "", nil, &Error{Kind: NotAuthentic, Message: "The Authorization header is not valid: write it as Basic and, in base64, client_id:client_secret.", Basic: true}
	}
	secrets = []string{rawSecret}
	if decoded, err := url.QueryUnescape(rawSecret); err == nil && decoded != rawSecret {
		secrets = append(secrets, decoded)
	}
	if id, err = url.QueryUnescape(rawID); err != nil {
		id = rawID
	}
	return id, secrets, nil
}

func (c *credentials) readAssertion(form url.Values) error {
	if form.Get(paramAssertionType) != assertionType {
		return c.mark(malformed("The client_assertion_type is not " + assertionType + "."))
	}
	c.method, c.assertion = MethodSigned, form.Get(paramAssertion)
	id, err := subjectOf(c.assertion)
	if err != nil {
		return c.mark(err)
	}
	return c.is(id)
}

// mark notes in an error that the header was used.
func (c *credentials) mark(err error) error {
	if e, ok := err.(*Error); ok && c.basic { //nolint:errorlint // these are our own, not wrapped
		marked := *e
		marked.Basic = true
		return &marked
	}
	return err
}

func malformed(message string) error    { return &Error{Kind: Malformed, Message: message} }
func notAuthentic(message string) error { return &Error{Kind: NotAuthentic, Message: message} }
