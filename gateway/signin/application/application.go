// Package application knows the applications with which people sign in: OAuth's clients. It
// stores none of them. An application is known in one of three ways:
//
//   - the gateway's file has it (a block application);
//   - its client_id is the URL of a metadata document, which its vendor keeps, below a prefix
//     of the gateway's file (OAuth Client ID Metadata Document);
//   - it has registered itself (RFC 7591): its client_id is the sealed registration.
//
// Every answer is by the present file: a prefix, host or scheme that leaves the file takes
// its applications with it, at the next request.
package application

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"vault-plugin-secrets-mcp/gateway/signin/uri"
)

// Vouch says who guarantees an application's name and redirects.
type Vouch int

// The values of Vouch.
const (
	VouchNone     Vouch = iota // nobody: it has registered itself
	VouchDocument              // the host of its metadata document
	VouchFile                  // the gateway's file
)

// Methods by which an application authenticates at the token endpoint (RFC 7591 §2, OpenID
// Connect Core §9).
const (
	MethodNone   = "none"
	MethodBasic  = "client_secret_basic"
	MethodPost   = "client_secret_post"
	MethodSigned = "private_key_jwt"
)

// Methods are all of them, for the metadata of the authorization server (RFC 8414 §2,
// token_endpoint_auth_methods_supported).
func Methods() []string { return []string{MethodNone, MethodBasic, MethodPost, MethodSigned} }

// Application is one, as it is known now.
type Application struct {
	// ClientID is OAuth's client_id, as the application sends it.
	ClientID string
	// ID is the client_id itself, or for a dynamic registration "dynamic:" and a digest of it.
	ID string
	// Name is for people: without characters that cannot be seen or turn the text around, and
	// at most 200 characters long. If nobody vouches for it, it is only the application's own
	// claim.
	Name string
	// Host is the one of the metadata document; empty for other applications.
	Host string
	// Vouch says who guarantees the name.
	Vouch Vouch
	// Trusted: the file says that people need not be asked.
	Trusted bool
	// AuthMethod is how it authenticates at the token endpoint. One of the file with a secret
	// may use [MethodPost] where this is [MethodBasic].
	AuthMethod string

	redirects []*uri.URI
	prefixes  []uri.Prefix // of redirects; only for applications of the file
	secret    []byte       // SHA-256 of the client_secret
	keys      keySource    // for assertions
}

// AllowsRedirect reports whether the application may redirect there: only to URIs that
// are registered and allowed by the file. A loopback redirect may have any port.
func (a *Application) AllowsRedirect(text string) bool {
	u, err := uri.ParseRedirect(text)
	if err != nil {
		return false
	}
	for _, registered := range a.redirects {
		if u.Matches(registered) {
			return true
		}
	}
	for _, prefix := range a.prefixes {
		if prefix.Contains(u) {
			return true
		}
	}
	return false
}

// idOf is the application id of a dynamic registration.
func idOf(clientID string) string {
	sum := sha256.Sum256([]byte(clientID))
	return "dynamic:" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:20]))
}
