package credentials

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/backend/credential"
	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/config"
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

// jitter spreads work that would be due at the same time.
var jitter = backoff.Jitter

// fill takes everything that the server needs from Vault, as the principal. Where it fails,
// the lease is to be abandoned.
func (h *holding) fill(ctx context.Context, l *lease) *Error {
	settings := h.server.store.settings()
	if settings == nil {
		return &Error{Failure: FailureOff, Err: errOff}
	}
	plan := h.server.plan
	for _, name := range plan.names { // before there is a token for it
		if _, _, err := h.resolve(settings, name); err != nil {
			return err
		}
	}
	if err := h.readers(ctx, l, settings); err != nil {
		return err
	}
	if plan.token {
		if err := h.child(ctx, l, &l.own, aliasOf(h.grant.Load(), settings), settings, plan.vaultPolicies); err != nil {
			return err
		}
		l.values[credential.VaultName] = map[string]any{"token": l.own.Token()}
	}
	for _, name := range plan.names {
		secret, err := h.ask(ctx, l, name)
		if err == nil {
			err = h.note(l, name, secret)
		}
		if err != nil {
			return err
		}
	}
	l.update()
	return nil
}

// readers makes the tokens that read the credentials. A path with the person's alias is read by
// a token with that alias, and every other path by a token with the client's alias. So Vault's
// ACL decides for each of the two.
func (h *holding) readers(ctx context.Context, l *lease, settings *config.UpstreamCredentials) *Error {
	grant, plan := h.grant.Load(), h.server.plan
	if len(plan.specs) == 0 {
		return nil
	}
	policies, err := policiesOf(grant, settings)
	if err != nil {
		return err
	}
	if len(plan.personal) < len(plan.specs) {
		if err := h.child(ctx, l, &l.reader, aliasOf(grant, settings), settings, policies); err != nil {
			return err
		}
	}
	if len(plan.personal) > 0 {
		alias, err := personAlias(grant, settings)
		if err != nil {
			return &Error{Failure: FailurePath, Err: err}
		}
		return h.child(ctx, l, &l.personReader, alias, settings, policies)
	}
	return nil
}

var errOff = errors.New("the gateway's file has no block upstream_credentials, so it leases none")

// errAccessEnded is the error of work in flight when access ended.
func errAccessEnded() *Error {
	return &Error{Failure: FailureEnded, Err: ErrLost, RetryAfter: retryMin}
}

// child makes one of the lease's tokens, and compares it with the request.
func (h *holding) child(ctx context.Context, l *lease, place **vaultclient.Child, alias string, settings *config.UpstreamCredentials, policies []string) *Error {
	store, grant := h.server.store, h.grant.Load()
	if err := store.awaitMint(ctx); err != nil {
		return err
	}
	if h.isEnded() {
		return errAccessEnded()
	}
	request := vaultclient.ChildRequest{
		Role: settings.TokenRole, Alias: alias, Policies: policies, TTL: settings.TokenTTL,
		Metadata: map[string]string{"mcp_client": grant.Client, "mcp_server": h.server.of.Name},
	}
	if s := grant.SignIn; s != nil {
		request.Metadata["mcp_login"], request.Metadata["mcp_person"] = s.Login, s.Person
	}
	if err := store.checkPolicies(ctx, request); err != nil {
		return err
	}
	path := "auth/token/create/" + settings.TokenRole
	parent, changed := store.vault.Parent()
	c, err := store.vault.Create(ctx, request)
	if err != nil && vaultclient.IsInvalidToken(err) && awaitParent(ctx, parent, changed, store.vault) && !h.isEnded() {
		c, err = store.vault.Create(ctx, request) // the gateway has logged in again
	}
	if err != nil {
		return failed("", path, err)
	}
	if !l.adopt(place, c) {
		return errAccessEnded()
	}
	l.parent = c.Parent
	if err := store.identities.check(c, request); err != nil {
		return &Error{Failure: FailureIdentity, Path: path, Err: err}
	}
	t := &term{what: "token", asked: settings.TokenTTL, renew: func(ctx context.Context, increment time.Duration) (time.Duration, error) {
		return store.vault.Renew(ctx, c, increment)
	}}
	t.begin(c.Sent, c.TTL)
	l.terms = append(l.terms, t)
	return nil
}

// trialTTL is the life of a token on trial, in the case that it cannot be ended.
const trialTTL = 30 * time.Second

// checkPolicies makes sure, once for each set of policies, that tokens with them may end
// themselves: nothing may be leased that cannot be ended. It tries it with a token of its own.
func (s *Store) checkPolicies(ctx context.Context, request vaultclient.ChildRequest) *Error {
	key := strings.Join(request.Policies, ",")
	if _, good := s.revocable.Load(key); good {
		return nil
	}
	request.TTL = min(request.TTL, trialTTL)
	c, err := s.vault.Create(ctx, request)
	if err != nil {
		return failed("", "auth/token/create/"+request.Role, err)
	}
	const path = "auth/token/revoke-self"
	err = s.vault.Revoke(ctx, c)
	switch {
	case vaultclient.IsDenied(err):
		return &Error{Failure: FailureIdentity, Path: path, Err: fmt.Errorf(
			"tokens with the policies %s may not end themselves: grant update on this path, as the policy mcp-upstream does", strings.Join(request.Policies, ", "))}
	case err != nil:
		return failed("", path, err)
	}
	s.revocable.Store(key, true)
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

// resolve returns the path of one credential for the principal, and the data of a write.
func (h *holding) resolve(settings *config.UpstreamCredentials, name string) (path string, data map[string]any, failure *Error) {
	grant, spec := h.grant.Load(), h.server.plan.specs[name]
	values := credential.Values{ClientAlias: aliasOf(grant, settings), Metadata: grant.Metadata()}
	var err error
	if h.server.plan.personal[name] {
		values.PersonAlias, err = personAlias(grant, settings)
	}
	if err == nil {
		path, data, err = spec.Resolve(values)
	}
	if err != nil {
		return "", nil, &Error{Failure: FailurePath, Credential: name, Err: err}
	}
	return path, data, nil
}

// ask sends the request for one credential.
func (h *holding) ask(ctx context.Context, l *lease, name string) (*vaultclient.Secret, *Error) {
	store, spec := h.server.store, h.server.plan.specs[name]
	settings := store.settings()
	switch {
	case h.isEnded():
		return nil, errAccessEnded()
	case settings == nil:
		return nil, &Error{Failure: FailureOff, Err: errOff}
	}
	path, data, failure := h.resolve(settings, name)
	if failure != nil {
		return nil, failure
	}
	if upstream := store.upstream(h.server.of.Name); !upstream.AllowsCredential(path) {
		return nil, &Error{Failure: FailurePath, Credential: name, Path: path, Err: errors.New(
			"credential_paths of the gateway's block upstream does not allow this path")}
	}
	var secret *vaultclient.Secret
	var err error
	if reader := h.readerOf(l, name); spec.Method == credential.MethodWrite {
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

// readerOf is the token that reads the credential.
func (h *holding) readerOf(l *lease, name string) *vaultclient.Child {
	if h.server.plan.personal[name] {
		return l.personReader
	}
	return l.reader
}

// note takes a credential into the lease, with its end.
func (h *holding) note(l *lease, name string, secret *vaultclient.Secret) *Error {
	l.values[name] = secret.Data
	if secret.LeaseID == "" {
		l.readings[name] = h.readingOf(name, secret)
		return nil
	}
	l.ids = append(l.ids, secret.LeaseID)
	life := secret.Duration
	switch declared, ok := expiryOf(secret); {
	case life <= 0:
		life = unknownLife
	case ok:
		life = min(life, declared) // the lease and the secret may disagree
	}
	if life < minLife {
		return &Error{Failure: FailureValue, Credential: name, Err: fmt.Errorf(
			"its lease lives %s: at least %s are needed", life, minLife)}
	}
	t := &term{what: "lease of " + name}
	if secret.Renewable {
		t.asked = secret.Duration
		t.renew = func(ctx context.Context, increment time.Duration) (time.Duration, error) {
			return h.server.store.vault.RenewLease(ctx, h.readerOf(l, name), secret.LeaseID, increment)
		}
	}
	t.begin(secret.Sent, life)
	l.terms = append(l.terms, t)
	return nil
}

const (
	// unknownLife is taken for that of a lease that does not say how long it lives.
	unknownLife = time.Hour

	// minReading is the least time between two readings of a secret without a lease.
	minReading = 5 * time.Second
)

// readingOf says when a secret without a lease is read again. A certificate says when it
// expires: another is asked for after two thirds. A static role says when its password is
// changed: it is read right after that. Others are read again every now and then.
func (h *holding) readingOf(name string, secret *vaultclient.Secret) *reading {
	r := &reading{sent: secret.Sent}
	after := time.Duration(h.server.plan.specs[name].Refresh) * time.Second
	if after <= 0 {
		after = credential.DefaultRefresh
	}
	after = jitter(after)
	if life, ok := expiryOf(secret); ok {
		r.ends = secret.Sent.Add(life)
		after = dueAfter(life)
	} else if ttl, ok := secondsOf(secret.Data["ttl"]); ok {
		after = min(after, ttl+time.Second)
	}
	r.due = secret.Sent.Add(max(after, minReading))
	return r
}

// expiryOf is the remaining life of a secret that names the time of its own end.
func expiryOf(s *vaultclient.Secret) (life time.Duration, ok bool) {
	at, ok := numberOf(s.Data["expiration"])
	if !ok || at <= s.Sent.Unix() {
		return 0, false
	}
	return secondsUpTo(at - s.Sent.Unix()), true
}

// secondsOf reads a field with a number of seconds.
func secondsOf(value any) (time.Duration, bool) {
	n, ok := numberOf(value)
	if !ok || n < 0 {
		return 0, false
	}
	return secondsUpTo(n), true
}

// secondsUpTo is a number of seconds, and maxLife at most.
func secondsUpTo(n int64) time.Duration {
	return time.Duration(min(n, int64(maxLife/time.Second))) * time.Second
}

func numberOf(value any) (int64, bool) {
	if value == nil {
		return 0, false
	}
	n, err := strconv.ParseInt(fmt.Sprint(value), 10, 64)
	return n, err == nil
}
