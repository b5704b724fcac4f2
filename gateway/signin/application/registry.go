package application

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/url"
	"time"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/dial"
	"vault-plugin-secrets-mcp/gateway/seal"
)

// Options are what a Registry needs.
type Options struct {
	// Settings is the block of the gateway's file. [Registry.Configure] changes it.
	Settings *config.SignIn
	// Issuer is the authorization server's, and TokenEndpoint the URL of its token endpoint:
	// the audiences that assertions may have.
	Issuer        string
	TokenEndpoint string
	// Sealer seals registrations.
	Sealer *seal.Sealer
	// RefreshKeys has the sealer's source return what Vault has now.
	RefreshKeys func(context.Context) error
	// Dial connects to the host of a document. Nil: dial.To, with its usual bounds.
	Dial func(host string) dial.Func
	// Roots are the authorities for the certificates of these hosts. Nil: the system's.
	Roots *x509.CertPool
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Registry finds applications. Any goroutine may use it.
type Registry struct{}

// New returns a registry. The error is about a file that the settings name.
func New(options Options) (*Registry, error) { return nil, errNotBuilt }

// Configure puts other settings in the place of the present ones, when the gateway's file is
// read again. An error leaves the present ones.
func (r *Registry) Configure(settings *config.SignIn) error { return errNotBuilt }

// Find returns the application with a client_id. The error is an [*Error].
func (r *Registry) Find(ctx context.Context, clientID string) (*Application, error) {
	return nil, &Error{Kind: Unavailable, Message: errNotBuilt.Error()}
}

// Authenticate returns the application that sends a request to the token endpoint or the
// revocation endpoint, once it has authenticated by its method (RFC 6749 §2.3, RFC 7523 §2.2).
// The form is the request's body. The error is an [*Error].
func (r *Registry) Authenticate(ctx context.Context, header http.Header, form url.Values) (*Application, error) {
	return nil, &Error{Kind: Unavailable, Message: errNotBuilt.Error()}
}

// Register registers an application (RFC 7591 §3.1) and returns the body of the answer, whose
// status is 201. Nothing is stored: the client_id in the answer is the registration. The
// error is a [*RegistrationError].
func (r *Registry) Register(ctx context.Context, body []byte) (response []byte, err error) {
	return nil, &RegistrationError{Status: http.StatusServiceUnavailable, Code: "temporarily_unavailable", Description: errNotBuilt.Error()}
}
