package provision

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/policies"
)

// Upstream credentials: a gateway mints child tokens under a token role, each for an alias
// `<prefix>:<client>`, and reads the credentials with them.
const (
	// UpstreamRole is the token role.
	UpstreamRole = "mcp-upstream"
	// UpstreamRolePath is its path in Vault.
	UpstreamRolePath = RolesPath + "/" + UpstreamRole
	// RolesPath is where Vault's token method has its roles.
	RolesPath = "auth/token/roles"
	// AliasPrefix is the prefix unless an administrator names another.
	AliasPrefix = "mcp"
)

// maxPrefix bounds a prefix, which is a part of each alias, in bytes.
const maxPrefix = 32

// aliasPrefix begins and ends as a value in a path of Vault must.
var aliasPrefix = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// CheckAliasPrefix refuses a prefix that could be read in two ways: in an alias a colon ends
// it, and for a role an asterisk stands for any text.
func CheckAliasPrefix(prefix string) error {
	if !aliasPrefix.MatchString(prefix) || len(prefix) > maxPrefix {
		return fmt.Errorf("%q is not a valid prefix: take at most %d small letters, digits and -, with a letter or a digit at both ends, such as mcp; the colon behind it is added",
			prefix, maxPrefix)
	}
	return nil
}

// reserved are policies that no child token may have, with the reason.
var reserved = map[string]string{
	"root":               "it may do everything",
	policies.AdminName:   "it is for administrators of the broker",
	policies.GatewayName: "it is for gateways, and a child of a gateway could then mint as well",
	policies.ClientName:  "it is for the logins of MCP clients",
}

// policyName is the form of an ACL policy's name that Vault neither changes nor expands.
var policyName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// CheckUpstreamPolicy refuses the name of an ACL policy that no child token may have.
func CheckUpstreamPolicy(name string) error {
	if !policyName.MatchString(name) {
		return fmt.Errorf("%q is not a valid name of an ACL policy here: take small letters, digits, dots, _ and -", name)
	}
	if why := reserved[name]; why != "" {
		return fmt.Errorf("no child token may have the policy %s: %s. Write a policy with the secrets alone", name, why)
	}
	return nil
}

// UpstreamAliases is the pattern of the aliases with a prefix, as the token role has it.
func UpstreamAliases(prefix string) string { return prefix + ":*" }

// PrefixOf is the prefix in such a pattern; "" if the pattern is another one.
func PrefixOf(pattern string) string {
	prefix, found := strings.CutSuffix(pattern, ":*")
	if !found || CheckAliasPrefix(prefix) != nil {
		return ""
	}
	return prefix
}

// ClientAlias is the alias of a client.
func ClientAlias(prefix, client string) string { return prefix + ":" + client }

// UpstreamRoleSettings are those of the token role, as they are written and read back. more
// are the policies that its children may have besides mcp-upstream.
//
// The children are children of the gateway's own token, so that they end with it; service
// tokens, so that they can be renewed and revoked; and have only policies that were
// named.
func UpstreamRoleSettings(prefix string, more []string) map[string]any {
	allowed := append([]string{policies.UpstreamName}, more...)
	slices.Sort(allowed)
	return map[string]any{
		"allowed_entity_aliases":  []string{UpstreamAliases(prefix)},
		"allowed_policies":        slices.Compact(allowed),
		"allowed_policies_glob":   []string{},
		"orphan":                  false,
		"renewable":               true,
		"token_type":              "service",
		"token_no_default_policy": true,
		"token_period":            0,
		"token_explicit_max_ttl":  0,
	}
}

// Upstream makes the token role and the policy of the child tokens.
func Upstream(ctx context.Context, client *api.Client, prefix string, more []string) error {
	accessor, err := TokenAccessor(ctx, client)
	if err != nil {
		return err
	}
	if err := Policy(ctx, client, policies.UpstreamName, policies.Upstream(accessor, "")); err != nil {
		return err
	}
	if _, err := client.Logical().WriteWithContext(ctx, UpstreamRolePath, UpstreamRoleSettings(prefix, more)); err != nil {
		return fmt.Errorf("cannot write the token role %s: %w", UpstreamRole, connect.Explain(err))
	}
	return nil
}

var errNoTokenMethod = errors.New("token/ is not among Vault's auth methods")

// TokenAccessor is the accessor of Vault's token method.
func TokenAccessor(ctx context.Context, client *api.Client) (string, error) {
	auths, err := client.Sys().ListAuthWithContext(ctx)
	if err != nil {
		return "", fmt.Errorf("cannot list Vault's auth methods: %w", connect.Explain(err))
	}
	method := auths["token/"]
	if method == nil {
		return "", errNoTokenMethod
	}
	return method.Accessor, nil
}

// MayMint reports whether a token role's pattern for aliases admits one with the prefix. It
// errs towards yes: of a pattern only the text before its first asterisk counts.
func MayMint(pattern, prefix string) bool {
	first := prefix + ":"
	literal, _, wild := strings.Cut(strings.ToLower(pattern), "*") // Vault compares without case
	return strings.HasPrefix(literal, first) || wild && strings.HasPrefix(first, literal)
}
