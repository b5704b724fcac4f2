package application

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/dial"
	"vault-plugin-secrets-mcp/gateway/seal"
	"vault-plugin-secrets-mcp/gateway/signin/keyset"
	"vault-plugin-secrets-mcp/gateway/signin/uri"
)

// Options are the dependencies of a Registry.
type Options struct {
	// Settings is the block of the gateway's file. [Registry.Configure] changes it.
	Settings *config.SignIn
	// Issuer is the authorization server's, and TokenEndpoint the URL of its token endpoint:
	// the audiences that assertions may have (RFC 7523 §3, number 3).
	Issuer        string
	TokenEndpoint string
	// Sealer seals registrations.
	Sealer *seal.Sealer
	// RefreshKeys makes the sealer's source fetch the present keys from Vault. Nil: it
	// cannot.
	RefreshKeys func(context.Context) error
	// Dial connects to the host of a document. Nil: as for upstreams, see package dial.
	Dial func(host string) dial.Func
	// Roots are the authorities for the certificates of these hosts. Nil: the system's.
	Roots *x509.CertPool
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Registry finds applications. Any goroutine may use it.
type Registry struct {
	audiences   []string
	sealer      *seal.Sealer
	refreshKeys func(context.Context) error
	now         func() time.Time

	rules     atomic.Pointer[rules]
	documents *cache[*metadata]
	keySets   *cache[*keyset.Set]
	spent     *spentIDs
}

// New returns a registry. The error is about a file that the settings name.
func New(options Options) (*Registry, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.Dial == nil {
		options.Dial = func(host string) dial.Func { return dial.To(&config.UpstreamAllow{}, host, fetchTimeout) }
	}
	f := &fetcher{dial: options.Dial, roots: options.Roots, timeout: fetchTimeout, slots: make(chan struct{}, maxFetches)}
	r := &Registry{
		sealer:      options.Sealer,
		refreshKeys: options.RefreshKeys,
		now:         options.Now,
		documents:   newCache(f, options.Now, parseDocument),
		keySets:     newCache(f, options.Now, func(_ string, body []byte) (*keyset.Set, error) { return keyset.Parse(body) }),
		spent:       newSpentIDs(),
	}
	for _, audience := range []string{options.Issuer, options.TokenEndpoint} {
		r.audiences = append(r.audiences, normalAudience(audience))
	}
	return r, r.Configure(options.Settings)
}

// Configure puts other settings in the place of the present ones, when the gateway's file is
// read again. It reads the files that the settings name. An error leaves the present ones.
func (r *Registry) Configure(settings *config.SignIn) error {
	rules, err := rulesOf(settings, func(u *uri.URI) keySource { return remoteKeys{r.keySets, u} })
	if err != nil {
		return err
	}
	r.rules.Store(rules)
	return nil
}

// maxClientID is the length of the longest client_id: it must fit into the URL of a request
// with everything else that stands there.
const maxClientID = 3 << 10

// maxDocumentURL is the length of the longest URL of a metadata document: the engine keeps it
// with each sign-in.
const maxDocumentURL = 512

// Find returns the application with a client_id. The error is an [*Error].
func (r *Registry) Find(ctx context.Context, clientID string) (*Application, error) {
	rules := r.rules.Load()
	if a, ok := rules.files[clientID]; ok {
		return a, nil
	}
	switch {
	case len(clientID) > maxClientID:
	case strings.HasPrefix(clientID, dynamicPrefix):
		return r.findDynamic(ctx, rules, clientID)
	case strings.HasPrefix(clientID, "https://") && len(clientID) <= maxDocumentURL:
		return r.findDocument(ctx, rules, clientID)
	}
	return nil, unknown()
}

func unknown() *Error {
	return &Error{
		Kind:    Unknown,
		Message: "This gateway does not know the application.",
		Advice:  "Remove the connection in the application and add it again, so that it registers again.",
	}
}

// findDocument returns the application whose metadata document is at that URL.
func (r *Registry) findDocument(ctx context.Context, rules *rules, clientID string) (*Application, error) {
	u, err := uri.ParseURL(clientID)
	if err != nil {
		return nil, &Error{Kind: Unknown, Message: "The application names a metadata document by a URL that is not valid: " + err.Error() + "."}
	}
	if !rules.allowsDocument(u) {
		return nil, &Error{
			Kind:    Refused,
			Message: "This gateway does not accept applications whose metadata document is at " + u.Host + ", or not under that path.",
			Advice:  "An administrator can allow it: metadata_documents in the block sign_in of the gateway's file.",
		}
	}
	m, err := r.documents.get(ctx, u)
	if err != nil {
		return nil, &Error{
			Kind:    Unavailable,
			Message: "The application's metadata document at " + u.Host + " cannot be used: " + wordsOf(err) + ".",
			Advice:  "Try again in a minute. If it stays so, tell the vendor of the application.",
			cause:   err,
		}
	}
	redirects := rules.forDocuments(m.Redirects)
	a := &Application{
		ClientID: clientID, ID: clientID, Name: m.Name, Host: u.Host, Vouch: VouchDocument, AuthMethod: m.AuthMethod, redirects: redirects,
	}
	if a.Name == "" {
		a.Name = u.Host
	}
	if len(redirects) == 0 {
		return nil, &Error{
			Kind:    Refused,
			Message: "This gateway does not allow any of the redirect URIs in the application's metadata document.",
			Advice:  "An administrator can allow private schemes: redirect_schemes in the block sign_in of the gateway's file.",
		}
	}
	if err := r.documentKeys(rules, u, m, a); err != nil {
		return nil, err
	}
	return a, nil
}

// documentKeys gives the application the keys that its document names. A key set elsewhere
// would let the document's author send the gateway to any host.
func (r *Registry) documentKeys(rules *rules, document *uri.URI, m *metadata, a *Application) error {
	if m.AuthMethod != MethodSigned {
		return nil
	}
	if m.JWKSURI == "" {
		a.keys = fixedKeys{m.keys}
		return nil
	}
	u, err := uri.ParseURL(m.JWKSURI)
	if err != nil {
		return &Error{Kind: Refused, Message: "The jwks_uri in the application's metadata document is not valid: " + err.Error() + "."}
	}
	if u.Host != document.Host && !slices.Contains(rules.hostsOf, u.Host) {
		return &Error{
			Kind:    Refused,
			Message: "The application's keys are at " + u.Host + ", and its metadata document is at " + document.Host + ".",
			Advice:  "An administrator can allow it: metadata_documents in the block sign_in of the gateway's file needs an entry with that host.",
		}
	}
	a.keys = remoteKeys{r.keySets, u}
	return nil
}

// parseDocument reads a metadata document (draft-ietf-oauth-client-id-metadata-document §4).
func parseDocument(url string, body []byte) (*metadata, error) {
	m, err := parseMetadata(body, true)
	if err != nil {
		return nil, err
	}
	if m.ClientID != url {
		return nil, errors.New("its client_id is not its URL")
	}
	if m.hasSecret {
		return nil, errors.New("it has a client_secret, which everybody can read")
	}
	if err := m.checkFlow(); err != nil {
		return nil, err
	}
	if m.AuthMethod == "" {
		m.AuthMethod = MethodNone
		if m.JWKS != nil || m.JWKSURI != "" {
			m.AuthMethod = MethodSigned
		}
	}
	switch {
	case m.AuthMethod != MethodNone && m.AuthMethod != MethodSigned:
		return nil, errors.New("its token_endpoint_auth_method is not none or private_key_jwt")
	case m.AuthMethod == MethodSigned && (m.JWKS == nil) == (m.JWKSURI == ""):
		return nil, errors.New("private_key_jwt needs one of jwks and jwks_uri")
	case m.AuthMethod == MethodSigned && m.JWKS != nil:
		if m.keys, err = keyset.Parse(m.JWKS); err != nil {
			return nil, fmt.Errorf("its jwks cannot be used: %w", err)
		}
	}
	m.JWKS = nil
	return m, nil
}
