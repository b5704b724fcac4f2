// Package idp is a small OpenID provider, so that sign-in can be tried and tested without a
// company's own. The protocol is the library's (github.com/zitadel/oidc); here are the people,
// the one client, and a login page. It keeps everything in memory, asks for the password every
// time, and gives no refresh tokens. Only the authorization code flow with PKCE is served.
package idp

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"
)

// Options say who may sign in, and for which client.
type Options struct {
	// Issuer is the URL under which it is reached, without a path. Start fills it in.
	Issuer string
	// The one client: Vault's oidc method.
	ClientID     string
	ClientSecret string
	// RedirectURIs are those of the client. More may be added later.
	RedirectURIs []string
	// People may sign in. More may be added later.
	People []Person
	// ShowPasswords has the login page show them, for a demo.
	ShowPasswords bool
}

// IdP is the provider. All its methods may be called while it serves.
type IdP struct {
	options  Options
	provider *op.Provider
	pages    http.Handler
	key      *signingKey

	mu        sync.Mutex
	people    map[string]*account
	redirects []string
	requests  map[string]*request // by their ids
	codes     map[string]string   // to the ids of requests
	tokens    map[string]token    // by their ids
}

const (
	// keyBits are those of the RSA key. Vault takes RS256 alone unless it is told otherwise.
	keyBits       = 2048
	headerTimeout = 10 * time.Second
)

var errIncomplete = errors.New("an issuer, the client's id and its secret are needed")

// New makes a provider. It listens nowhere: it is an http.Handler for its issuer's address.
func New(options Options) (*IdP, error) {
	if options.Issuer == "" || options.ClientID == "" || options.ClientSecret == "" {
		return nil, errIncomplete
	}
	issuer, err := url.Parse(options.Issuer)
	if err != nil || issuer.Host == "" || issuer.Path != "" {
		return nil, fmt.Errorf("the issuer %q is not a URL without a path", options.Issuer)
	}
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, fmt.Errorf("cannot make a signing key: %w", err)
	}
	i := &IdP{
		options: options, key: &signingKey{id: rand.Text(), private: private},
		people: map[string]*account{}, requests: map[string]*request{}, codes: map[string]string{}, tokens: map[string]token{},
	}
	for _, person := range options.People {
		if err := i.Add(person); err != nil {
			return nil, err
		}
	}
	i.AllowRedirect(options.RedirectURIs...)
	config := &op.Config{
		CodeMethodS256: true, AuthMethodPost: true,
		SupportedScopes: []string{"openid", "profile", "email", groupsScope},
		SupportedClaims: []string{"sub", "name", "preferred_username", "email", GroupsClaim},
	}
	if _, err := rand.Read(config.CryptoKey[:]); err != nil {
		return nil, err
	}
	// The issuer is on the loopback, where TLS would protect nothing. Pages of other origins
	// have no business here.
	i.provider, err = op.NewProvider(config, storage{i}, op.StaticIssuer(options.Issuer),
		op.WithAllowInsecure(), op.WithCORSOptions(nil))
	if err != nil {
		return nil, fmt.Errorf("cannot make the OpenID provider: %w", err)
	}
	i.pages = i.routes()
	return i, nil
}

// Start makes a provider that serves at an address of the loopback until the context ends.
// Port 0 lets the kernel choose. Without an issuer, the address is that.
func Start(ctx context.Context, address string, options Options) (*IdP, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen: %w", err)
	}
	i, err := startAt(listener, options)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	go func() { _ = i.Serve(listener) }()
	return i, nil
}

func startAt(listener net.Listener, options Options) (*IdP, error) {
	if err := onLoopback(listener); err != nil {
		return nil, err
	}
	if options.Issuer == "" {
		options.Issuer = "http://" + listener.Addr().String()
	}
	return New(options)
}

// Serve serves until the listener is closed. The listener must be one of the loopback:
// passwords are sent as they are.
func (i *IdP) Serve(listener net.Listener) error {
	if err := onLoopback(listener); err != nil {
		return err
	}
	server := &http.Server{Handler: i, ReadHeaderTimeout: headerTimeout}
	defer server.Close()
	if err := server.Serve(listener); !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("cannot serve: %w", err)
	}
	return nil
}

func onLoopback(listener net.Listener) error {
	tcp, ok := listener.Addr().(*net.TCPAddr)
	if !ok || !tcp.IP.IsLoopback() {
		return fmt.Errorf("%s is not an address of the loopback: passwords would be sent over the network as they are", listener.Addr())
	}
	return nil
}

// Issuer is the URL that clients discover it by.
func (i *IdP) Issuer() string { return i.options.Issuer }

func (i *IdP) ServeHTTP(w http.ResponseWriter, r *http.Request) { i.pages.ServeHTTP(w, r) }
