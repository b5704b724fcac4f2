package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

// Kinds of things that are Vault's side of upstream credentials.
const (
	kindUpstream  = "upstream_credentials" // the block of a file
	kindTokenRole = "token-role"
)

// hclUpstream is a block upstream_credentials.
type hclUpstream struct {
	AliasPrefix *string  `hcl:"alias_prefix"`
	Rules       string   `hcl:"rules,optional"`
	Policies    []string `hcl:"policies,optional"`
}

// upstream is how gateways shall lease upstream credentials.
type upstream struct {
	at       place
	prefix   string   // of the aliases that they mint for
	rules    string   // added to the policy of the child tokens
	policies []string // that child tokens may have as well
}

func (d *desired) addUpstream(at place, u hclUpstream) {
	if d.upstream != nil {
		d.mistake(at.of(""), fmt.Errorf("a block %s is in %s already: keep one of them", kindUpstream, d.upstream.at.of("")))
		return
	}
	prefix := provision.AliasPrefix
	if u.AliasPrefix != nil {
		prefix = *u.AliasPrefix
	}
	if err := provision.CheckAliasPrefix(prefix); err != nil {
		d.mistake(at.of("alias_prefix"), fmt.Errorf("%s: field alias_prefix: %w", kindUpstream, err))
	}
	for _, name := range u.Policies {
		if err := provision.CheckUpstreamPolicy(name); err != nil {
			d.mistake(at.of("policies"), fmt.Errorf("%s: field policies: %w", kindUpstream, err))
		}
	}
	d.upstream = &upstream{at: at, prefix: prefix, rules: u.Rules, policies: u.Policies}
}

// planUpstream sets up the token role under which gateways mint child tokens, and their policy.
func (s *session) planUpstream(ctx context.Context) error {
	want := s.desired.upstream
	if want == nil {
		return s.planNoUpstream(ctx)
	}
	accessor, err := provision.TokenAccessor(ctx, s.vault)
	if err != nil {
		return err
	}
	rules := policies.Upstream(accessor, want.rules)
	err = s.planACLPolicy(ctx, policies.UpstreamName, rules, "as it comes with this version, with the rules of the files", func(ctx context.Context) error {
		return provision.Policy(ctx, s.vault, policies.UpstreamName, rules)
	})
	if err != nil {
		return err
	}
	if err := s.refuseSharedAliases(ctx, want); err != nil {
		return err
	}
	warnings, err := s.warnOfPolicies(ctx, want.policies)
	if err != nil {
		return err
	}
	have, err := s.tokenRole(ctx, provision.UpstreamRole)
	if err != nil {
		return err
	}
	settings := provision.UpstreamRoleSettings(want.prefix, want.policies)
	s.add(&step{
		kind: kindTokenRole, name: provision.UpstreamRole, is: verb(have), lines: differences(settings, have), warnings: warnings,
		do: func(ctx context.Context) error {
			for _, warning := range warnings {
				s.warned(warning)
			}
			_, err := s.vault.Logical().WriteWithContext(ctx, provision.UpstreamRolePath, settings)
			return explain(err)
		},
	})
	return nil
}

// planNoUpstream takes away the right to mint that an earlier run gave, if told to prune.
func (s *session) planNoUpstream(ctx context.Context) error {
	p := &step{kind: kindTokenRole, name: provision.UpstreamRole, is: isDelete, do: func(ctx context.Context) error {
		_, err := s.vault.Logical().DeleteWithContext(ctx, provision.UpstreamRolePath)
		return explain(err)
	}}
	if !s.record.own(p) {
		return nil
	}
	have, err := s.tokenRole(ctx, provision.UpstreamRole)
	switch {
	case err != nil:
		return err
	case have == nil: // deleted by hand
		delete(s.record.held, p.key())
	case !s.Prune:
		s.kept = append(s.kept, p.key())
	default:
		s.steps = append(s.steps, p)
	}
	return nil
}

// tokenRole reads a role of Vault's token method; nil if there is none.
func (s *session) tokenRole(ctx context.Context, name string) (map[string]any, error) {
	secret, err := s.vault.Logical().ReadWithContext(ctx, provision.RolesPath+"/"+name)
	if err != nil {
		return nil, fmt.Errorf("cannot read the token role %s: %w", name, explain(err))
	}
	if secret == nil {
		return nil, nil
	}
	return secret.Data, nil
}

var errSharedAliases = errors.New("everybody who may use that role could act as the clients of this broker: choose another prefix, or narrow that role")

// refuseSharedAliases looks for other token roles that mint for the aliases of this broker's clients.
func (s *session) refuseSharedAliases(ctx context.Context, want *upstream) error {
	list, err := s.vault.Logical().ListWithContext(ctx, provision.RolesPath)
	if err != nil {
		return fmt.Errorf("cannot list the token roles: %w", explain(err))
	}
	if list == nil {
		return nil
	}
	names, _ := list.Data["keys"].([]any)
	for _, name := range names {
		if name == provision.UpstreamRole {
			continue
		}
		role, err := s.tokenRole(ctx, fmt.Sprint(name))
		if err != nil {
			return err
		}
		patterns, _ := role["allowed_entity_aliases"].([]any)
		for _, pattern := range patterns {
			if provision.MayMint(fmt.Sprint(pattern), want.prefix) {
				s.desired.mistake(want.at.of("alias_prefix"), fmt.Errorf("%s: field alias_prefix: the token role %v mints for aliases like %v, and so for some like %s: %w",
					kindUpstream, name, pattern, provision.UpstreamAliases(want.prefix), errSharedAliases))
			}
		}
	}
	return nil
}

// warnOfPolicies warns of ACL policies that do not exist, among those that may be read.
func (s *session) warnOfPolicies(ctx context.Context, names []string) ([]string, error) {
	var warnings []string
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		have, err := s.vault.Sys().GetPolicyWithContext(ctx, name)
		var answer *api.ResponseError
		if errors.As(err, &answer) && answer.StatusCode == http.StatusForbidden {
			continue // an administrator of the broker may read the policies whose names begin with mcp-
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the ACL policy %s: %w", name, explain(err))
		}
		if have == "" {
			warnings = append(warnings, fmt.Sprintf("there is no ACL policy %s: a child token that has it may do nothing by it", name))
		}
	}
	return warnings, nil
}
