package signin

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"vault-plugin-secrets-mcp/gateway/signin/page"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// mayKeep reports why a person's token may not be kept for an application: it is of a kind
// that cannot carry a sign-in, or it can do more than person_policies allows. Nil: it may. A
// group that the person has joined since the login counts too, so a refresh asks again.
func (h *Handler) mayKeep(t *vaultclient.PersonToken) *refusal {
	reason, words := h.unfit(t)
	switch reason {
	case "":
		return nil
	case reasonPolicies:
		return &refusal{
			status: http.StatusForbidden, page: page.Administrator(h.foreignPolicies(t)), reason: reason, detail: words,
		}
	}
	return tokenKind(words)
}

// tokenKind is the refusal of a login whose tokens cannot carry a sign-in.
func tokenKind(detail string) *refusal {
	return &refusal{status: http.StatusForbidden, page: page.TokenKind(detail), reason: reasonTokenKind, detail: detail}
}

// ownPaths are the capabilities that a person's token needs for itself, until the end of the
// sign-in. Vault's policy default grants all of it, and so does mcp-person.
var ownPaths = []struct {
	path         string
	capabilities []string
}{
	{"auth/token/renew-self", []string{"update"}},
	{"auth/token/revoke-self", []string{"update"}},
	{"sys/wrapping/wrap", []string{"update"}},
	{"cubbyhole/mcp-sign-in/", []string{"list"}}, // with the slash: Vault judges a list by it
	{"cubbyhole/mcp-sign-in/1", []string{"create", "read", "update"}},
}

// shorten has a person's token end in ten minutes, so that a sign-in that nobody finishes
// leaves nothing behind.
func (h *Handler) shorten(ctx context.Context, t *vaultclient.PersonToken) *refusal {
	const slack = 10 * time.Second
	life, err := h.People.Renew(ctx, t, transactionLife)
	switch {
	case vaultclient.IsDenied(err):
		return tokenKind(lacks("auth/token/renew-self", "update"))
	case vaultclient.IsRefused(err):
		return tokenKind("Vault does not renew its tokens: " + vaultWords(err))
	case err != nil:
		return unavailable(reasonUnavailable, err)
	case life > transactionLife+slack:
		return tokenKind("Vault does not shorten its tokens.")
	}
	return nil
}

func lacks(path, capability string) string {
	return fmt.Sprintf("Its tokens lack the capability %q for %s: give the role the policy mcp-person, or leave token_no_default_policy unset.", capability, path)
}

// identity is a client of the engine as which a person may let an application act.
type identity struct {
	name string
	vaultclient.SignInClient
}

// identities returns those of the person's token, in the order of their names: the clients
// that the engine has for sign-in, and for which Vault's ACL lets the token get credentials.
// It refuses a token that lacks some of ownPaths.
func (h *Handler) identities(ctx context.Context, t *vaultclient.PersonToken) ([]identity, *refusal) {
	list, err := h.Engine.SignIn(ctx)
	if err != nil {
		return nil, unavailable(reasonUnavailable, err)
	}
	names := slices.Sorted(maps.Keys(list.Clients))
	paths := make([]string, 0, len(names)+len(ownPaths))
	for _, own := range ownPaths {
		paths = append(paths, own.path)
	}
	for _, name := range names {
		paths = append(paths, h.People.CredsPath(name))
	}
	may, err := h.People.Capabilities(ctx, t, paths)
	switch {
	case vaultclient.IsDenied(err):
		return nil, tokenKind(lacks("sys/capabilities-self", "update"))
	case err != nil:
		return nil, unavailable(reasonUnavailable, err)
	}
	for _, own := range ownPaths {
		for _, capability := range own.capabilities {
			if !slices.Contains(may[own.path], capability) {
				return nil, tokenKind(lacks(own.path, capability))
			}
		}
	}
	var found []identity
	for _, name := range names {
		if slices.Contains(may[h.People.CredsPath(name)], "update") {
			found = append(found, identity{name, list.Clients[name]})
		}
	}
	return found, nil
}

// abandon revokes a person's token that is not kept, with all that hangs on it.
func (h *Handler) abandon(ctx context.Context, t *vaultclient.PersonToken) {
	if err := h.end(ctx, t); err != nil {
		h.Log.Warn("the Vault token of a sign-in that has ended could not be revoked: it ends by its TTL", "accessor", t.Accessor, "error", err)
	}
}
