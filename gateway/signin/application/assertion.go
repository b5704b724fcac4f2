package application

import (
	"context"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"vault-plugin-secrets-mcp/gateway/signin/keyset"
)

const (
	// maxAssertion is the length of the longest assertion.
	maxAssertion = 8 << 10

	// maxLife is how far ahead the end of an assertion may be, and skew how far clocks may
	// differ.
	maxLife = 10 * time.Minute
	skew    = 60 * time.Second
)

// compactForm is the compact serialization of a JWS (RFC 7515 §7.1).
var compactForm = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)

// assertionTypes are the typ of assertions of this use (RFC 7519 §5.1, rfc7523bis). An access
// token or an ID-JAG is not one.
var assertionTypes = []string{"", "jwt", "client-authentication+jwt"}

// subjectOf reads the application that an assertion is of, without looking whether it is
// authentic.
func subjectOf(assertion string) (string, error) {
	_, claims, err := parseAssertion(assertion)
	if err != nil {
		return "", err
	}
	if claims.Subject == "" || claims.Subject != claims.Issuer {
		return "", notAuthentic("The iss and the sub of the client_assertion are not both the client_id.")
	}
	return claims.Subject, nil
}

func parseAssertion(assertion string) (*jwt.JSONWebToken, *jwt.Claims, error) {
	claims := &jwt.Claims{}
	if len(assertion) > maxAssertion || !compactForm.MatchString(assertion) { // the library would drop white space
		return nil, nil, notAuthentic("The client_assertion is not a JWT in its compact form, or too long.")
	}
	token, err := jwt.ParseSigned(assertion, keyset.Algorithms())
	if err == nil {
		err = token.UnsafeClaimsWithoutVerification(claims)
	}
	if err != nil || len(token.Headers) != 1 {
		return nil, nil, notAuthentic("The client_assertion is not a JWT that is signed with ES256, RS256, PS256 or EdDSA.")
	}
	kind, _ := token.Headers[0].ExtraHeaders["typ"].(string)
	if !slices.Contains(assertionTypes, strings.TrimPrefix(strings.ToLower(kind), "application/")) {
		return nil, nil, notAuthentic("The typ of the client_assertion is that of another kind of token.")
	}
	return token, claims, nil
}

// checkAssertion looks whether an assertion is the application's own, for this authorization
// server, valid now, and shown for the first time (RFC 7523 §3, OpenID Connect Core §9).
func (r *Registry) checkAssertion(ctx context.Context, a *Application, assertion string) error {
	token, claims, err := parseAssertion(assertion)
	if err != nil {
		return err
	}
	if err := verify(ctx, a, token); err != nil {
		return err
	}
	now := r.now()
	switch {
	case claims.Issuer != a.ClientID || claims.Subject != a.ClientID:
		return notAuthentic("The iss and the sub of the client_assertion are not both the client_id.")
	case len(claims.Audience) != 1 || !slices.Contains(r.audiences, normalAudience(claims.Audience[0])):
		return notAuthentic("The aud of the client_assertion is not one string, the issuer or the token endpoint of this authorization server.")
	case claims.Expiry == nil:
		return notAuthentic("The client_assertion has no exp.")
	case !now.Before(claims.Expiry.Time().Add(skew)):
		return notAuthentic("The client_assertion has expired.")
	case claims.Expiry.Time().After(now.Add(maxLife + skew)):
		return notAuthentic("The exp of the client_assertion is more than 10 minutes ahead.")
	case claims.NotBefore != nil && claims.NotBefore.Time().After(now.Add(skew)):
		return notAuthentic("The client_assertion is not valid yet, by its nbf.")
	case claims.IssuedAt != nil && claims.IssuedAt.Time().After(now.Add(skew)):
		return notAuthentic("The iat of the client_assertion is in the future.")
	case claims.ID == "":
		return notAuthentic("The client_assertion has no jti, by which it counts once.")
	}
	return r.spent.spend(a.ClientID, claims.ID, now, claims.Expiry.Time().Add(skew))
}

// verify checks the signature.
func verify(ctx context.Context, a *Application, token *jwt.JSONWebToken) error {
	header := token.Headers[0]
	keys, err := a.keys.candidates(ctx, jose.SignatureAlgorithm(header.Algorithm), header.KeyID)
	if err != nil {
		return &Error{Kind: Unavailable, Message: "The application's keys cannot be used: " + wordsOf(err) + ".", Advice: "Try again in a minute.", cause: err}
	}
	for i := range keys {
		if token.Claims(keys[i].Key) == nil {
			return nil
		}
	}
	return notAuthentic("The client_assertion is not signed with a key of the application.")
}

// normalAudience is an audience as it is compared: without empty parts in its path and a slash
// at its end. Some programs make "https://host//token" of an issuer with a slash at its end.
func normalAudience(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.RawPath != "" {
		return text
	}
	parts := slices.DeleteFunc(strings.Split(u.Path, "/"), func(part string) bool { return part == "" })
	return u.Scheme + "://" + u.Host + "/" + strings.Join(parts, "/")
}
