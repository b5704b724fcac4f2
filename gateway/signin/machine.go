package signin

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/signin/application"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// machineApplication begins the application id of machines that are not OAuth clients.
const machineApplication = "machine:"

// exchangeAssertion exchanges an assertion for an access token (RFC 7523, section 2.1). There
// is no refresh token: the machine has its next assertion.
func (h *Handler) exchangeAssertion(ctx context.Context, x *exchange, header http.Header) (any, *denial) {
	text := x.form.Get("assertion")
	if text == "" {
		return nil, denied(codeInvalidRequest, reasonBadRequest, "assertion is missing")
	}
	a, err := readAssertion(text)
	if err != nil {
		return nil, refusedAssertion(err)
	}
	login, ok := h.machineOf(a)
	if !ok {
		return nil, refusedAssertion(errors.New("no login takes assertions of this issuer and typ"))
	}
	x.event.Login = login.Name
	s, d := h.machineSession(ctx, x, header, login, a)
	if d != nil {
		return nil, d
	}
	// Nobody has verified the subject yet, so nothing of its allowance is used here.
	if wait := h.Limits.families.full(machineKey(login, a), h.Now()); wait > 0 {
		return nil, tooMany(wait, "This subject has got too many access tokens.")
	}
	t, d := h.logInMachine(ctx, x, login, text)
	if d != nil {
		return nil, d
	}
	// From here on the assertion's claims are Vault's word, too.
	x.event.Subject, x.event.Actor = a.Subject, a.Actor.compact()
	x.event.SignIn, x.event.EntityID = t.Accessor, t.EntityID
	answer, d := h.beginMachine(ctx, x, t, login, a, s)
	if d != nil {
		_ = h.end(ctx, t)
		return nil, d
	}
	return answer, nil
}

// logInMachine has Vault judge an assertion. A caller whose assertions Vault does not
// accept must wait after some of them: each costs Vault, and a cluster's API server, a
// request that anybody can cause.
func (h *Handler) logInMachine(ctx context.Context, x *exchange, login config.SignInMachine, text string) (*vaultclient.PersonToken, *denial) {
	failures := pageKey{TokenPath, sourceKey(x.event.Source)}
	if wait := h.Limits.pages.full(failures, h.Now()); wait > 0 {
		return nil, tooMany(wait, "This address has shown too many assertions that Vault does not accept.")
	}
	t, err := h.People.LoginJWT(ctx, login.Mount, login.Role, text)
	if err != nil {
		h.Limits.pages.take(failures, h.Now())
		return nil, denialOfLogin(err)
	}
	return t, nil
}

func refusedAssertion(err error) *denial {
	return denied(codeInvalidGrant, reasonAssertion, err.Error())
}

// machineOf returns the login of an assertion.
func (h *Handler) machineOf(a *assertion) (config.SignInMachine, bool) {
	for _, m := range h.Settings.Machines {
		if m.Issuer == a.Issuer && m.Profile == a.profile {
			return m, true
		}
	}
	return config.SignInMachine{}, false
}

// machineKey stands for the subject of an assertion in the limits.
func machineKey(login config.SignInMachine, a *assertion) string {
	return machineApplication + login.Name + "\x00" + a.Subject
}

// machineSession checks all that can be checked without Vault: the client, if there is one,
// the assertion, and its purpose.
func (h *Handler) machineSession(ctx context.Context, x *exchange, header http.Header, login config.SignInMachine, a *assertion) (*session, *denial) {
	x.app = &application.Application{ID: machineApplication + login.Name, Name: "machine " + login.Name}
	x.event.Application = x.app.ID
	strict := login.Profile == config.ProfileIDJAG
	if strict || header.Get("Authorization") != "" || x.form.Has("client_id") || x.form.Has("client_assertion") {
		if d := h.authenticate(ctx, x, header); d != nil {
			return nil, d
		}
	}
	if strict && x.app.AuthMethod == application.MethodNone {
		return nil, denied(codeUnauthorizedClient, reasonApplication, "only a client that authenticates may use an identity assertion: register it with a secret or with keys")
	}
	err := a.check(h.issuer, h.Now())
	if err == nil && strict {
		err = a.checkIDJAG(x.app.ClientID)
	}
	if err != nil {
		return nil, refusedAssertion(err)
	}
	resource, d := h.machineResource(x.form.Get("resource"), a)
	if d != nil {
		return nil, d
	}
	x.event.Resource = resource
	return &session{Application: x.app.ID, Resource: resource, Login: login.Name}, nil
}

// machineResource returns the resource that the token is for: the one of the request, which
// must be one of the assertion's, if that names any.
func (h *Handler) machineResource(asked string, a *assertion) (string, *denial) {
	granted := make([]string, 0, len(a.Resources))
	if a.profile == config.ProfileIDJAG {
		for _, one := range a.Resources {
			resource, ok := h.canonicalResource(one)
			if ok && one != "" && !slices.Contains(granted, resource) {
				granted = append(granted, resource)
			}
		}
		if asked == "" && len(granted) == 1 {
			return granted[0], nil
		}
	}
	resource, ok := h.canonicalResource(asked)
	if !ok || a.profile == config.ProfileIDJAG && !slices.Contains(granted, resource) {
		return "", denied(codeInvalidTarget, reasonResource, "resource is not one of this gateway, or not the assertion's")
	}
	return resource, nil
}

// denialOfLogin is the denial of an assertion with which Vault lets nobody log in. While the
// keys of the issuer cannot be fetched, Vault's jwt method answers 400 as well.
func denialOfLogin(err error) *denial {
	if errors.Is(err, vaultclient.ErrMFA) {
		return denied(codeInvalidGrant, reasonTokenKind, err.Error())
	}
	if errors.Is(err, vaultclient.ErrNoLookup) {
		return denied(codeInvalidGrant, reasonTokenKind, vaultclient.ErrNoLookup.Error())
	}
	var refused *api.ResponseError
	if !errors.As(err, &refused) || !vaultclient.IsRefused(err) && !vaultclient.IsDenied(err) {
		return notNow(reasonUnavailable, err)
	}
	for _, text := range refused.Errors {
		if strings.Contains(text, "fetching keys") {
			return notNow(reasonUnavailable, err)
		}
	}
	d := denied(codeInvalidGrant, reasonAssertion, "Vault does not accept the assertion")
	d.detail = err.Error()
	return d
}

// beginMachine gives the access token. The Vault token of the login lives for the same
// time: it is given to nobody, and is not needed for longer.
func (h *Handler) beginMachine(ctx context.Context, x *exchange, t *vaultclient.PersonToken, login config.SignInMachine, a *assertion, s *session) (any, *denial) {
	if reason, words := h.unfit(t); reason != "" {
		d := denied(codeInvalidGrant, reason, "the rights in Vault of this login do not fit a sign-in")
		d.detail = words
		return nil, d
	}
	var d *denial
	if s.Identity, d = h.machineIdentity(ctx, x.form.Get("scope"), t, a); d != nil {
		return nil, d
	}
	x.event.Client = s.Identity
	request := vaultclient.CredsRequest{
		Resource: s.Resource, Application: s.Application, ApplicationName: x.app.Name, Login: s.Login,
		SignInEnds: h.Now().Add(machineLife),
	}
	if wait := h.Limits.families.take(machineKey(login, a), h.Now()); wait > 0 {
		return nil, tooMany(wait, "This subject has got too many access tokens.")
	}
	if login.SingleUse {
		var err error
		if request.AssertionID, request.AssertionExpires, err = a.spent(h.Now()); err != nil {
			return nil, refusedAssertion(err)
		}
	}
	creds, err := h.People.Credentials(ctx, t, s.Identity, request)
	switch {
	case vaultclient.IsDenied(err), vaultclient.IsRefused(err):
		return nil, denialOfMachine(err)
	case err != nil:
		h.Limits.families.giveBack(machineKey(login, a), h.Now())
		return nil, notNow(reasonUnavailable, err)
	}
	x.issued(creds)
	life, err := h.People.Renew(ctx, t, creds.Life)
	if err != nil {
		return nil, h.denialOfVault(err)
	}
	if d := h.recordExchange(x, eventMachine); d != nil {
		return nil, d
	}
	return answerOf(creds, life, ""), nil
}

// denialOfMachine is the denial where Vault or the engine refuses the access token.
func denialOfMachine(err error) *denial {
	d := denied(codeInvalidGrant, reasonAccess, "the engine refuses a token for this client")
	if strings.Contains(err.Error(), usedBefore) {
		d = denied(codeInvalidGrant, reasonReplay, "the assertion was used before")
		d.event = eventReplayed
	}
	d.detail = err.Error()
	return d
}

// usedBefore is the engine's text about an assertion that comes again.
const usedBefore = "the assertion was used before"

// machineLife bounds the life of a machine's access token, and so of its sign-in.
const machineLife = 15 * time.Minute

// machineIdentity returns the identity that the request names by its scope, or the assertion
// by its own; otherwise the only one that the machine may have. The assertion's scope bounds
// the request's.
func (h *Handler) machineIdentity(ctx context.Context, scopes string, t *vaultclient.PersonToken, a *assertion) (string, *denial) {
	list, err := h.Engine.SignIn(ctx)
	if err != nil {
		return "", notNow(reasonUnavailable, err)
	}
	wanted, granted := identitiesIn(scopes), identitiesIn(a.Scope)
	switch {
	case len(wanted) == 0:
		wanted = granted
	case len(granted) > 0:
		wanted = slices.DeleteFunc(wanted, func(name string) bool { return !slices.Contains(granted, name) })
		if len(wanted) == 0 {
			return "", denied(codeInvalidScope, reasonIdentity, "the assertion's scope does not name this client")
		}
	}
	if len(wanted) == 0 {
		wanted = slices.Sorted(maps.Keys(list.Clients))
	}
	var paths []string
	for _, name := range wanted {
		if _, ok := list.Clients[name]; ok {
			paths = append(paths, h.People.CredsPath(name))
		}
	}
	may := map[string][]string{}
	if len(paths) > 0 {
		if may, err = h.People.Capabilities(ctx, t, paths); err != nil {
			return "", h.denialOfVault(err)
		}
	}
	wanted = slices.DeleteFunc(wanted, func(name string) bool {
		return !slices.Contains(may[h.People.CredsPath(name)], "update")
	})
	switch len(wanted) {
	case 0:
		return "", denied(codeInvalidScope, reasonIdentity, "Vault grants this login no such client, or none at all, for sign-in")
	case 1:
		return wanted[0], nil
	}
	return "", denied(codeInvalidScope, reasonIdentity, "this login may act as several clients: name one with scope=client:NAME")
}
