package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

const (
	applyUpstream = "put a block upstream_credentials into the files of `mcp-bootstrap apply`, and run it (docs/bootstrap.md)"
	useAdmin      = "use a token with the policy " + policies.AdminName
)

// checkUpstream looks at upstream credentials: the token role under which gateways mint, what
// they ask for, the policies of the child tokens, and the entities of the clients' aliases.
// Without the role nothing is said, unless a server or the gateway's file needs it.
func (e *examination) checkUpstream(ctx context.Context) {
	before := e.findings
	e.checkUpstreamBlock()
	role, err := e.ask(ctx, e.rolePath())
	switch {
	case err != nil:
		e.wrong(useAdmin, "the token role %s cannot be read: %s", e.role(), connect.Reason(err))
		return
	case role == nil && e.upstreamBlock() != nil:
		e.wrong(applyUpstream+", which makes "+provision.UpstreamRole+"; or correct token_role in "+e.GatewayConfig,
			"the token role %s, which %s names, is missing: the gateway can lease nothing", e.role(), e.GatewayConfig)
		return
	case role == nil && len(e.leasing) > 0:
		e.wrong(applyUpstream+"; where gateways mint under another token role, name their file with -gateway-config",
			"the token role %s is missing: no gateway can lease the credentials of %s", e.role(), strings.Join(e.leasing, ", "))
		return
	case role == nil:
		return
	}
	e.checkTokenRole(role)
	e.checkMints(ctx, role)
	e.checkChildPolicies(ctx, texts(role["allowed_policies"]))
	prefix := provision.PrefixOf(strings.Join(texts(role["allowed_entity_aliases"]), ","))
	entities := 0
	if prefix != "" { // of any other pattern checkTokenRole has told
		e.checkOtherRoles(ctx, prefix)
		entities = e.checkEntities(ctx, prefix)
	}
	e.checkLoginOfMinters(ctx)
	if before == e.findings {
		e.ok("gateways mint under the token role %s, for the aliases %s alone; entities: %d, each without policies and in no group",
			e.role(), provision.UpstreamAliases(prefix), entities)
	}
}

// checkTokenRole compares the role with the one that apply writes, but for the prefix and the
// names of policies.
func (e *examination) checkTokenRole(role map[string]any) {
	aliases, allowed := texts(role["allowed_entity_aliases"]), texts(role["allowed_policies"])
	named := func(settings string) string {
		return fmt.Sprintf("run `mcp-bootstrap apply`, or: vault write %s %s", e.rolePath(), settings)
	}
	for _, check := range []struct {
		bad      bool
		settings string
		text     string
	}{
		{
			len(aliases) != 1 || provision.PrefixOf(aliases[0]) == "", "allowed_entity_aliases='mcp:*'",
			fmt.Sprintf("mints for the aliases %v, and not for one prefix with a colon alone: a stolen gateway login could act as identities that are not clients", aliases),
		},
		{
			!slices.Contains(allowed, policies.UpstreamName), "allowed_policies=" + strings.Join(append(allowed, policies.UpstreamName), ","),
			"does not allow the policy " + policies.UpstreamName + ", by which a child token renews and revokes itself",
		},
		{
			len(texts(role["allowed_policies_glob"])) > 0, `allowed_policies_glob=""`,
			fmt.Sprintf("allows policies by the patterns %v: name each policy", texts(role["allowed_policies_glob"])),
		},
		{role["orphan"] != false, "orphan=false", "makes orphans, which outlive the gateway's login"},
		{role["renewable"] != true, "renewable=true", "makes tokens that cannot be renewed, so that credentials end with their first TTL"},
		{role["token_type"] != "service", "token_type=service", fmt.Sprintf("makes %v tokens, and a batch token can be neither renewed nor revoked", role["token_type"])},
		{role["token_no_default_policy"] != true, "token_no_default_policy=true", "gives child tokens Vault's default policy as well"},
		{fmt.Sprint(role["token_period"]) != "0", "token_period=0", "makes periodic tokens: the TTL that a gateway asks for then has no effect"},
	} {
		if check.bad {
			e.wrong(named(check.settings), "the token role %s %s", e.role(), check.text)
		}
	}
	for _, name := range allowed {
		if err := provision.CheckUpstreamPolicy(name); err != nil {
			e.wrong("take the policy out of upstream_credentials, or of the role's allowed_policies", "the token role %s allows the policy %s: %v", e.role(), name, err)
		}
	}
}

// ownRights are the paths by which a child token keeps and ends itself, with the capability on
// each.
var ownRights = map[string]string{
	"auth/token/lookup-self": "read", "auth/token/renew-self": "update",
	"auth/token/revoke-self": "update", "sys/leases/renew": "update",
}

var sortedRights = slices.Sorted(maps.Keys(ownRights))

// checkChildPolicies looks whether the policies of the child tokens are there, of those that
// may be read.
func (e *examination) checkChildPolicies(ctx context.Context, names []string) {
	for _, name := range names {
		rules, err := e.vault.Sys().GetPolicyWithContext(ctx, name)
		switch {
		case err != nil:
			continue // an administrator of the broker may read those whose names begin with mcp-
		case rules == "":
			e.wrong("write it, or take its name out of the role", "the ACL policy %s of the token role %s is missing: a child token that has it may do nothing by it", name, provision.UpstreamRole)
			continue
		case name != policies.UpstreamName:
			continue
		}
		for _, path := range sortedRights {
			if !strings.Contains(rules, `"`+path+`"`) {
				e.wrong("run `mcp-bootstrap apply`, or add the rule from bootstrap/policies/mcp-upstream.hcl", "the ACL policy %s has no rule for %s, which every child token needs", name, path)
			}
		}
	}
}

// checkOtherRoles looks for token roles that mint for the same aliases.
func (e *examination) checkOtherRoles(ctx context.Context, prefix string) {
	list, err := e.vault.Logical().ListWithContext(ctx, provision.RolesPath)
	if err != nil || list == nil {
		e.wrong(useAdmin, "the token roles cannot be listed, so whether another one mints for the same aliases is not known")
		return
	}
	for _, name := range texts(list.Data["keys"]) {
		if name == e.role() {
			continue
		}
		role, err := e.ask(ctx, provision.RolesPath+"/"+name)
		if err != nil {
			e.wrong(useAdmin, "the token role %s cannot be read: %s", name, connect.Reason(err))
			continue
		}
		for _, pattern := range texts(role["allowed_entity_aliases"]) {
			if provision.MayMint(pattern, prefix) {
				e.wrong("narrow its allowed_entity_aliases, or give this broker another alias_prefix",
					"the token role %s mints for aliases like %s, and so for some like %s: everybody who may use it can act as clients of this broker",
					name, pattern, provision.UpstreamAliases(prefix))
			}
		}
	}
}

// checkEntities looks for clients' entities that bring more to a child token than its role
// allows. It returns how many entities there are.
func (e *examination) checkEntities(ctx context.Context, prefix string) int {
	accessor, err := provision.TokenAccessor(ctx, e.vault)
	if err != nil {
		e.wrong(useAdmin, "%v", err)
		return 0
	}
	list, err := e.vault.Logical().ListWithContext(ctx, "identity/entity-alias/id")
	if err != nil {
		e.wrong(useAdmin, "the aliases of entities cannot be listed, so whether one carries policies is not known: %s", connect.Reason(err))
		return 0
	}
	if list == nil {
		return 0
	}
	aliases, _ := list.Data["key_info"].(map[string]any)
	count := 0
	for _, id := range slices.Sorted(maps.Keys(aliases)) {
		alias, _ := aliases[id].(map[string]any)
		name := fmt.Sprint(alias["name"])
		if alias["mount_accessor"] == accessor && strings.HasPrefix(name, prefix+":") {
			count++
			e.checkEntity(ctx, name, fmt.Sprint(alias["canonical_id"]))
		}
	}
	return count
}

func (e *examination) checkEntity(ctx context.Context, alias, id string) {
	path := "identity/entity/id/" + id
	entity, err := e.ask(ctx, path)
	if err != nil || entity == nil {
		e.wrong(useAdmin, "the entity of %s cannot be read, so whether it carries policies is not known", alias)
		return
	}
	if carried := texts(entity["policies"]); len(carried) > 0 {
		e.wrong(fmt.Sprintf(`vault write %s policies=""`, path), "the entity of %s carries the policies %v: each child token of the client has them too, so gateways refuse it", alias, carried)
	}
	if groups := texts(entity["group_ids"]); len(groups) > 0 {
		e.wrong("take the entity "+id+" out of the groups: vault read identity/group/id/"+groups[0], "the entity of %s is in a group: each child token of the client has the group's policies too", alias)
	}
	if others, _ := entity["aliases"].([]any); len(others) > 1 {
		e.wrong("give each alias an entity of its own: vault read "+path, "the entity of %s has other aliases as well: a child token of the client reads as each of them", alias)
	}
	if entity["disabled"] == true {
		e.wrong(fmt.Sprintf("vault write %s disabled=false, or vault write %s/clients/NAME disabled=true", path, e.Mount), "the entity of %s is disabled: no gateway can lease for the client", alias)
	}
}
