package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/gateway/config"
)

// checkLoginConfig looks at how an oidc method gets its answers.
func (e *examination) checkLoginConfig(ctx context.Context, mount string) {
	method, err := e.ask(ctx, "auth/"+mount+"/config")
	if err == nil && method["oidc_response_mode"] == "form_post" {
		e.wrong("vault write auth/"+mount+"/config oidc_response_mode=query, with the rest of its settings",
			"the method at %s has oidc_response_mode=form_post: the answer comes from another site, without the browser's cookie, so no sign-in finishes", mount)
	}
}

// loginRole reads the role of a login, and compares the policies that it gives with those that
// gateways accept.
func (e *examination) loginRole(ctx context.Context, login, mount, name string, granted map[string]bool) map[string]any {
	path := "auth/" + mount + "/role/" + name
	role, err := e.ask(ctx, path)
	if err != nil {
		e.ok("the role %s of the login %s was not looked at: VAULT_TOKEN cannot read %s", name, login, path)
		return nil
	}
	if role == nil {
		e.wrong(applySignIn+"; or correct role in "+e.GatewayConfig, "the role %s is missing at %s: nobody can sign in by the login %s", name, mount, login)
		return nil
	}
	noteGrants(texts(role["token_policies"]), granted)
	e.checkPersonPolicies(path, role)
	return role
}

// checkPersonPolicies compares the policies of a role with those that the gateway accepts.
func (e *examination) checkPersonPolicies(path string, role map[string]any) {
	given := texts(role["token_policies"])
	if role["token_no_default_policy"] != true {
		given = append(given, "default")
	}
	block := e.signInBlock()
	if block == nil {
		block = &config.SignIn{PersonPolicies: provision.PersonPolicies()}
	}
	for _, name := range given {
		if !block.AcceptsPolicy(name) {
			e.wrong("take it out of token_policies of "+path+", or add it to person_policies of the gateway's file where it lets nobody administer anything",
				"the role %s gives the policy %s, which is not in person_policies (%s): the gateway refuses everybody who signs in by it", path, name, strings.Join(block.PersonPolicies, ", "))
		}
	}
	if !slices.Contains(given, policies.PersonName) && !slices.Contains(given, "default") {
		e.wrong("run `mcp-bootstrap apply`, or add it to token_policies of "+path,
			"the role %s gives neither %s nor default: a token of it cannot even look itself up", path, policies.PersonName)
	}
}

// fault is something that may be wrong with a role, and the settings that mend it.
type fault struct {
	is             bool
	settings, text string
}

func (e *examination) tellFaults(path string, faults []fault) {
	for _, f := range faults {
		if f.is {
			e.wrong("run `mcp-bootstrap apply`, or: vault write "+path+" "+f.settings+" with the rest of its settings (vault read "+path+")", "the role %s %s", path, f.text)
		}
	}
}

// checkTokenKind looks at the kind of the tokens that a role gives.
func (e *examination) checkTokenKind(path string, role map[string]any, kindOfMethod string) {
	kind := fmt.Sprint(role["token_type"])
	if kind == "default" || kind == "" {
		kind = kindOfMethod
	}
	e.tellFaults(path, []fault{
		{strings.HasSuffix(kind, "batch"), "token_type=service", "gives batch tokens, which nothing can renew or revoke: the gateway refuses everybody who signs in by it"},
		{seconds(role["token_period"]) > 0, "token_period=0", "gives periodic tokens, which have no end: the gateway refuses everybody who signs in by it"},
		{seconds(role["token_num_uses"]) > 0, "token_num_uses=0", "gives tokens of few uses: a sign-in ends with the last of them"},
		{role["verbose_oidc_logging"] == true, "verbose_oidc_logging=false", "has verbose_oidc_logging: at the level debug, the ID tokens of people go into Vault's log"},
	})
}

// checkPersonLife compares the life of people's tokens with that of a sign-in.
func (e *examination) checkPersonLife(path string, role map[string]any) {
	life := e.signInBlock().SessionMax
	longest := seconds(role["token_max_ttl"])
	if explicit := seconds(role["token_explicit_max_ttl"]); explicit > 0 && (longest == 0 || explicit < longest) {
		longest = explicit
	}
	setting := fmt.Sprintf("token_max_ttl=%s", life)
	e.tellFaults(path, []fault{
		{longest == 0, setting, fmt.Sprintf("has no token_max_ttl: Vault alone bounds its tokens, which may live longer than session_max of the gateway (%s)", life)},
		{longest > 0 && longest < life, setting, fmt.Sprintf("gives tokens that end after %s, before session_max of the gateway (%s): people have to sign in again sooner", longest, life)},
		{longest > life, setting, fmt.Sprintf("gives tokens that may live for %s, longer than session_max of the gateway (%s)", longest, life)},
		// OpenBao has modes in which its own callback finishes a login.
		{role["callback_mode"] != nil && role["callback_mode"] != "client" && role["callback_mode"] != "", "callback_mode=client", fmt.Sprintf("has callback_mode=%v, and the gateway finishes each login itself", role["callback_mode"])},
	})
}

// seconds reads a time of Vault's answer.
func seconds(value any) time.Duration {
	number, _ := value.(json.Number)
	n, _ := number.Int64() // Vault wrote it
	return time.Duration(n) * time.Second
}

// checkRedirect asks Vault as the gateway does at the beginning of a login. For a redirect that
// the role does not list, Vault answers 200 and an empty URL.
func (e *examination) checkRedirect(ctx context.Context, block *config.SignIn, l config.SignInLogin, role map[string]any) {
	redirect := block.Origin + provision.SignInCallback
	if !slices.Contains(texts(role["allowed_redirect_uris"]), redirect) {
		e.wrong(fmt.Sprintf("add it to redirect_uris of the login, for `mcp-bootstrap apply`, or to allowed_redirect_uris of auth/%s/role/%s, letter by letter", l.Mount, l.Role),
			"the role %s at %s does not list the redirect %s: no login begins. Vault's own log alone says so", l.Role, l.Mount, redirect)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	stranger, err := e.vault.CloneWithHeaders()
	if err != nil {
		return
	}
	stranger.ClearToken()
	answer, err := stranger.Logical().WriteWithContext(ctx, "auth/"+l.Mount+"/oidc/auth_url", map[string]any{"role": l.Role, "redirect_uri": redirect, "client_nonce": "doctor"})
	switch {
	case err != nil:
		e.wrong(fmt.Sprintf("look at auth/%s/config: Vault must reach its oidc_discovery_url and trust its certificate", l.Mount), "Vault cannot begin a login at %s: %s", l.Mount, connect.Reason(err))
	case answer == nil || answer.Data["auth_url"] == "" || answer.Data["auth_url"] == nil:
		e.wrong("see Vault's log at the level warn", "Vault answers the beginning of a login at %s with an empty URL", l.Mount)
	}
}
