package credentials

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// identities compares each child token with its request. A token role allows aliases and
// policies, but it never forces an alias: a token without one would act as the gateway itself.
type identities struct {
	aliases *lru.Cache[string, string] // alias of each entity that was seen
}

// maxIdentities bounds the entities that are remembered.
const maxIdentities = 100_000

func newIdentities() (*identities, error) {
	aliases, err := lru.New[string, string](maxIdentities)
	return &identities{aliases: aliases}, err
}

var (
	errNoEntity  = errors.New("the token has no entity: does the token role allow the alias?")
	errOwnEntity = errors.New("the token has the gateway's own entity: does the token role allow the alias?")
	errOrphan    = errors.New("the token is an orphan, and would outlive the gateway's login: set orphan=false on the token role")
	errBatch     = errors.New("the token is a batch token, which cannot be renewed or revoked: set token_type=service on the token role")
	errFixed     = errors.New("the token cannot be renewed: set renewable=true on the token role")
	errInherits  = errors.New("the entity, or a group of it, adds policies to the token: entities of clients carry none")
)

// check returns why the token must not be used. Nothing was read with it.
func (i *identities) check(c *vaultclient.Child, asked vaultclient.ChildRequest) error {
	switch {
	case c.EntityID == "":
		return errNoEntity
	case c.EntityID == c.Parent.EntityID():
		return errOwnEntity
	case c.Batch:
		return errBatch
	case c.Orphan:
		return errOrphan
	case !c.Renewable:
		return errFixed
	case c.TTL < minLife:
		return fmt.Errorf("the token lives %s: at least %s are needed", c.TTL, minLife)
	case c.TTL > asked.TTL+time.Minute:
		return fmt.Errorf("the token lives %s, and %s were asked for: does the token role have token_period or a longer TTL of its own?", c.TTL, asked.TTL)
	case len(c.IdentityPolicies) > 0:
		return errInherits
	}
	if other, seen := i.aliases.Get(c.EntityID); seen && other != asked.Alias {
		return fmt.Errorf("the token has the entity of another alias, %s: aliases of two clients were merged in Vault", other)
	}
	if err := checkPolicies(c.Policies, asked.Policies); err != nil {
		return err
	}
	i.aliases.Add(c.EntityID, asked.Alias)
	return nil
}

// checkPolicies compares the token's policies with those that were asked for. Vault may add
// the default one.
func checkPolicies(granted, asked []string) error {
	for _, name := range granted {
		if name != "default" && !slices.Contains(asked, name) {
			return fmt.Errorf("the token has the policy %q, which was not asked for", name)
		}
	}
	for _, name := range asked {
		if !slices.Contains(granted, name) {
			return fmt.Errorf("the token lacks the policy %q: add it to allowed_policies of the token role", name)
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
			return nil, &Error{Failure: FailurePath, Err: fmt.Errorf(
				"the client's upstream_policies name %q, which policies of the gateway's block upstream_credentials does not", name)}
		}
	}
	if len(policies) == 0 {
		return nil, &Error{Failure: FailurePath, Err: errors.New("the client's upstream_policies is an empty list: it may have no credentials")}
	}
	return policies, nil
}

// aliasOf is the alias of the client's Vault entity.
func aliasOf(grant *grants.Grant, settings *config.UpstreamCredentials) string {
	return settings.AliasPrefix + ":" + grant.Client
}

// personAlias is the alias of the Vault entity of the person who has signed in; "" if nobody
// has. A colon stands between its parts, so no part may hold one.
func personAlias(grant *grants.Grant, settings *config.UpstreamCredentials) (string, error) {
	s := grant.SignIn
	switch {
	case s == nil:
		return "", nil
	case strings.Contains(s.Login, ":") || strings.Contains(s.Person, ":"):
		return "", errColon
	}
	return settings.AliasPrefix + ":" + s.Login + ":" + s.Person, nil
}

var errColon = errors.New("the name of the person has a colon, which stands between the parts of an alias: " +
	"use another claim as user_claim of the login's role")
