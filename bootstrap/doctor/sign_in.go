package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/gateway/config"
)

const applySignIn = "put a block sign_in into the files of `mcp-bootstrap apply`, and run it (docs/sign-in.md)"

// signInBlock is the block sign_in of the gateway's file; nil if the file has none, or was not
// read.
func (e *examination) signInBlock() *config.SignIn {
	if e.gateway == nil {
		return nil
	}
	return e.gateway.SignIn
}

// checkSignIn looks at Vault's side of sign-in. Nothing is said where there is none.
func (e *examination) checkSignIn(ctx context.Context) {
	before := e.findings
	engine, err := e.ask(ctx, e.Mount+"/config")
	if err != nil {
		e.wrong(useAdmin, "the engine's config cannot be read, so its sign_in_logins are not known: %s", connect.Reason(err))
		return
	}
	logins, _ := engine["sign_in_logins"].(map[string]any)
	clients := e.signInClients(ctx)
	block := e.signInBlock()
	if block == nil && len(logins)+len(clients) == 0 {
		return
	}
	auths, err := e.vault.Sys().ListAuthWithContext(ctx)
	if err != nil {
		e.wrong(useAdmin, "Vault's auth methods cannot be listed: %s", connect.Reason(err))
		return
	}
	e.checkLoginNames(logins, auths)
	granted := map[string]bool{}
	if block != nil {
		e.checkLogins(ctx, block, logins, auths, granted)
	}
	e.checkOtherLogins(ctx, logins, auths, granted)
	e.grantsOfGroups(ctx, granted)
	e.checkSignInClients(ctx, clients, granted)
	if before == e.findings {
		e.ok("people can sign in: logins: %d, clients that they may act as: %d", len(logins), len(clients))
	}
}

// signInClients are the clients that people may act as.
func (e *examination) signInClients(ctx context.Context) []string {
	names, _ := e.names(ctx, "clients") // of what cannot be listed, checkClients tells
	var open []string
	for _, name := range names {
		client, err := e.ask(ctx, e.Mount+"/clients/"+name)
		if err == nil && client["sign_in"] == true && client["disabled"] != true {
			open = append(open, name)
		}
	}
	return open
}

// checkLoginNames looks whether the auth methods are there that the engine knows by name.
func (e *examination) checkLoginNames(logins map[string]any, auths map[string]*api.AuthMount) {
	for _, name := range slices.Sorted(maps.Keys(logins)) {
		if mountOf(auths, logins[name]) == "" {
			e.wrong("run `mcp-bootstrap apply`, or take the name out of sign_in_logins: vault read "+e.Mount+"/config",
				"the login %s in sign_in_logins of %s/config has the accessor %v, which no auth method has: nobody can sign in by it", name, e.Mount, logins[name])
		}
	}
}

// mountOf is the path of the auth method with an accessor; "" if there is none.
func mountOf(auths map[string]*api.AuthMount, accessor any) string {
	for path, method := range auths {
		if method.Accessor == accessor {
			return strings.TrimSuffix(path, "/")
		}
	}
	return ""
}

// checkLogins compares the logins of the gateway's file with Vault.
func (e *examination) checkLogins(ctx context.Context, block *config.SignIn, logins map[string]any, auths map[string]*api.AuthMount, granted map[string]bool) {
	for _, l := range block.Logins {
		if !e.checkMethod(l.Name, l.Mount, logins, auths, "oidc", "jwt") {
			continue
		}
		e.checkLoginConfig(ctx, l.Mount)
		if role := e.loginRole(ctx, l.Name, l.Mount, l.Role, granted); role != nil {
			path := "auth/" + l.Mount + "/role/" + l.Role
			e.checkTokenKind(path, role, auths[l.Mount+"/"].Config.TokenType)
			e.checkPersonLife(path, role)
			e.checkRedirect(ctx, block, l, role)
		}
	}
	for _, m := range block.Machines {
		if e.checkMethod(m.Name, m.Mount, logins, auths, m.Method, "jwt", "oidc") {
			if role := e.loginRole(ctx, m.Name, m.Mount, m.Role, granted); role != nil {
				e.checkTokenKind("auth/"+m.Mount+"/role/"+m.Role, role, auths[m.Mount+"/"].Config.TokenType)
			}
		}
	}
}

// checkMethod looks whether the method of a login is there, and whether the engine knows it by
// the same name.
func (e *examination) checkMethod(name, mount string, logins map[string]any, auths map[string]*api.AuthMount, kinds ...string) bool {
	method := auths[mount+"/"]
	switch {
	case method == nil:
		return e.wrong(applySignIn+"; or correct mount in "+e.GatewayConfig, "no auth method is at %s, where the login %s of %s is: nobody can sign in by it", mount, name, e.GatewayConfig)
	case !slices.Contains(kinds, method.Type):
		return e.wrong("correct mount in "+e.GatewayConfig, "the auth method at %s is of type %s, and the login %s of %s needs %s", mount, method.Type, name, e.GatewayConfig, kinds[0])
	case logins[name] == nil:
		e.wrong(fmt.Sprintf("run `mcp-bootstrap apply`, or add it: vault write %s/config sign_in_logins=… with %s=%s and those that are there", e.Mount, name, method.Accessor),
			"the engine does not know the login %s of %s: it refuses everybody who signs in by it", name, e.GatewayConfig)
	case logins[name] != method.Accessor:
		e.wrong("run `mcp-bootstrap apply`, or correct sign_in_logins of "+e.Mount+"/config", "the engine knows the login %s by another accessor than that of %s: it refuses everybody who signs in by it", name, mount)
	}
	return true
}

// checkOtherLogins looks at the logins that no gateway's file here has: at those of their roles
// that are for sign-in, as far as they may be read.
func (e *examination) checkOtherLogins(ctx context.Context, logins map[string]any, auths map[string]*api.AuthMount, granted map[string]bool) {
	for _, name := range slices.Sorted(maps.Keys(logins)) {
		mount := mountOf(auths, logins[name])
		if mount == "" || e.isInFile(name) {
			continue
		}
		list, err := e.vault.Logical().ListWithContext(ctx, "auth/"+mount+"/role")
		if err != nil || list == nil {
			e.ok("the roles of the login %s were not looked at: VAULT_TOKEN cannot list auth/%s/role", name, mount)
			continue
		}
		for _, role := range texts(list.Data["keys"]) {
			path := "auth/" + mount + "/role/" + role
			found, err := e.ask(ctx, path)
			if err != nil || !slices.ContainsFunc(texts(found["token_policies"]), isOfPeople) {
				continue
			}
			noteGrants(texts(found["token_policies"]), granted)
			e.checkPersonPolicies(path, found)
			e.checkTokenKind(path, found, auths[mount+"/"].Config.TokenType)
		}
	}
}

func isOfPeople(policy string) bool { return strings.HasPrefix(policy, policies.PersonName) }

// isInFile reports whether the gateway's file has a login.
func (e *examination) isInFile(name string) bool {
	block := e.signInBlock()
	return block != nil && (slices.ContainsFunc(block.Logins, func(l config.SignInLogin) bool { return l.Name == name }) ||
		slices.ContainsFunc(block.Machines, func(m config.SignInMachine) bool { return m.Name == name }))
}

// grantsOfGroups notes what groups give, of those that may be read.
func (e *examination) grantsOfGroups(ctx context.Context, granted map[string]bool) {
	list, err := e.vault.Logical().ListWithContext(ctx, "identity/group/name")
	if err != nil || list == nil {
		return
	}
	for _, name := range texts(list.Data["keys"]) {
		if group, err := e.ask(ctx, "identity/group/name/"+name); err == nil {
			noteGrants(texts(group["policies"]), granted)
		}
	}
}

// noteGrants notes the clients that policies let people act as.
func noteGrants(names []string, granted map[string]bool) {
	for _, name := range names {
		if client, found := strings.CutPrefix(name, policies.PersonClientName("")); found {
			granted[client] = true
		}
	}
}

// personClient is the policy of those who may sign in as a client, on one line.
func (e *examination) personClient(client string) string {
	return strings.Join(strings.Fields(policies.At(e.Mount, policies.PersonClient(client))), " ")
}

// checkSignInClients looks for clients that people should act as, and nobody may.
func (e *examination) checkSignInClients(ctx context.Context, clients []string, granted map[string]bool) {
	for _, name := range clients {
		policy := policies.PersonClientName(name)
		rules, err := e.vault.Sys().GetPolicyWithContext(ctx, policy)
		switch {
		case err == nil && rules != "" && !strings.Contains(rules, fmt.Sprintf("%q", e.Mount+"/creds/"+name)):
			e.wrong("run `mcp-bootstrap apply`", "the ACL policy %s has no rule for %s/creds/%s: nobody can sign in as the client %s by it", policy, e.Mount, name, name)
		case err == nil && rules == "":
			e.wrong("run `mcp-bootstrap apply`, or write it: "+e.personClient(name),
				"the client %s has sign_in=true, and the ACL policy %s, by which people may act as it, is missing", name, policy)
		case err == nil && !strings.Contains(rules, "required_parameters"):
			e.wrong("run `mcp-bootstrap apply`, or write it: "+e.personClient(name),
				"the ACL policy %s lets people get tokens of the client %s that belong to no sign-in: it has no required_parameters", policy, name)
		case !granted[name]:
			e.wrong(fmt.Sprintf("name the client in clients or groups of a login, for `mcp-bootstrap apply`; or take sign_in from it: vault write %s/clients/%s sign_in=false", e.Mount, name),
				"the client %s has sign_in=true, and no role of a login and no group that may be read gives the policy %s: nobody can sign in as it", name, policy)
		}
	}
}
