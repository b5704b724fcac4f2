package signin

import (
	"context"
	"net/http"
	"strings"

	"vault-plugin-secrets-mcp/backend/token"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// revoke is the revocation endpoint (RFC 7009). A refresh token of any generation ends its
// sign-in, with all access tokens. A token that is not known needs no revocation, so the
// answer is 200 as well.
//
// An access token alone ends nothing: its lease belongs to the person's Vault token, which
// only the refresh token holds, and the gateway has no right in Vault to revoke leases or
// tokens of others. So the answer is the one that the RFC has for this, and names the
// token to send.
func (h *Handler) revoke(w http.ResponseWriter, r *http.Request) {
	h.serveExchange(w, r, func(ctx context.Context, x *exchange) (any, *denial) {
		if d := h.authenticate(ctx, x, r.Header); d != nil {
			return nil, d
		}
		text := x.form.Get("token")
		switch {
		case text == "":
			return nil, denied(codeInvalidRequest, reasonBadRequest, "token is missing")
		case strings.HasPrefix(text, token.Prefix), strings.HasPrefix(text, token.SealedPrefix):
			return nil, denied(codeUnsupportedToken, reasonGrant, "an access token cannot be revoked alone and ends after 15 minutes: send the refresh token, which ends both")
		}
		return struct{}{}, h.revokeRefresh(ctx, x, text)
	})
}

func (h *Handler) revokeRefresh(ctx context.Context, x *exchange, text string) *denial {
	f, d := h.openRefresh(ctx, text)
	switch {
	case d == nil:
	case d.code == codeInvalidGrant:
		return nil // not a refresh token, or not a valid one
	default:
		return d
	}
	if d := checkApplication(x, &f.session, "the refresh token"); d != nil {
		return d
	}
	x.session(&f.session)
	x.event.Generation = f.Generation
	// If the token has ended, Vault does not know it, which is the wanted result. If a
	// person's policies do not grant the end, Vault's administrators must end it.
	err := h.end(ctx, vaultclient.NewPersonToken(f.Token))
	if err != nil && !vaultclient.IsDenied(err) {
		return notNow(reasonUnavailable, err)
	}
	if err != nil {
		x.event.Detail = "Vault denies the revocation of the person's token, which it does not accept either: its entity is disabled, or its policies lack auth/token/revoke-self"
	}
	return h.recordExchange(x, eventEnded)
}
