package check

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// The values of seal: the form in which tokens are handed out.
const (
	SealNone = "none"
	SealKMS  = "kms" // sealed under a data key that AWS KMS wraps
)

// Why a token is not taken for what else the mount holds.
var (
	ErrTokenInUse    = errors.New("this token is in use: choose another")
	ErrTokenReplaced = errors.New("this is one of the client's earlier tokens, in its grace period: choose a new one")
	ErrNoKMS         = errors.New("AWS KMS is not configured for this mount: write config/kms first")
)

// Client has the fields that a caller may set on a client.
type Client struct {
	Rights

	// Role names a role whose rights the client has, too. "": it has none.
	Role string `json:"role,omitempty"`

	Policies        []string          `json:"policies,omitempty"`
	TokenTTL        time.Duration     `json:"token_ttl,omitempty"`
	TokenMaxTTL     time.Duration     `json:"token_max_ttl,omitempty"`
	TokenBoundCIDRs []string          `json:"token_bound_cidrs,omitempty"`
	Metadata        map[string]string `json:"metadata,omitempty"`
	Seal            string            `json:"seal,omitempty"` // "": as the mount's
	Disabled        bool              `json:"disabled,omitempty"`

	// UpstreamPolicies are the Vault policies of the tokens with which gateways read the
	// credentials of servers for the client. nil: all that the gateway's file has; empty: none.
	UpstreamPolicies []string `json:"upstream_policies,omitzero"`

	// SignIn: people and machines who sign in may get tokens of the client, each for one
	// resource.
	SignIn bool `json:"sign_in,omitempty"`
}

// Check refuses settings that no client can have. Things that they name need not exist.
func (c *Client) Check() Problems {
	var p Problems
	checkSeal(&p, c.Seal)
	c.Rights.check(&p)
	if c.Role != "" {
		p.wrap("role", RoleName(c.Role))
	}
	for _, name := range c.Policies {
		p.wrap("policies", PolicyName(name))
	}
	for _, name := range c.UpstreamPolicies {
		p.wrap("upstream_policies", VaultPolicyName(name))
	}
	for _, block := range c.TokenBoundCIDRs {
		p.wrap("token_bound_cidrs", cidr(block))
	}
	if c.TokenMaxTTL > 0 && c.TokenTTL > c.TokenMaxTTL {
		p.add("token_ttl", "field token_ttl: %s is above token_max_ttl (%s)", c.TokenTTL, c.TokenMaxTTL)
	}
	c.checkSize(&p)
	return p
}

// checkSeal refuses any other value; "" leaves the choice to the mount.
func checkSeal(p *Problems, seal string) {
	if seal != "" && seal != SealNone && seal != SealKMS {
		p.add("seal", "field seal: %q is not a valid seal: use %s or %s", seal, SealNone, SealKMS)
	}
}

func cidr(block string) error {
	if _, err := netip.ParseAddr(block); err == nil {
		return nil
	}
	prefix, err := netip.ParsePrefix(block)
	switch {
	case err != nil:
		return fmt.Errorf("%q is neither an IP address nor a CIDR block such as 10.0.0.0/8", block)
	case prefix != prefix.Masked():
		return fmt.Errorf("%q has bits set beyond its mask; did you mean %s?", block, prefix.Masked())
	}
	return nil
}

// NoSuchPolicy is the warning about a name in policies without such a policy.
func NoSuchPolicy(name string) string {
	return fmt.Sprintf("there is no policy %q: until there is, the client reaches no server (policies/%s)", name, name)
}
