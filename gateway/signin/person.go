package signin

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// People makes requests to Vault with the tokens of those who sign in: a
// [vaultclient.People].
type People interface {
	AuthURL(ctx context.Context, mount, role, redirect, nonce string) (string, error)
	FinishOIDC(ctx context.Context, mount, state, code, nonce string) (*vaultclient.PersonToken, error)
	LoginJWT(ctx context.Context, mount, role, jwt string) (*vaultclient.PersonToken, error)
	Lookup(ctx context.Context, secret string) (*vaultclient.PersonToken, error)
	Renew(ctx context.Context, t *vaultclient.PersonToken, increment time.Duration) (time.Duration, error)
	Revoke(ctx context.Context, t *vaultclient.PersonToken) error
	Capabilities(ctx context.Context, t *vaultclient.PersonToken, paths []string) (map[string][]string, error)
	Wrap(ctx context.Context, t *vaultclient.PersonToken, ttl time.Duration) (string, error)
	Unwrap(ctx context.Context, wrapping string) (string, error)
	Credentials(ctx context.Context, t *vaultclient.PersonToken, client string, r vaultclient.CredsRequest) (*vaultclient.Creds, error)
	CredsPath(client string) string
	Generation(ctx context.Context, t *vaultclient.PersonToken) (n uint64, at time.Time, err error)
	SetGeneration(ctx context.Context, t *vaultclient.PersonToken, n uint64, at time.Time) error
}

var _ People = (*vaultclient.People)(nil)

// unfit says why a token of a login carries no sign-in: a reason for the audit log, and words
// for who set up the login in Vault. "": it does.
func (h *Handler) unfit(t *vaultclient.PersonToken) (reason, words string) {
	switch {
	case t.Batch || t.Accessor == "":
		return reasonTokenKind, "the login gives a batch token, which can be neither renewed nor revoked: set token_type=service at the role"
	case t.Periodic:
		return reasonTokenKind, "the login gives a periodic token, which cannot be shortened: set token_period=0 at the role"
	case !t.Renewable:
		return reasonTokenKind, "the login gives a token that is not renewable, and so cannot be shortened"
	case t.Uses > 0:
		return reasonTokenKind, "the login gives a token for a number of uses: set token_num_uses=0 at the role"
	case t.EntityID == "":
		return reasonTokenKind, "the login gives a token without an entity, so the person is not known: set user_claim at the role"
	}
	if foreign := h.foreignPolicies(t); len(foreign) > 0 {
		return reasonPolicies, "the token has the policy " + foreign[0] + ", which person_policies does not list"
	}
	return "", ""
}

// foreignPolicies returns the policies of the token that person_policies does not list. The
// token's own count, those of its entity and groups, and those in other namespaces, which have
// the namespace before them: an application must not hold the rights of an administrator.
func (h *Handler) foreignPolicies(t *vaultclient.PersonToken) []string {
	var foreign []string
	add := func(namespace string, policies []string) {
		for _, policy := range policies {
			if name := namespace + policy; !h.Settings.AcceptsPolicy(policy) && !slices.Contains(foreign, name) {
				foreign = append(foreign, name)
			}
		}
	}
	add("", t.Policies)
	add("", t.IdentityPolicies)
	for _, namespace := range slices.Sorted(maps.Keys(t.External)) {
		add(strings.TrimSuffix(namespace, "/")+"/", t.External[namespace])
	}
	return foreign
}

// ends returns when a sign-in ends at the latest: session_max after its login. Vault does not
// ask the identity provider again, so this bounds how long its word is good.
func (h *Handler) ends(t *vaultclient.PersonToken) time.Time {
	return t.Created.Add(h.Settings.SessionMax)
}

// endTimeout bounds the revocation of a sign-in.
const endTimeout = 10 * time.Second

// end revokes the person's Vault token, and with it every access token of the sign-in. It goes
// on when the application has hung up.
func (h *Handler) end(ctx context.Context, t *vaultclient.PersonToken) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	return h.People.Revoke(ctx, t)
}
