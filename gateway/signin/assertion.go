package signin

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"vault-plugin-secrets-mcp/gateway/config"
)

// assertion is a JWT with which a machine asks for an access token (RFC 7523, section 2.1), as
// it is written, before any verification. The gateway reads it to choose the login, and to
// refuse early; Vault verifies the very same text.
type assertion struct {
	Issuer   string           `json:"iss"`
	Subject  string           `json:"sub"`
	Audience jwt.Audience     `json:"aud"`
	Expires  *jwt.NumericDate `json:"exp"`
	ID       string           `json:"jti"`
	Actor    *actor           `json:"act"` // RFC 8693, section 4.1

	// Of an identity assertion authorization grant.
	ClientID  string       `json:"client_id"`
	Resources jwt.Audience `json:"resource"` // one, or a list
	Scope     string       `json:"scope"`

	profile string // one of config's
}

// actor is who acts for the subject.
type actor struct {
	Subject string `json:"sub"`
	Issuer  string `json:"iss"`
}

const (
	// maxAssertion bounds an assertion. Those of Kubernetes have about 1 KB.
	maxAssertion = 16 << 10

	// typeIDJAG is the typ of an identity assertion authorization grant.
	//
	// https://datatracker.ietf.org/doc/draft-ietf-oauth-identity-assertion-authz-grant/
	typeIDJAG = "oauth-id-jag+jwt"

	// maxSpent bounds the life of an assertion that counts once, since the engine remembers
	// it for as long, and for an hour more, in which an auth method may still take it. The
	// engine takes a day; two clocks differ.
	maxSpent = 24*time.Hour - skew
)

// assertionAlgorithms are those of public keys. Vault's role may take fewer.
var assertionAlgorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512, jose.EdDSA,
}

// readAssertion reads an assertion. The reader of the JOSE library refuses a member that
// stands twice, and compares names letter by letter, so that other programs read it in the
// same way.
func readAssertion(text string) (*assertion, error) {
	if len(text) > maxAssertion {
		return nil, errors.New("the assertion is too long")
	}
	parsed, err := jwt.ParseSigned(text, assertionAlgorithms)
	if err != nil || len(parsed.Headers) != 1 {
		return nil, errors.New("the assertion is not a JWT that is signed with a public key")
	}
	a := new(assertion)
	if err := parsed.UnsafeClaimsWithoutVerification(a); err != nil {
		return nil, errors.New("the assertion's claims cannot be read")
	}
	kind, _ := parsed.Headers[0].ExtraHeaders[jose.HeaderType].(string)
	if kind = strings.ToLower(kind); strings.TrimPrefix(kind, "application/") == typeIDJAG {
		a.profile = config.ProfileIDJAG
	}
	return a, nil
}

// check makes sure that an assertion is meant for this gateway and has all the claims that
// are required (RFC 7523, section 3).
func (a *assertion) check(issuer string, now time.Time) error {
	switch {
	case a.Issuer == "" || a.Subject == "":
		return errors.New("the assertion has no iss, or no sub")
	case !a.Audience.Contains(issuer):
		return fmt.Errorf("the assertion's aud is not %s", issuer)
	case a.Expires == nil:
		return errors.New("the assertion has no exp")
	case now.After(a.Expires.Time().Add(skew)):
		return errors.New("the assertion has expired")
	}
	return nil
}

// checkIDJAG makes sure that an identity assertion authorization grant was given to this
// client, for this gateway alone.
func (a *assertion) checkIDJAG(clientID string) error {
	switch {
	case len(a.Audience) != 1:
		return errors.New("the assertion has more than one aud")
	case a.ID == "":
		return errors.New("the assertion has no jti")
	case a.ClientID != clientID:
		return errors.New("the assertion's client_id is not the client that has authenticated")
	case len(a.Resources) == 0:
		return errors.New("the assertion has no resource")
	}
	return nil
}

// spent returns the id by which the engine remembers an assertion that counts once, and until
// when it must.
func (a *assertion) spent(now time.Time) (id string, until time.Time, err error) {
	const most = 256
	switch {
	case a.ID == "":
		return "", time.Time{}, errors.New("the assertion has no jti, and this login takes each once")
	case len(a.ID) > most:
		return "", time.Time{}, fmt.Errorf("the assertion's jti is longer than %d characters", most)
	case a.Expires.Time().After(now.Add(maxSpent)):
		return "", time.Time{}, fmt.Errorf("the assertion lives longer than %s, and this login takes each once", maxSpent)
	}
	return a.ID, a.Expires.Time(), nil
}

// clientScope begins a scope that names an identity.
const clientScope = "client:"

// identitiesIn returns the identities that a list of scopes names. Other scopes are ignored.
func identitiesIn(scopes string) []string {
	var names []string
	for _, one := range strings.Fields(scopes) {
		if name, ok := strings.CutPrefix(one, clientScope); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// compact is who acts, for the audit log.
func (a *actor) compact() string {
	if a == nil {
		return ""
	}
	text, err := json.Marshal(a)
	if err != nil {
		return ""
	}
	return string(text)
}
