package signin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"time"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// issueCode returns an authorization code for the person's consent: a wrapping token of Vault,
// which gives the person's token once, sealed with all values that the token endpoint compares.
func (h *Handler) issueCode(ctx context.Context, t *transaction, person *vaultclient.PersonToken, identity string) (string, error) {
	wrapping, err := h.People.Wrap(ctx, person, codeLife)
	if err != nil {
		return "", err
	}
	return h.seal(purposeCode, nil, &code{
		session: session{
			Accessor: person.Accessor, Client: t.Client, Application: t.Application,
			Resource: t.Resource, Identity: identity, Login: t.Login, Entity: person.EntityID,
		},
		Wrapping: wrapping, Redirect: t.Redirect, Challenge: t.Challenge,
		Expires: h.Now().Add(codeLife).Unix(),
	})
}

// exchangeCode exchanges a code for tokens (RFC 6749, section 4.1.3). Everything is checked
// before Vault is asked for the person's token, so a thief who lacks the verifier, or is
// another application, does not use up the code.
func (h *Handler) exchangeCode(ctx context.Context, x *exchange) (any, *denial) {
	c, d := h.openCode(ctx, x)
	if d != nil {
		return nil, d
	}
	x.session(&c.session)
	if wait := h.Limits.families.full(c.Accessor, h.Now()); wait > 0 {
		return nil, tooManyTokens(wait)
	}
	secret, err := h.People.Unwrap(ctx, c.Wrapping)
	if errors.Is(err, vaultclient.ErrUsed) {
		// The sign-in that the first use began is not ended here: the gateway has no right in
		// Vault to do so without the person's token. The audit line names it.
		d := denied(codeInvalidGrant, reasonReplay, "the code was used before, or has expired")
		d.event = eventReplayed
		return nil, d
	}
	if err != nil {
		return nil, notNow(reasonUnavailable, err)
	}
	answer, d := h.beginSession(ctx, x, c, secret)
	if d != nil {
		// The code is used up, so nobody can get this token any more. If Vault cannot be told,
		// the token ends ten minutes after the login.
		_ = h.end(ctx, vaultclient.NewPersonToken(secret))
		return nil, d
	}
	return answer, nil
}

// openCode opens the code of the request, and checks all that can be checked without Vault.
func (h *Handler) openCode(ctx context.Context, x *exchange) (*code, *denial) {
	text := x.form.Get("code")
	if text == "" {
		return nil, denied(codeInvalidRequest, reasonBadRequest, "code is missing")
	}
	var c code
	if err := h.open(ctx, purposeCode, nil, text, &c); err != nil {
		return nil, denialOfSealed(err, "the code")
	}
	if d := checkApplication(x, &c.session, "the code"); d != nil {
		return nil, d
	}
	// Vault judges the same by the end of the wrapping token, and by one clock.
	if h.Now().After(time.Unix(c.Expires, 0).Add(skew)) {
		return nil, denied(codeInvalidGrant, reasonGrant, "the code has expired")
	}
	if x.form.Get("redirect_uri") != c.Redirect {
		return nil, denied(codeInvalidGrant, reasonGrant, "redirect_uri is not the one that the code was sent to")
	}
	verifier := x.form.Get("code_verifier")
	switch {
	case verifier == "":
		return nil, denied(codeInvalidRequest, reasonBadRequest, "code_verifier is missing: send the one of PKCE (RFC 7636)")
	case !verifies(verifier, c.Challenge):
		return nil, denied(codeInvalidGrant, reasonGrant, "code_verifier does not fit the code_challenge of the authorization request")
	}
	return &c, h.checkTarget(x, &c.session)
}

// verifies reports whether a verifier is well-formed and fits the challenge by the method S256
// (RFC 7636, sections 4.1 and 4.6).
func verifies(verifier, challenge string) bool {
	const least, most = 43, 128
	if len(verifier) < least || len(verifier) > most {
		return false
	}
	for i := range len(verifier) {
		c := verifier[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' && c != '~' {
			return false
		}
	}
	sum := sha256.Sum256([]byte(verifier))
	return subtle.ConstantTimeCompare([]byte(base64.RawURLEncoding.EncodeToString(sum[:])), []byte(challenge)) == 1
}

// beginSession gives the first tokens of a sign-in. The person's token has lived for minutes
// up to now; it is renewed to the end of the sign-in.
func (h *Handler) beginSession(ctx context.Context, x *exchange, c *code, secret string) (any, *denial) {
	t, d := h.lookUp(ctx, x, secret)
	if d != nil {
		return nil, d
	}
	// Somebody may have ended the sign-in, or have changed the person's rights, between the
	// consent and this.
	until := h.ends(t)
	if d := h.checkSession(t, until); d != nil {
		return nil, d
	}
	creds, d := h.lease(ctx, x, t, &c.session, until)
	if d != nil {
		return nil, d
	}
	life, d := h.renew(ctx, t, until)
	if d != nil {
		return nil, d
	}
	const first = 1
	if err := h.People.SetGeneration(ctx, t, first, h.vaultNow(t)); err != nil {
		return nil, h.denialOfVault(err)
	}
	c.Person, c.Entity = creds.Person, creds.EntityID
	token, err := h.sealRefresh(&refresh{session: c.session, Token: secret, Generation: first, Ends: until.Unix()})
	if err != nil {
		return nil, notNow(reasonUnavailable, err)
	}
	x.event.Generation = first
	if d := h.recordExchange(x, eventToken); d != nil {
		return nil, d
	}
	return answerOf(creds, life, token), nil
}
