package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// UpstreamCredentials lets the gateway lease credentials for servers from Vault, as the
// client that uses them.
type UpstreamCredentials struct {
	// TokenRole, token_role, required: the role under auth/token/roles with which the gateway
	// makes a Vault token for each client and server.
	TokenRole string
	// Policies, policies, required: the Vault policies of these tokens. A client's
	// upstream_policies may name a part of them.
	Policies []string
	// AliasPrefix, alias_prefix, stands before the client's name in the alias of its Vault
	// entity, with a colon between them. Each mount of the engine has its own. Default: "mcp".
	AliasPrefix string
	// TokenTTL, token_ttl, is the life of these tokens, which the gateway renews. When the
	// gateway dies, its credentials live that long. Default: 10m.
	TokenTTL time.Duration
	// IdleTimeout, idle_timeout, ends credentials that were not used for this time. Default:
	// 10m.
	IdleTimeout time.Duration
	// MaxLeases, max_leases, bounds the credentials of this gateway. Default: 10000.
	MaxLeases int
	// MaxLeasesPerClient, max_leases_per_client, bounds those of one client. Default: 32.
	MaxLeasesPerClient int
	// MintRate, mint_rate, bounds the Vault tokens that are made a second. Default: 50.
	MintRate float64
}

var (
	prefixForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	roleForm     = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$`)
	maxPrefixLen = 32
)

func (d *decoder) upstreamCredentials(s *section) *UpstreamCredentials {
	c := &UpstreamCredentials{
		TokenRole:          s.str("token_role", ""),
		Policies:           s.list("policies"),
		AliasPrefix:        s.str("alias_prefix", "mcp"),
		TokenTTL:           s.duration("token_ttl", 10*time.Minute, 5*time.Second, time.Hour),
		IdleTimeout:        s.duration("idle_timeout", 10*time.Minute, time.Second, 24*time.Hour),
		MaxLeases:          s.integer("max_leases", 10_000, 1, 1_000_000),
		MaxLeasesPerClient: s.integer("max_leases_per_client", 32, 1, 10_000),
		MintRate:           s.number("mint_rate", 50, 0.1, 10_000),
	}
	s.required("token_role", c.TokenRole)
	if c.TokenRole != "" && !roleForm.MatchString(c.TokenRole) {
		s.bad("token_role", "%q is not a valid name of a role: write the part behind auth/token/roles/", c.TokenRole)
	}
	if len(c.Policies) == 0 {
		d.problem(s.body.MissingItemRange(), "upstream_credentials needs policies: the Vault policies with which credentials are read, such as [\"mcp-upstream\"]")
	}
	for _, name := range c.Policies {
		switch {
		case name == "root":
			s.bad("policies", "the policy root would let every server's credentials be anything")
		case name != strings.ToLower(name) || strings.TrimSpace(name) != name || name == "":
			s.bad("policies", "%q is not a valid name of a policy: Vault's names have no upper-case letters and no spaces at the ends", name)
		}
	}
	if slices.Sort(c.Policies); len(slices.Compact(slices.Clone(c.Policies))) != len(c.Policies) {
		s.bad("policies", "a policy is named twice")
	}
	if !prefixForm.MatchString(c.AliasPrefix) || len(c.AliasPrefix) > maxPrefixLen {
		s.bad("alias_prefix", "%q is not a valid prefix: use at most %d lower-case letters, digits and - with a letter or digit at both ends", c.AliasPrefix, maxPrefixLen)
	}
	s.end()
	return c
}

// checkCredentialPaths refuses patterns that match nothing, or anything.
func (s *section) checkCredentialPaths(patterns []string) {
	for _, pattern := range patterns {
		literal := strings.TrimSuffix(pattern, "*")
		switch {
		case literal == "":
			s.bad("credential_paths", "%q matches every path: leave the setting out, or name the paths", pattern)
		case strings.Contains(literal, "*"), strings.HasPrefix(literal, "/"), strings.Contains(literal, "//"):
			s.bad("credential_paths", "%q is not a valid pattern: write a path such as database/creds/orders-ro, with one * at its end at most", pattern)
		}
	}
}

// credentialWarnings are about settings with which no credential can be had. Whether a role of
// an auth method gives batch tokens, Vault alone knows.
func (c *Config) credentialWarnings() []string {
	var warnings []string
	if c.UpstreamCredentials == nil {
		for name, upstream := range c.Upstreams {
			if upstream.CredentialPaths != nil {
				warnings = append(warnings, fmt.Sprintf("upstream %q: credential_paths has no effect without a block upstream_credentials: the gateway leases no credentials", name))
			}
		}
		slices.Sort(warnings)
		return warnings
	}
	if s := c.Stdio; s != nil && s.UIDs.Count > 0 && int64(s.UIDs.Count) < 2*int64(s.MaxChildren) {
		warnings = append(warnings, fmt.Sprintf("stdio: uid_range has %d accounts for max_children = %d: while a child is replaced by one with newer "+
			"credentials, it needs two: give it up to twice as many", s.UIDs.Count, s.MaxChildren))
	}
	if path := c.Vault.Auth.TokenFile; path != "" {
		if batch, err := HoldsBatchToken(path); err == nil && batch { // of a file that is not there yet, nothing is known
			warnings = append(warnings, fmt.Sprintf("auth: %s holds a batch token, which can make no token for a client, so servers with credentials "+
				"cannot be reached: have it written by a login whose role has token_type=service", path))
		}
	}
	return warnings
}

var errNotRegular = errors.New("it is not a regular file")

// HoldsBatchToken reports whether a file holds a batch token of Vault, by the prefix of its
// tokens. A batch token can make no other.
func HoldsBatchToken(path string) (bool, error) {
	const prefix, most = "hvb.", 64 // no more of it is needed
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return false, errors.Join(err, errNotRegular) // a pipe would hold us up
	}
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	start, err := io.ReadAll(io.LimitReader(file, most))
	return strings.HasPrefix(strings.TrimSpace(string(start)), prefix), err
}

// AllowsCredential reports whether a registration may ask for the credential at the path.
func (u *Upstream) AllowsCredential(path string) bool {
	if u.CredentialPaths == nil {
		return true
	}
	return slices.ContainsFunc(u.CredentialPaths, func(pattern string) bool {
		prefix, open := strings.CutSuffix(pattern, "*")
		return path == pattern || open && strings.HasPrefix(path, prefix)
	})
}
