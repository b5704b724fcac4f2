package application

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/seal"
	"vault-plugin-secrets-mcp/gateway/signin/uri"
)

// dynamicPrefix begins the client_id of every dynamic registration. The rest is the sealed
// registration.
const dynamicPrefix = config.DynamicPrefix

// maxRegistration is the size of the largest request to register, in bytes.
const maxRegistration = 32 << 10

// registration is the content of a client_id.
type registration struct {
	Name      string   `json:"n,omitempty"`
	Redirects []string `json:"r"`
	Method    string   `json:"m"`
	// Unique makes registrations with a secret differ. Otherwise an application that
	// registers the same metadata would get the same secret, and could authenticate as the
	// first one.
	Unique string `json:"u,omitempty"`
}

// registered is the answer to a registration (RFC 7591 §3.2.1). It has the registered
// metadata, and no member that is empty or null, which some applications do not accept.
type registered struct {
	ClientID   string   `json:"client_id"`
	Secret     string   `json:"client_secret,omitempty"`
	SecretEnds *int     `json:"client_secret_expires_at,omitempty"` // 0: never
	Name       string   `json:"client_name,omitempty"`
	Redirects  []string `json:"redirect_uris"`
	Grants     []string `json:"grant_types"`
	Responses  []string `json:"response_types"`
	Method     string   `json:"token_endpoint_auth_method"`
}

// Register registers an application (RFC 7591 §3.1) and returns the body of the answer, whose
// status is 201. Nothing is stored: the client_id in the answer is the registration, the same
// for the same metadata unless the application has a secret. Redirect URIs that the file does
// not allow now are left out of the answer; they count again when the file allows them. The
// error is a [*RegistrationError].
func (r *Registry) Register(body []byte) (response []byte, err error) {
	rules := r.rules.Load()
	if !rules.dynamic {
		return nil, &RegistrationError{http.StatusForbidden, "access_denied", "applications cannot register themselves at this gateway: " +
			"an administrator can allow it (dynamic_registration in the block sign_in), or register the application in the gateway's file"}
	}
	if len(body) > maxRegistration {
		return nil, badMetadata("the metadata are larger than 32 KB")
	}
	m, err := parseMetadata(body, false)
	if err == nil {
		err = m.checkFlow()
	}
	if err != nil {
		return nil, badMember(err)
	}
	if m.AuthMethod == "" {
		m.AuthMethod = MethodBasic // RFC 7591 §2
	}
	if !slices.Contains([]string{MethodNone, MethodBasic, MethodPost}, m.AuthMethod) {
		return nil, badMetadata("token_endpoint_auth_method is not one of none, client_secret_basic and client_secret_post: " +
			"private_key_jwt needs a metadata document, or a block application in the gateway's file")
	}
	allowed := filter(m.Redirects, rules.allowsStranger)
	if len(allowed) == 0 {
		return nil, &RegistrationError{http.StatusBadRequest, "invalid_redirect_uri", "none of the redirect_uris is allowed here: " + remedyFor(m.Redirects[0])}
	}
	return r.answer(m, allowed)
}

// remedyFor names the setting of the gateway's file that would allow a redirect URI.
func remedyFor(u *uri.URI) string {
	if u.Kind == uri.Private {
		return "the scheme " + u.Scheme + " is not in redirect_schemes of the block sign_in in the gateway's file"
	}
	return "the host " + u.Host + " is not in redirect_hosts of the block sign_in in the gateway's file, and the URI not below one of redirect_prefixes"
}

// answer seals the registration and writes the answer.
func (r *Registry) answer(m *metadata, allowed []*uri.URI) ([]byte, error) {
	one, err := registrationOf(m)
	if err != nil {
		return nil, errCannotRegister
	}
	text, err := json.Marshal(one)
	if err != nil {
		return nil, errCannotRegister
	}
	sealed, err := r.sealer.SealLasting(seal.Registration, text)
	if err != nil {
		return nil, errCannotRegister
	}
	a := &registered{
		ClientID: dynamicPrefix + sealed, Name: m.Name, Method: m.AuthMethod,
		// These are the abilities of the token endpoint, whatever was asked for.
		Grants: []string{"authorization_code", "refresh_token"}, Responses: []string{"code"},
	}
	if len(a.ClientID) > maxClientID {
		return nil, badMetadata("the metadata do not fit into a client_id: register fewer or shorter redirect_uris")
	}
	for _, u := range allowed {
		a.Redirects = append(a.Redirects, u.Text)
	}
	if m.AuthMethod != MethodNone {
		secret, err := r.secretOf(a.ClientID)
		if err != nil {
			return nil, errCannotRegister
		}
		a.Secret, a.SecretEnds = string(secret), new(int)
	}
	return json.Marshal(a) //nolint:gosec // the answer gives the application its secret
}

// registrationOf is the registration as it is sealed. Without a secret it is equal for all
// metadata that mean the same: applications that listen on any free port register with
// another one each time.
func registrationOf(m *metadata) (*registration, error) {
	one := &registration{Name: m.Name, Method: m.AuthMethod}
	if m.AuthMethod != MethodNone {
		unique := make([]byte, 16)
		if _, err := rand.Read(unique); err != nil {
			return nil, err
		}
		one.Unique = base64.RawURLEncoding.EncodeToString(unique)
	}
	for _, u := range m.Redirects {
		one.Redirects = append(one.Redirects, u.WithoutPort())
	}
	slices.Sort(one.Redirects)
	one.Redirects = slices.Compact(one.Redirects)
	return one, nil
}

// secretOf is the client_secret of a dynamic registration, which nothing stores either.
func (r *Registry) secretOf(clientID string) ([]byte, error) {
	key, err := r.sealer.DeriveLasting(seal.Secret, []byte(clientID))
	if err != nil {
		return nil, err
	}
	return []byte(base64.RawURLEncoding.EncodeToString(key)), nil
}

// findDynamic opens a client_id.
func (r *Registry) findDynamic(ctx context.Context, rules *rules, clientID string) (*Application, error) {
	one, err := r.openRegistration(ctx, clientID)
	switch {
	case errors.Is(err, seal.ErrNotValid):
		return nil, unknown()
	case err != nil:
		return nil, &Error{
			Kind: Unavailable, Message: "The gateway cannot look up applications now.", Advice: "Try again in a minute.", cause: err,
		}
	case !rules.dynamic:
		return nil, &Error{
			Kind:    Refused,
			Message: "This gateway does not accept applications that have registered themselves.",
			Advice:  "An administrator can allow them: dynamic_registration in the block sign_in of the gateway's file.",
		}
	}
	a := &Application{ClientID: clientID, ID: idOf(clientID), Name: cleanName(one.Name), Vouch: VouchNone, AuthMethod: one.Method}
	for _, text := range one.Redirects {
		if u, err := uri.ParseRedirect(text); err == nil { // the rules may have become stricter
			a.redirects = append(a.redirects, u)
		}
	}
	if a.redirects = filter(a.redirects, rules.allowsStranger); len(a.redirects) == 0 {
		return nil, &Error{
			Kind:    Refused,
			Message: "This gateway does not allow any of the redirect URIs of the application any more.",
			Advice:  "An administrator can allow them: redirect_hosts, redirect_schemes and redirect_prefixes in the block sign_in of the gateway's file.",
		}
	}
	if a.Name == "" {
		a.Name = "An application without a name"
	}
	if a.AuthMethod != MethodNone {
		secret, err := r.secretOf(clientID)
		if err != nil {
			return nil, &Error{Kind: Unavailable, Message: "The gateway cannot look up applications now.", Advice: "Try again in a minute.", cause: err}
		}
		a.secret = digest(secret)
	}
	return a, nil
}

// openRegistration opens a client_id.
func (r *Registry) openRegistration(ctx context.Context, clientID string) (*registration, error) {
	sealed := strings.TrimPrefix(clientID, dynamicPrefix)
	text, err := seal.WithNewerKey(ctx, r.refreshKeys, func() ([]byte, error) { return r.sealer.OpenLasting(seal.Registration, sealed) })
	if err != nil {
		return nil, err
	}
	one := &registration{}
	return one, json.Unmarshal(text, one)
}

func badMetadata(text string) error {
	return &RegistrationError{http.StatusBadRequest, "invalid_client_metadata", text}
}

// badMember is the refusal for a mistake in a member. Redirect URIs have a code of their own.
func badMember(err error) error {
	var member *metadataError
	if errors.As(err, &member) && member.member == "redirect_uris" {
		return &RegistrationError{http.StatusBadRequest, "invalid_redirect_uri", err.Error()}
	}
	return badMetadata(err.Error())
}

// errCannotRegister: the keys that seal registrations are not there yet.
var errCannotRegister = &RegistrationError{http.StatusServiceUnavailable, "temporarily_unavailable", "the gateway cannot register applications now: try again in a minute"}
