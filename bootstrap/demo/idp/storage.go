package idp

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"errors"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// The bounds of lifetimes and numbers: a request that nobody finishes is removed.
const (
	requestLife = 10 * time.Minute
	tokenLife   = 5 * time.Minute
	maxKept     = 10_000
)

// storage is the library's view of an IdP.
type storage struct{ *IdP }

var (
	_ op.Storage                   = storage{}
	_ op.CanSetUserinfoFromRequest = storage{}
)

// token is an access token, which is good for userinfo alone.
type token struct {
	person  string
	expires time.Time
}

var (
	errUnknownRequest = oidc.ErrInvalidRequest().WithDescription("this sign-in is not known any more: begin again")
	errUnknownClient  = errors.New("the client is not known")
	errNotServed      = errors.New("not served here")
	errFull           = errors.New("too many sign-ins are under way")
)

func (s storage) CreateAuthRequest(_ context.Context, asked *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	switch {
	case asked.ResponseType != oidc.ResponseTypeCode:
		return nil, oidc.ErrInvalidRequest().WithDescription("only the code flow is served")
	case asked.CodeChallenge == "" || asked.CodeChallengeMethod != oidc.CodeChallengeMethodS256:
		return nil, oidc.ErrInvalidRequest().WithDescription("PKCE with S256 is needed")
	case slices.Contains(asked.Prompt, oidc.PromptNone):
		return nil, oidc.ErrLoginRequired()
	}
	now := time.Now()
	r := &request{id: rand.Text(), asked: *asked, began: now}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, other := range s.requests {
		if now.Sub(other.began) > requestLife {
			delete(s.requests, id)
		}
	}
	if len(s.requests) >= maxKept {
		return nil, errFull
	}
	s.requests[r.id] = r
	return r, nil
}

// AuthRequestByID returns a copy, which no login changes.
func (s storage) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.requests[id]
	if r == nil || time.Since(r.began) > requestLife {
		return nil, errUnknownRequest
	}
	found := *r
	return &found, nil
}

// AuthRequestByCode spends the code, even where its verifier turns out to be wrong.
func (s storage) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	s.mu.Lock()
	id, found := s.codes[code]
	delete(s.codes, code)
	s.mu.Unlock()
	if !found {
		return nil, oidc.ErrInvalidGrant().WithDescription("the code is not known, or was used before")
	}
	r, err := s.AuthRequestByID(ctx, id)
	if err != nil {
		return nil, oidc.ErrInvalidGrant().WithDescription("the code has expired")
	}
	if _, open := s.person(r.GetSubject()); !open {
		return nil, oidc.ErrInvalidGrant().WithDescription("the account is closed")
	}
	return r, nil
}

func (s storage) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests[id] == nil {
		return errUnknownRequest
	}
	for code, id := range s.codes {
		if s.requests[id] == nil {
			delete(s.codes, code)
		}
	}
	s.codes[code] = id
	return nil
}

func (s storage) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.requests, id)
	return nil
}

func (s storage) CreateAccessToken(_ context.Context, r op.TokenRequest) (string, time.Time, error) {
	now := time.Now()
	id, made := rand.Text(), token{person: r.GetSubject(), expires: now.Add(tokenLife)}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, other := range s.tokens {
		if now.After(other.expires) {
			delete(s.tokens, id)
		}
	}
	s.tokens[id] = made
	return id, made.expires, nil
}

// CreateAccessAndRefreshTokens is not reached: no grant of refresh tokens is configured.
func (s storage) CreateAccessAndRefreshTokens(context.Context, op.TokenRequest, string) (tokenID, refresh string, expires time.Time, err error) {
	return "", "", time.Time{}, errNotServed
}

func (s storage) TokenRequestByRefreshToken(context.Context, string) (op.RefreshTokenRequest, error) {
	return nil, op.ErrInvalidRefreshToken
}

func (s storage) GetRefreshTokenInfo(context.Context, string, string) (person, id string, err error) {
	return "", "", op.ErrInvalidRefreshToken
}

func (s storage) TerminateSession(context.Context, string, string) error { return nil }

func (s storage) RevokeToken(_ context.Context, id, _, _ string) *oidc.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, id)
	return nil
}

func (s storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if id != s.options.ClientID {
		return nil, errUnknownClient
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &client{id: id, redirects: slices.Clone(s.redirects)}, nil
}

func (s storage) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if id != s.options.ClientID || subtle.ConstantTimeCompare([]byte(secret), []byte(s.options.ClientSecret)) != 1 {
		return errUnknownClient
	}
	return nil
}

// SetUserinfoFromScopes does nothing: SetUserinfoFromRequest takes its place.
func (s storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// SetUserinfoFromRequest fills an ID token.
func (s storage) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, r op.IDTokenRequest, _ []string) error {
	return s.fill(info, r.GetSubject())
}

// SetUserinfoFromToken answers the userinfo endpoint.
func (s storage) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, id, _, _ string) error {
	s.mu.Lock()
	found, ok := s.tokens[id]
	s.mu.Unlock()
	if !ok || time.Now().After(found.expires) {
		return oidc.ErrAccessDenied().WithDescription("the access token is not valid")
	}
	return s.fill(info, found.person)
}

func (s storage) fill(info *oidc.UserInfo, name string) error {
	person, open := s.person(name)
	if !open {
		return oidc.ErrAccessDenied().WithDescription("the account is closed")
	}
	person.describe(info)
	return nil
}

func (s storage) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errNotServed
}

func (s storage) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return map[string]any{}, nil
}

func (s storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errNotServed
}

func (s storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errNotServed
}

func (s storage) Health(context.Context) error { return nil }

func (s storage) SigningKey(context.Context) (op.SigningKey, error) { return s.key, nil }

func (s storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{s.key.SignatureAlgorithm()}, nil
}

func (s storage) KeySet(context.Context) ([]op.Key, error) {
	return []op.Key{publicKey{s.key}}, nil
}

// signingKey signs ID tokens.
type signingKey struct {
	id      string
	private *rsa.PrivateKey
}

func (k *signingKey) ID() string                                  { return k.id }
func (k *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k *signingKey) Key() any                                    { return k.private }

// publicKey is the half of it that everybody may have.
type publicKey struct{ of *signingKey }

func (k publicKey) ID() string                         { return k.of.id }
func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.RS256 }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Key() any                           { return &k.of.private.PublicKey }
