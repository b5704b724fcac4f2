package credentials

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"vault-plugin-secrets-mcp/backend/credential"
	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// Vault has the requests to Vault: [vaultclient.Children], or a model of it in tests.
type Vault interface {
	Parent() (vaultclient.Parent, <-chan struct{})
	Create(ctx context.Context, r vaultclient.ChildRequest) (*vaultclient.Child, error)
	Read(ctx context.Context, child *vaultclient.Child, path string) (*vaultclient.Secret, error)
	Write(ctx context.Context, child *vaultclient.Child, path string, data map[string]any) (*vaultclient.Secret, error)
	Renew(ctx context.Context, child *vaultclient.Child, increment time.Duration) (time.Duration, error)
	RenewLease(ctx context.Context, child *vaultclient.Child, id string, increment time.Duration) (time.Duration, error)
	Revoke(ctx context.Context, child *vaultclient.Child) error
}

// jitter spreads what would be due at once.
var jitter = backoff.Jitter

// mint takes everything that the server needs from Vault, as the principal. Nothing of it is
// left where the error is not nil.
func (h *holding) mint(ctx context.Context) (*lease, *Error) {
	settings := h.server.store.settings()
	if settings == nil {
		return nil, &Error{Reason: ReasonOff, Err: errOff}
	}
	l := &lease{store: h.server.store, values: make(values)}
	if err := h.fill(ctx, l, settings); err != nil {
		h.server.store.revoker.add(l)
		return nil, err
	}
	return l, nil
}

var errOff = errors.New("the gateway's file has no block upstream_credentials, so it leases none")

func (h *holding) fill(ctx context.Context, l *lease, settings *config.UpstreamCredentials) *Error {
	grant, plan := h.grant.Load(), h.server.plan
	if len(plan.specs) > 0 {
		policies, err := policiesOf(grant, settings)
		if err != nil {
			return err
		}
		if err := h.child(ctx, l, &l.reader, settings, policies); err != nil {
			return err
		}
	}
	if plan.token {
		if err := h.child(ctx, l, &l.own, settings, plan.vaultPolicies); err != nil {
			return err
		}
		l.values[credential.VaultName] = map[string]any{"token": l.own.Token()}
	}
	for _, name := range plan.names {
		if err := h.read(ctx, l, name); err != nil {
			return err
		}
	}
	return nil
}

// policiesOf are the Vault policies of the client's credentials.
func policiesOf(grant *grants.Grant, settings *config.UpstreamCredentials) ([]string, *Error) {
	policies, set := grant.UpstreamPolicies()
	if !set {
		return settings.Policies, nil
	}
	for _, name := range policies {
		if !slices.Contains(settings.Policies, name) {
			return nil, &Error{Reason: ReasonPath, Err: fmt.Errorf(
				"the client's upstream_policies name %q, which policies of the gateway's block upstream_credentials does not", name)}
		}
	}
	if len(policies) == 0 {
		return nil, &Error{Reason: ReasonPath, Err: errors.New("the client's upstream_policies is an empty list: it may have no credentials")}
	}
	return policies, nil
}

// aliasOf is the alias of the client's Vault entity.
func aliasOf(grant *grants.Grant, settings *config.UpstreamCredentials) string {
	return settings.AliasPrefix + ":" + grant.Client
}

// child makes one of the lease's tokens, and compares it with what was asked.
func (h *holding) child(ctx context.Context, l *lease, place **vaultclient.Child, settings *config.UpstreamCredentials, policies []string) *Error {
	store, grant := h.server.store, h.grant.Load()
	if err := store.awaitMint(ctx); err != nil {
		return err
	}
	alias := aliasOf(grant, settings)
	request := vaultclient.ChildRequest{
		Role: settings.TokenRole, Alias: alias, Policies: policies, TTL: settings.TokenTTL,
		Metadata: map[string]string{"mcp_client": grant.Client, "mcp_server": h.server.of.Name},
	}
	path := "auth/token/create/" + settings.TokenRole
	parent, changed := store.vault.Parent()
	c, err := store.vault.Create(ctx, request)
	if err != nil && vaultclient.IsInvalidToken(err) && awaitParent(ctx, parent, changed, store.vault) {
		c, err = store.vault.Create(ctx, request) // the gateway has logged in again
	}
	if err != nil {
		return failed("", path, err)
	}
	*place = c
	l.parent = c.Parent
	if err := store.identities.check(c, alias, policies); err != nil {
		return &Error{Reason: ReasonIdentity, Path: path, Err: err}
	}
	t := &term{what: "token", asked: settings.TokenTTL, renew: func(ctx context.Context, increment time.Duration) (time.Duration, error) {
		return store.vault.Renew(ctx, c, increment)
	}}
	t.begin(c.Sent, c.TTL)
	l.terms = append(l.terms, t)
	return nil
}

// parentWait is how long a mint waits for a new login of the gateway.
const parentWait = 5 * time.Second

// awaitParent waits until the gateway has another token than the one that Vault has refused.
func awaitParent(ctx context.Context, refused vaultclient.Parent, changed <-chan struct{}, vault Vault) bool {
	if now, _ := vault.Parent(); now != refused {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, parentWait)
	defer cancel()
	select {
	case <-changed:
		return true
	case <-ctx.Done():
		return false
	}
}

// read asks for one credential, and notes when it ends.
func (h *holding) read(ctx context.Context, l *lease, name string) *Error {
	spec := h.server.plan.specs[name]
	secret, err := h.ask(ctx, l.reader, name)
	if err != nil {
		return err
	}
	l.values[name] = secret.Data
	switch life := lifeOf(secret); {
	case secret.LeaseID != "":
		l.ids = append(l.ids, secret.LeaseID)
		t := &term{what: "lease of " + name}
		if secret.Renewable {
			t.asked = secret.Duration
			t.renew = func(ctx context.Context, increment time.Duration) (time.Duration, error) {
				return h.server.store.vault.RenewLease(ctx, l.reader, secret.LeaseID, increment)
			}
		}
		if secret.Duration > 0 {
			t.begin(secret.Sent, min(secret.Duration, orLonger(life, secret.Duration)))
			l.terms = append(l.terms, t)
		}
	case life > 0 && spec.Refresh == 0:
		t := &term{what: name}
		t.begin(secret.Sent, life)
		l.terms = append(l.terms, t)
	}
	return nil
}

func orLonger(life, other time.Duration) time.Duration {
	if life <= 0 {
		return other
	}
	return life
}

// lifeOf is how long a secret says itself that it lives; 0 if it does not. A certificate says
// when it expires, a static role when its password is changed.
func lifeOf(s *vaultclient.Secret) time.Duration {
	if at, ok := numberOf(s.Data["expiration"]); ok && at > 0 {
		return time.Unix(at, 0).Sub(s.Sent)
	}
	if ttl, ok := numberOf(s.Data["ttl"]); ok && ttl > 0 && s.LeaseID == "" {
		return time.Duration(ttl) * time.Second
	}
	return 0
}

func numberOf(value any) (int64, bool) {
	if value == nil {
		return 0, false
	}
	n, err := strconv.ParseInt(fmt.Sprint(value), 10, 64)
	return n, err == nil
}

// ask sends the request for one credential.
func (h *holding) ask(ctx context.Context, reader *vaultclient.Child, name string) (*vaultclient.Secret, *Error) {
	store, grant, spec := h.server.store, h.grant.Load(), h.server.plan.specs[name]
	settings := store.settings()
	if settings == nil {
		return nil, &Error{Reason: ReasonOff, Err: errOff}
	}
	path, data, err := spec.Resolve(credential.Values{ClientAlias: aliasOf(grant, settings), Metadata: grant.Metadata()})
	if err != nil {
		return nil, &Error{Reason: ReasonPath, Credential: name, Err: err}
	}
	if upstream := store.upstream(h.server.of.Name); !upstream.AllowsCredential(path) {
		return nil, &Error{Reason: ReasonPath, Credential: name, Path: path, Err: errors.New(
			"credential_paths of the gateway's block upstream does not allow this path")}
	}
	var secret *vaultclient.Secret
	if spec.Method == credential.MethodWrite {
		secret, err = store.vault.Write(ctx, reader, path, data)
	} else {
		secret, err = store.vault.Read(ctx, reader, path)
	}
	if err != nil {
		return nil, failed(name, path, err)
	}
	if secret.Data["data"] == nil && secret.Data["metadata"] != nil && len(secret.Data) == 2 {
		return nil, failed(name, path, vaultclient.ErrNoSecret) // a deleted version of KV v2
	}
	return secret, nil
}

// refresh reads the credentials that have no lease again, under the same token, and returns
// the values with them.
func (h *holding) refresh(ctx context.Context, l *lease) (values, *Error) {
	next := maps.Clone(l.values)
	for _, name := range h.server.plan.names {
		if !h.server.plan.isRefreshed(name, l) {
			continue
		}
		secret, err := h.ask(ctx, l.reader, name)
		if err != nil {
			return nil, err
		}
		next = next.with(name, secret.Data)
	}
	return next, nil
}
