package vaultclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// AuthURL begins a login by an oidc auth method, and returns the URL at the identity provider
// to which the person is to be sent. State and nonce in it are Vault's. The error is
// [ErrRedirect] if the role does not list the redirect.
//
// https://developer.hashicorp.com/vault/api-docs/auth/jwt#oidc-authorization-url-request
func (p *People) AuthURL(ctx context.Context, mount, role, redirect, nonce string) (string, error) {
	answer, err := p.do(ctx, "", func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Logical().WriteWithContext(ctx, "auth/"+mount+"/oidc/auth_url", map[string]any{
			"role": role, "redirect_uri": redirect, "client_nonce": nonce,
		})
	})
	if err != nil {
		return "", plain(err)
	}
	if answer == nil {
		return "", errNoData
	}
	address, ok := answer.Data["auth_url"].(string)
	switch {
	case !ok:
		return "", errNoData
	case address == "":
		return "", ErrRedirect
	}
	return address, nil
}

// FinishOIDC ends a login that [People.AuthURL] has begun. The error is [ErrStateLost] if
// Vault does not know it.
//
// https://developer.hashicorp.com/vault/api-docs/auth/jwt#oidc-callback
func (p *People) FinishOIDC(ctx context.Context, mount, state, code, nonce string) (*PersonToken, error) {
	t, err := p.login(ctx, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Logical().ReadWithDataWithContext(ctx, "auth/"+mount+"/oidc/callback", map[string][]string{
			"state": {state}, "code": {code}, "client_nonce": {nonce},
		})
	})
	var refused *api.ResponseError
	if errors.As(err, &refused) && refused.StatusCode == http.StatusBadRequest {
		for _, text := range refused.Errors {
			if strings.Contains(text, "xpired or missing OAuth state") {
				return nil, ErrStateLost
			}
		}
	}
	return t, err
}

// LoginJWT logs in with a JWT at a jwt or kubernetes auth method.
func (p *People) LoginJWT(ctx context.Context, mount, role, jwt string) (*PersonToken, error) {
	return p.login(ctx, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return (&jwtAuth{mount: mount, role: role, jwt: jwt}).Login(ctx, client)
	})
}

// ErrNoLookup: a login has given a token that may not look itself up.
var ErrNoLookup = errors.New("the token of this login may not look itself up: give the role Vault's policy default, or mcp-person, or leave token_no_default_policy false")

// ErrMFA: Vault gives the token of a login only after a second factor.
//
// https://developer.hashicorp.com/vault/docs/auth/login-mfa
var ErrMFA = errors.New("Vault's login MFA wants a second factor for this login, which sign-in cannot ask for: have the identity provider ask for it, and exempt the mount") //nolint:staticcheck // a name starts it

// login makes a request that logs in, and asks Vault about the token. A token that is not
// returned has been revoked, or ends by its TTL.
func (p *People) login(ctx context.Context, ask request) (*PersonToken, error) {
	answer, err := p.do(ctx, "", ask)
	if err != nil {
		return nil, plain(err)
	}
	switch {
	case answer == nil || answer.Auth == nil:
		return nil, errNoData
	case answer.Auth.ClientToken == "" && answer.Auth.MFARequirement != nil:
		return nil, ErrMFA
	case answer.Auth.ClientToken == "":
		return nil, errNoData
	}
	t, err := p.Lookup(ctx, answer.Auth.ClientToken)
	if err == nil {
		return t, nil
	}
	p.abandon(ctx, NewPersonToken(answer.Auth.ClientToken))
	if errors.Is(err, ErrDead) {
		return nil, fmt.Errorf("%w (%w)", ErrNoLookup, err)
	}
	return nil, err
}

// abandonTimeout bounds the revocation of a token that nobody will use.
const abandonTimeout = 2 * time.Second

// abandon revokes a token that nobody will use. If Vault cannot be told, it ends by its TTL.
func (p *People) abandon(ctx context.Context, t *PersonToken) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
	defer cancel()
	_ = p.Revoke(ctx, t)
}
