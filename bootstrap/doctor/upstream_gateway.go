package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/gateway/config"
)

// upstreamBlock is the block upstream_credentials of the gateway's file; nil if the file has
// none, or was not read.
func (e *examination) upstreamBlock() *config.UpstreamCredentials {
	if e.gateway == nil {
		return nil
	}
	return e.gateway.UpstreamCredentials
}

// role is the token role under which gateways mint: that of the gateway's file, or the one
// that apply makes.
func (e *examination) role() string {
	if block := e.upstreamBlock(); block != nil {
		return block.TokenRole
	}
	return provision.UpstreamRole
}

func (e *examination) rolePath() string { return provision.RolesPath + "/" + e.role() }

// checkUpstreamBlock looks whether the gateway's file switches upstream credentials on, where
// servers have some.
func (e *examination) checkUpstreamBlock() {
	if e.gateway == nil || e.upstreamBlock() != nil || len(e.leasing) == 0 {
		return
	}
	e.wrong(fmt.Sprintf("add to it: upstream_credentials { … }, with token_role = %q and policies = [%q] on lines of their own (docs/gateway.md)", provision.UpstreamRole, policies.UpstreamName),
		"the gateway refuses each request to %s: %s has no block upstream_credentials", strings.Join(e.leasing, ", "), e.GatewayConfig)
}

// checkMints compares what gateways ask for with what the token role allows.
func (e *examination) checkMints(ctx context.Context, role map[string]any) {
	if block := e.upstreamBlock(); block != nil {
		e.checkPrefixOf(block, role)
		e.checkAsked(ctx, role, asked{
			policies: block.Policies, whose: "the block upstream_credentials of " + e.GatewayConfig,
			setting: "policies in that file",
		})
	}
	for _, name := range e.leasing {
		e.checkAsked(ctx, role, asked{
			policies: e.tokenPolicies[name], whose: "vault_policies of the server " + name,
			setting: fmt.Sprintf("vault_policies of %s/servers/%s", e.Mount, name),
		})
	}
}

func (e *examination) checkPrefixOf(block *config.UpstreamCredentials, role map[string]any) {
	aliases := texts(role["allowed_entity_aliases"])
	if !slices.ContainsFunc(aliases, func(pattern string) bool { return admitsAll(pattern, block.AliasPrefix) }) {
		e.wrong(fmt.Sprintf("correct alias_prefix in that file, or the role: vault write %s allowed_entity_aliases='%s'", e.rolePath(), provision.UpstreamAliases(block.AliasPrefix)),
			"the gateway asks for the aliases %s, as %s says, and the token role %s mints for %v: it can lease nothing",
			provision.UpstreamAliases(block.AliasPrefix), e.GatewayConfig, e.role(), aliases)
	}
}

// admitsAll reports whether a token role's pattern for aliases admits each one with the prefix.
func admitsAll(pattern, prefix string) bool {
	literal, wild := strings.CutSuffix(strings.ToLower(pattern), "*") // Vault compares without case
	return wild && !strings.Contains(literal, "*") && strings.HasPrefix(provision.ClientAlias(prefix, ""), literal)
}

// asked is what a gateway asks for in a child token.
type asked struct {
	policies []string
	whose    string // who names them, for messages
	setting  string // where they are to be changed
}

// checkAsked looks whether the token role allows the policies, and whether a token that has
// them alone keeps and ends itself.
func (e *examination) checkAsked(ctx context.Context, role map[string]any, a asked) {
	if len(a.policies) == 0 {
		return
	}
	allowed := texts(role["allowed_policies"])
	for _, name := range a.policies {
		if name == policies.UpstreamName {
			continue // checkTokenRole has told
		}
		if !slices.Contains(allowed, name) && len(texts(role["allowed_policies_glob"])) == 0 || slices.Contains(texts(role["disallowed_policies"]), name) {
			e.wrong(fmt.Sprintf("take it out of %s, or allow it: vault write %s allowed_policies=%s", a.setting, e.rolePath(), strings.Join(append(slices.Clone(allowed), name), ",")),
				"the token role %s does not allow the policy %s, which %s names: no child token is minted with it", e.role(), name, a.whose)
		}
	}
	if path := e.lacksRight(ctx, a.policies); path != "" {
		e.wrong(fmt.Sprintf("add %s to %s, or the rule to one of the policies: %s", policies.UpstreamName, a.setting, line(path, ownRights[path])),
			"no policy of %s has a rule for %s: a child token that has them alone does not keep itself, or outlives the access that it was minted for", a.whose, path)
	}
}

// lacksRight is a path by which a child token keeps or ends itself, and for which none of the
// policies has a rule; "" if each is granted, or a policy cannot be read.
func (e *examination) lacksRight(ctx context.Context, names []string) string {
	var all strings.Builder
	for _, name := range names {
		rules, err := e.vault.Sys().GetPolicyWithContext(ctx, name)
		if err != nil || rules == "" {
			return "" // of one that is missing, checkChildPolicies tells
		}
		all.WriteString(rules)
	}
	for _, path := range sortedRights {
		if !strings.Contains(all.String(), `"`+path+`"`) {
			return path
		}
	}
	return ""
}

// checkUpstreamPolicies compares a client's own policies for upstream credentials with those of
// the gateway's file.
func (e *examination) checkUpstreamPolicies(ctx context.Context, name string, client map[string]any) {
	own := texts(client["upstream_policies"])
	if len(own) == 0 || len(e.leasing) == 0 {
		return
	}
	setting := fmt.Sprintf("upstream_policies of %s/clients/%s", e.Mount, name)
	if foreign := e.foreignPolicies(own); len(foreign) > 0 {
		e.wrong(fmt.Sprintf("take them out of %s, or add them to policies in %s", setting, e.GatewayConfig),
			"the client %s has the upstream_policies %v, which policies in %s does not name: the gateway gives it no credential", name, foreign, e.GatewayConfig)
	}
	if path := e.lacksRight(ctx, own); path != "" {
		e.wrong(fmt.Sprintf("add %s to %s, or the rule to one of them: %s", policies.UpstreamName, setting, line(path, ownRights[path])),
			"no policy of the client %s has a rule for %s: its child tokens do not keep themselves, or outlive its access", name, path)
	}
}

// foreignPolicies are those that the gateway's file does not name.
func (e *examination) foreignPolicies(own []string) []string {
	block := e.upstreamBlock()
	if block == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(own), func(name string) bool { return slices.Contains(block.Policies, name) })
}

// checkLoginOfMinters looks whether the gateways' logins can mint, and last: their child tokens
// end with them.
func (e *examination) checkLoginOfMinters(ctx context.Context) {
	auth := config.Auth{Method: config.AuthAppRole, Mount: "approle", Role: provision.GatewayRole}
	if e.gateway != nil {
		auth = e.gateway.Vault.Auth
	}
	switch auth.Method {
	case config.AuthTokenFile:
		e.checkTokenFile(auth.TokenFile)
	case config.AuthAppRole:
		// The file has the role's id, which is not its name.
		e.checkLoginRole(ctx, auth.Mount, provision.GatewayRole)
	default:
		e.checkLoginRole(ctx, auth.Mount, auth.Role)
	}
}

// checkLoginRole looks at the tokens that a role of an auth method gives.
func (e *examination) checkLoginRole(ctx context.Context, mount, name string) {
	path := "auth/" + mount + "/role/" + name
	role, err := e.ask(ctx, path)
	if err != nil || role == nil {
		if mount != "approle" { // of that one, checkGatewayLogin has told
			e.ok("whether the gateway's login gives batch tokens, which can mint none, was not looked at: VAULT_TOKEN cannot read %s", path)
		}
		return
	}
	kind := fmt.Sprint(role["token_type"])
	if auths, err := e.vault.Sys().ListAuthWithContext(ctx); err == nil && auths[mount+"/"] != nil && kind == "default" {
		kind = auths[mount+"/"].Config.TokenType
	}
	switch {
	case strings.HasSuffix(kind, "batch"):
		e.wrong(fmt.Sprintf("vault write %s token_type=service token_period=1h", path), "the role %s gives batch tokens, which can mint no child token: gateways can lease no upstream credential", name)
	case fmt.Sprint(role["token_period"]) == "0":
		todo := fmt.Sprintf("vault write %s token_period=1h token_ttl=0 token_max_ttl=0", path)
		if name == provision.GatewayRole {
			todo = "run `mcp-bootstrap apply`, or: " + todo
		}
		e.wrong(todo,
			"the role %s is not periodic: at the end of each login every upstream credential is leased again", name)
	}
}

// checkTokenFile looks at the token that another program keeps for the gateway, as far as it
// may be read.
func (e *examination) checkTokenFile(path string) {
	batch, err := config.HoldsBatchToken(path)
	switch {
	case err != nil:
		e.ok("whether the gateway's login is a batch token, which can mint none, was not looked at: %s cannot be read", path)
	case batch:
		e.wrong("let the program that writes it log in by a role with token_type=service", "the gateway's token in %s is a batch token, which can mint no child token: it can lease no upstream credential", path)
	}
}
