package signin

import (
	"context"
	"errors"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// grace is how long the refresh token before the present one is good for. Applications refresh
// in several processes at once, and lose answers: without it they would lose the sign-in.
const grace = 60 * time.Second

func (h *Handler) sealRefresh(f *refresh) (string, error) {
	text, err := h.seal(purposeRefresh, nil, f)
	return refreshPrefix + text, err
}

// openRefresh opens a refresh token.
func (h *Handler) openRefresh(ctx context.Context, text string) (*refresh, *denial) {
	var f refresh
	sealed, ok := strings.CutPrefix(text, refreshPrefix)
	if !ok {
		return nil, denied(codeInvalidGrant, reasonGrant, "the refresh token is not one of this gateway")
	}
	if err := h.open(ctx, purposeRefresh, nil, sealed, &f); err != nil {
		return nil, denialOfSealed(err, "the refresh token")
	}
	return &f, nil
}

// exchangeRefresh exchanges a refresh token for new tokens (RFC 6749, section 6). Each use
// replaces it (RFC 9700, section 4.14.2): the next one has the next generation, and one whose
// generation is over ends the sign-in, since two parties must have had it.
func (h *Handler) exchangeRefresh(ctx context.Context, x *exchange) (any, *denial) {
	text := x.form.Get("refresh_token")
	if text == "" {
		return nil, denied(codeInvalidRequest, reasonBadRequest, "refresh_token is missing")
	}
	f, d := h.openRefresh(ctx, text)
	if d != nil {
		return nil, d
	}
	if d := checkApplication(x, &f.session, "the refresh token"); d != nil {
		return nil, d
	}
	x.session(&f.session)
	x.event.Generation = f.Generation
	if d := h.checkTarget(x, &f.session); d != nil {
		return nil, d
	}
	if wait := h.Limits.families.full(f.Accessor, h.Now()); wait > 0 {
		return nil, tooManyTokens(wait)
	}
	t, d := h.lookUp(ctx, x, f.Token)
	if d != nil {
		return nil, d
	}
	until := h.ends(t)
	if sealed := time.Unix(f.Ends, 0); sealed.Before(until) {
		until = sealed // a longer session_max is for sign-ins that begin later
	}
	if d := h.checkSession(t, until); d != nil {
		return nil, h.endAs(ctx, t, d)
	}
	return h.rotate(ctx, x, t, f, until)
}

// rotate gives new tokens, according to the generation of the refresh token. A request to
// Vault may stay without an answer at every step; a repetition of the same request then still
// succeeds.
func (h *Handler) rotate(ctx context.Context, x *exchange, t *vaultclient.PersonToken, f *refresh, until time.Time) (any, *denial) {
	present, began, err := h.People.Generation(ctx, t)
	if err != nil {
		return nil, h.denialOfVault(err)
	}
	event, next := eventRefreshed, f.Generation+1
	switch {
	case f.Generation >= present:
		// Above the stored one: it is authentic by its seal, so a node of Vault lags behind.
	case f.Generation+1 == present && withinGrace(h.vaultNow(t).Sub(began)):
		event, next = eventRepeated, present
	default:
		d := denied(codeInvalidGrant, reasonReplay, "the refresh token was used before: the sign-in has been ended")
		d.event = eventReplayed
		return nil, h.endAs(ctx, t, d)
	}
	creds, d := h.lease(ctx, x, t, &f.session, until)
	if d != nil {
		return nil, d
	}
	life, d := h.renew(ctx, t, until)
	if d != nil {
		return nil, d
	}
	if event == eventRefreshed {
		if err := h.People.SetGeneration(ctx, t, next, h.vaultNow(t)); err != nil {
			return nil, h.denialOfVault(err)
		}
	}
	successor := *f
	successor.Generation = next
	token, err := h.sealRefresh(&successor)
	if err != nil {
		return nil, notNow(reasonUnavailable, err)
	}
	if d := h.recordExchange(x, event); d != nil {
		return nil, d
	}
	return answerOf(creds, life, token), nil
}

// vaultNow is the time by Vault's clock, which is the same for all gateways. It is that of the
// lookup with which the request began.
func (h *Handler) vaultNow(t *vaultclient.PersonToken) time.Time {
	if t.Read.IsZero() {
		return h.Now()
	}
	return t.Read
}

// withinGrace reports whether a generation is that young. Another node of Vault, whose clock
// may be ahead, may have led when it began.
func withinGrace(age time.Duration) bool { return age <= grace && age > -skew }

// lookUp asks Vault about the person's token.
func (h *Handler) lookUp(ctx context.Context, x *exchange, secret string) (*vaultclient.PersonToken, *denial) {
	t, err := h.People.Lookup(ctx, secret)
	if errors.Is(err, vaultclient.ErrDead) {
		d := denied(codeInvalidGrant, reasonOver, "the sign-in has ended")
		d.event = eventEnded
		return nil, d
	}
	if err != nil {
		return nil, h.denialOfVault(err)
	}
	x.event.EntityID = t.EntityID
	return t, nil
}

// checkSession makes sure that the person's token still carries a sign-in.
func (h *Handler) checkSession(t *vaultclient.PersonToken, until time.Time) *denial {
	// Vault rounds to whole seconds, and cannot renew a token in the last of them.
	const least = 2 * time.Second
	if until.Sub(h.Now()) < least {
		d := denied(codeInvalidGrant, reasonOver, "the sign-in has reached its end")
		d.event = eventEnded
		return d
	}
	if reason, words := h.unfit(t); reason != "" {
		// The application is not told which policies the person has.
		d := denied(codeInvalidGrant, reason, "the person's rights in Vault do not fit a sign-in any more")
		d.event, d.detail = eventEnded, words
		return d
	}
	return nil
}

// lease gets an access token from the engine, which counts towards the sign-in's limit. An
// outage of Vault does not: applications try again while it lasts.
func (h *Handler) lease(ctx context.Context, x *exchange, t *vaultclient.PersonToken, s *session, until time.Time) (*vaultclient.Creds, *denial) {
	if wait := h.Limits.families.take(s.Accessor, h.Now()); wait > 0 {
		return nil, tooManyTokens(wait)
	}
	creds, err := h.People.Credentials(ctx, t, s.Identity, vaultclient.CredsRequest{
		Resource: s.Resource, Application: s.Application, ApplicationName: x.app.Name, Login: s.Login, SignInEnds: until,
	})
	switch {
	case vaultclient.IsDenied(err):
		d := denied(codeInvalidGrant, reasonAccess, "Vault does not grant this identity to the person any more")
		d.event, d.detail = eventEnded, err.Error()
		return nil, h.endAs(ctx, t, d)
	case vaultclient.IsRefused(err):
		d := denied(codeInvalidGrant, reasonAccess, "the engine refuses tokens of this identity")
		d.event, d.detail = eventEnded, err.Error()
		return nil, h.endAs(ctx, t, d)
	case err != nil:
		h.Limits.families.giveBack(s.Accessor, h.Now())
		return nil, notNow(reasonUnavailable, err)
	}
	x.issued(creds)
	return creds, nil
}

// renew has the person's token live to the end of the sign-in, and no longer. It returns how
// long Vault lets it live.
func (h *Handler) renew(ctx context.Context, t *vaultclient.PersonToken, until time.Time) (time.Duration, *denial) {
	const slack = 10 * time.Second
	wanted := until.Sub(h.Now())
	life, err := h.People.Renew(ctx, t, wanted)
	switch {
	case errors.Is(err, vaultclient.ErrNoRole):
		return 0, h.endAs(ctx, t, h.denialOfVault(err))
	case err != nil:
		return 0, h.denialOfVault(err)
	case life > wanted+slack:
		d := denied(codeInvalidGrant, reasonTokenKind, "the person's rights in Vault do not fit a sign-in any more")
		d.event, d.detail = eventEnded, "Vault lets the person's token live longer than the sign-in: set token_period=0 at the role of the login"
		return 0, h.endAs(ctx, t, d)
	}
	return life, nil
}

// denialOfVault is the denial for an error of Vault's about the person's token itself.
func (h *Handler) denialOfVault(err error) *denial {
	if !vaultclient.IsDenied(err) && !errors.Is(err, vaultclient.ErrNoRole) {
		return notNow(reasonUnavailable, err)
	}
	d := denied(codeInvalidGrant, reasonOver, "the sign-in has ended")
	d.event, d.detail = eventEnded, err.Error()
	return d
}

// endAs revokes the person's token, with all access tokens of the sign-in, and returns the
// denial. If Vault cannot be told, the sign-in has not ended: the application may try again,
// and is then denied again.
func (h *Handler) endAs(ctx context.Context, t *vaultclient.PersonToken, d *denial) *denial {
	err := h.end(ctx, t)
	if err == nil || vaultclient.IsDenied(err) {
		return d
	}
	later := notNow(reasonUnavailable, err)
	later.detail = "a sign-in that should end (" + d.reason + ") could not be ended: " + later.detail
	return later
}
