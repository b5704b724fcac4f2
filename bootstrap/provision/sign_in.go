package provision

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/policies"
)

// Sign-in: people log in at an oidc method of Vault that is there for nothing else. So the
// entities of that method are not those with which people administer Vault.
const (
	// SignInMount is where the method is, unless a file names another place.
	SignInMount = "oidc-mcp"
	// SignInRole is the name of its role.
	SignInRole = "mcp"
	// SignInCallback is the path at a gateway that the identity provider sends people back to.
	SignInCallback = "/sign-in/callback"
	// SessionMax is how long a sign-in lasts at most, unless a file says otherwise.
	SessionMax = 12 * time.Hour
	// personTTL is the TTL of a token after a login. The gateway renews the token when the
	// person has consented; a login that nobody finishes leaves no token after that time.
	personTTL = 10 * time.Minute
)

// Bounds of a sign-in's life.
const (
	minSessionMax = 15 * time.Minute
	maxSessionMax = 720 * time.Hour
)

// CheckSessionMax refuses a life that gateways refuse.
func CheckSessionMax(d time.Duration) error {
	if d < minSessionMax || d > maxSessionMax {
		return fmt.Errorf("%s is not between %s and %s", d, minSessionMax, maxSessionMax)
	}
	return nil
}

// roleName is the form of the name of a login's role.
var roleName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// CheckRoleName refuses the name of a role that apply does not make.
func CheckRoleName(name string) error {
	if !roleName.MatchString(name) {
		return fmt.Errorf("%q is not a valid name of a role here: take at most 32 small letters, digits and -, with a letter or a digit first", name)
	}
	return nil
}

// mountPath is the form of the path of an auth method here.
var mountPath = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_-]*)*$`)

// CheckAuthMount refuses a path at which apply does not make an auth method.
func CheckAuthMount(path string) error {
	if !mountPath.MatchString(path) {
		return fmt.Errorf("%q is not a valid path here: take small letters, digits, - and _, such as %s", path, SignInMount)
	}
	return nil
}

var errPublicURL = errors.New("it must be https, or http on the loopback, and have no path, query or user: it is the listener.public_url of the gateways")

// CheckPublicURL refuses a URL under which gateways do not offer sign-in.
func CheckPublicURL(text string) error {
	parsed, err := url.Parse(text)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a valid URL: %w", text, errPublicURL)
	case parsed.Scheme == "https" && parsed.Hostname() != "":
	case parsed.Scheme == "http" && isLoopback(parsed.Hostname()):
	default:
		return fmt.Errorf("%q is not a URL for sign-in: %w", text, errPublicURL)
	}
	if strings.Trim(parsed.Path, "/") != "" || parsed.RawQuery != "" || parsed.Fragment != "" || parsed.User != nil {
		return fmt.Errorf("%q is not a URL for sign-in: %w", text, errPublicURL)
	}
	return nil
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// PersonRole is how a role is to be under which people sign in.
type PersonRole struct {
	UserClaim   string
	GroupsClaim string
	// BoundClaims are claims that people must have, with these values.
	BoundClaims  map[string]string
	Scopes       []string
	RedirectURIs []string
	// Clients are those of the engine that everybody may act as who logs in.
	Clients []string
	// Policies are more ACL policies of people's tokens.
	Policies   []string
	SessionMax time.Duration
}

// Settings are those of the role in Vault, as they are written and read back. Times are in
// seconds. People get service tokens, since only those have a cubbyhole, in which gateways
// keep the generations of refresh tokens, and without Vault's default policy, since mcp-person
// has all that a sign-in needs. Nothing of an ID token goes into Vault's log.
func (r PersonRole) Settings() map[string]any {
	granted := append([]string{policies.PersonName}, r.Policies...)
	for _, client := range r.Clients {
		granted = append(granted, policies.PersonClientName(client))
	}
	slices.Sort(granted)
	return map[string]any{
		"role_type":               "oidc",
		"user_claim":              r.UserClaim,
		"groups_claim":            r.GroupsClaim,
		"bound_claims":            orNone(r.BoundClaims),
		"oidc_scopes":             orEmpty(r.Scopes),
		"allowed_redirect_uris":   orEmpty(r.RedirectURIs),
		"token_policies":          slices.Compact(granted),
		"token_no_default_policy": true,
		"token_type":              "service",
		"token_period":            0,
		"token_num_uses":          0,
		"token_ttl":               int64(personTTL / time.Second),
		"token_max_ttl":           int64(r.SessionMax / time.Second),
		"token_explicit_max_ttl":  0,
		"verbose_oidc_logging":    false,
	}
}

func orNone(values map[string]string) map[string]string {
	if values == nil {
		return map[string]string{}
	}
	return values
}

func orEmpty(values []string) []string {
	if values == nil {
		return []string{}
	}
	return values
}

// PersonPolicies are the policies of people's Vault tokens that gateways accept, unless
// their files say otherwise: names, and beginnings of names with an asterisk.
func PersonPolicies() []string { return []string{"default", policies.PersonName + "*"} }

// CheckPersonPolicy refuses the name of an ACL policy that no person's token may have.
func CheckPersonPolicy(name string) error {
	if !policyName.MatchString(name) {
		return fmt.Errorf("%q is not a valid name of an ACL policy here: take small letters, digits, dots, _ and -", name)
	}
	if why := reserved[name]; why != "" {
		return fmt.Errorf("no token of a person who signs in may have the policy %s: %s", name, why)
	}
	return nil
}

// SignInGroup is the name in Vault of the external group that stands for a group at a login's
// identity provider.
func SignInGroup(login, group string) string {
	return "mcp-" + login + "-" + strings.ToLower(url.PathEscape(group))
}
