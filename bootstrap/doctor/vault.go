package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

// checkVault looks whether Vault answers, is unsealed, and has the right time.
func (e *examination) checkVault(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	state, err := connect.Health(ctx, e.vault)
	switch {
	case err != nil:
		return e.wrong(cmp.Or(connect.Advice(err), "start Vault, or point VAULT_ADDR (and VAULT_CACERT, for TLS) at it"), "Vault does not answer at %s: %s", e.vault.Address(), connect.Reason(err))
	case !state.Initialized:
		return e.wrong("run `vault operator init`", "Vault at %s is not initialized", e.vault.Address())
	case state.Sealed:
		return e.wrong("run `vault operator unseal` on each server", "Vault at %s is sealed", e.vault.Address())
	case e.vault.Namespace() != "" && !state.Namespaces:
		return e.wrong("unset VAULT_NAMESPACE", "the namespace %q is asked for, and Vault at %s has none", e.vault.Namespace(), e.vault.Address())
	}
	e.checkClock("Vault", state.Time)
	return e.ok("Vault %s answers at %s and is unsealed", state.Version, e.vault.Address())
}

// checkClock compares a clock with this machine's. It was read in whole seconds.
func (e *examination) checkClock(whose string, at time.Time) {
	if skew := time.Since(at).Round(time.Second).Abs(); skew > maxSkew {
		e.wrong("synchronise both clocks (NTP): tokens end by the one, and people read the other", "the clocks of %s and of this machine are %s apart", whose, skew)
	}
}

// checkToken looks at the Vault token that this runs with.
func (e *examination) checkToken(ctx context.Context) bool {
	data, err := e.ask(ctx, "auth/token/lookup-self")
	if err != nil && connect.Advice(err) != "" && !connect.IsInvalidToken(err) {
		return e.wrong("use a token with the policy "+policies.AdminName, "VAULT_TOKEN may not even look itself up: %s", connect.Reason(err))
	}
	if err != nil {
		return e.wrong("get another with `vault login`, and set VAULT_TOKEN", "Vault does not accept VAULT_TOKEN: %s", connect.Reason(err))
	}
	if expires, _ := data["expire_time"].(string); expires != "" {
		at, err := time.Parse(time.RFC3339Nano, expires)
		if left := time.Until(at).Round(time.Second); err == nil && left < time.Hour {
			e.wrong("renew it with `vault token renew`, or log in again", "VAULT_TOKEN ends in %s", left)
		}
	}
	return e.ok("Vault accepts VAULT_TOKEN")
}

// checkMount looks for the engine, and checks that the registered program runs.
func (e *examination) checkMount(ctx context.Context) bool {
	mounts, err := e.vault.Sys().ListMountsWithContext(ctx)
	if err != nil {
		return e.wrong("use a token with the policy "+policies.AdminName, "Vault's mounts cannot be listed: %s", connect.Reason(err))
	}
	mount := mounts[e.Mount+"/"]
	switch {
	case mount == nil:
		return e.wrong("run `mcp-bootstrap apply -f DIR`, or name the engine's mount with -mount", "nothing is mounted at %s/", e.Mount)
	case mount.Type != provision.PluginName:
		return e.wrong("name the engine's mount with -mount", "the engine at %s/ is of type %s", e.Mount, mount.Type)
	}
	registered, err := e.catalog(ctx, cmp.Or(mount.PluginVersion, mount.RunningVersion))
	switch {
	case mount.PluginVersion != "" && mount.RunningVersion != "" && mount.PluginVersion != mount.RunningVersion:
		return e.wrong("run `vault plugin reload -mounts="+e.Mount+"/`", "the mount is set to the plugin's %s, and %s runs", mount.PluginVersion, mount.RunningVersion)
	case err != nil || registered == nil:
		return e.wrong("run `mcp-bootstrap apply -f DIR`, which registers the plugin", "the plugin catalog has no entry for %s %s", provision.PluginName, mount.RunningVersion)
	case mount.RunningSha256 != "" && registered["sha256"] != mount.RunningSha256:
		return e.wrong("run `vault plugin reload -mounts="+e.Mount+"/`", "the plugin that runs is not the one that is registered: SHA-256 %.12s… runs, %.12s… is registered",
			mount.RunningSha256, fmt.Sprint(registered["sha256"]))
	}
	if _, err := e.ask(ctx, e.Mount+"/config"); err != nil {
		return e.wrong("see Vault's log; a token without the policy "+policies.AdminName+" is refused here too", "the engine at %s/ does not answer: %s", e.Mount, connect.Reason(err))
	}
	return e.ok("the engine %s runs at %s/ as it was registered", mount.RunningVersion, e.Mount)
}

func (e *examination) catalog(ctx context.Context, version string) (map[string]any, error) {
	query := map[string][]string{}
	if version != "" {
		query["version"] = []string{version}
	}
	secret, err := e.vault.Logical().ReadWithDataWithContext(ctx, "sys/plugins/catalog/secret/"+provision.PluginName, query)
	if err != nil || secret == nil {
		return nil, err
	}
	return secret.Data, nil
}

// checkGatewayLogin looks at the policy and the role of gateways.
func (e *examination) checkGatewayLogin(ctx context.Context) {
	const apply = "run `mcp-bootstrap apply -f DIR`, which writes it"
	rules, err := e.vault.Sys().GetPolicyWithContext(ctx, policies.GatewayName)
	switch {
	case err != nil:
		e.wrong("use a token with the policy "+policies.AdminName, "the ACL policy %s cannot be read: %s", policies.GatewayName, connect.Reason(err))
	case rules == "":
		e.wrong(apply, "the ACL policy %s is missing: gateways may ask for nothing", policies.GatewayName)
	case !strings.Contains(rules, `"`+e.Mount+`/gateway/usage"`):
		e.wrong("run `mcp-bootstrap apply -f DIR -dry-run`, and then without",
			"the ACL policy %s is one of an earlier version, without %s/gateway/usage: the usage of clients is not known, since gateways cannot report it", policies.GatewayName, e.Mount)
	case strings.TrimSpace(rules) != strings.TrimSpace(policies.At(e.Mount, policies.Gateway)):
		e.wrong("run `mcp-bootstrap apply -f DIR -dry-run`, and then without", "the ACL policy %s is not the one of this version", policies.GatewayName)
	default:
		e.ok("the ACL policy %s is that of this version", policies.GatewayName)
	}
	role, err := e.ask(ctx, "auth/approle/role/"+provision.GatewayRole)
	switch {
	case err != nil || role == nil:
		e.wrong(apply+"; where gateways log in otherwise, look at that role yourself", "the AppRole role %s cannot be read", provision.GatewayRole)
	case !slices.Contains(texts(role["token_policies"]), policies.GatewayName):
		e.wrong(apply, "the role %s does not carry the policy %s", provision.GatewayRole, policies.GatewayName)
	case role["token_no_default_policy"] != true:
		e.wrong(apply, "the role %s carries Vault's default policy, which slows each lookup and grants more than a gateway needs", provision.GatewayRole)
	default:
		e.ok("the role %s carries its policy alone", provision.GatewayRole)
	}
}

// texts are the texts of a JSON list.
func texts(list any) []string {
	values, _ := list.([]any)
	found := make([]string, 0, len(values))
	for _, value := range values {
		found = append(found, fmt.Sprint(value))
	}
	return found
}
