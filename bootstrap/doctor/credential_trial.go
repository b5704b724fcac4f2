package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/backend/credential"
)

// tryServer tries the credentials of one server.
func (t *trial) tryServer(ctx context.Context, server string, registration map[string]any) {
	if names := texts(registration["vault_policies"]); len(names) > 0 {
		if child := t.mint(ctx, names); child != nil {
			t.ok("the server %s is given a Vault token of its own for the client %s", server, t.client)
			t.revoke(context.WithoutCancel(ctx), child)
		}
	}
	credentials, _ := registration["credentials"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(credentials)) {
		shown, _ := credentials[name].(map[string]any)
		if t.child != nil {
			t.tryCredential(ctx, server, name, shown)
		}
	}
}

// tryCredential asks for one credential, as the client.
func (t *trial) tryCredential(ctx context.Context, server, name string, shown map[string]any) {
	what := fmt.Sprintf("the credential %s of the server %s", name, server)
	spec, why := t.spec(ctx, server, name, shown)
	if slices.Contains(spec.Placeholders(), credential.PersonAlias) {
		why = "it is a person's, and nobody is signed in here"
	}
	if why != "" {
		t.ok("%s was not tried: %s", what, why)
		return
	}
	path, data, err := spec.Resolve(t.values)
	if err != nil {
		t.wrong("correct it, or the client", "%s cannot be asked for as the client %s: %v", what, t.client, err)
		return
	}
	if t.gateway != nil {
		if upstream := t.gateway.Upstream(server); !upstream.AllowsCredential(path) {
			t.wrong(fmt.Sprintf("add it to credential_paths in the block upstream %q of %s, or correct the credential's path", server, t.GatewayConfig),
				"%s is not asked for by the gateway: credential_paths of the server does not allow %s", what, path)
			return
		}
	}
	secret, err := t.request(ctx, spec, path, data)
	capability := "read"
	if spec.Verb() == credential.MethodWrite {
		capability = "update"
	}
	switch {
	case isForbidden(err):
		t.wrong("add to a policy of its child tokens: "+line(t.templated(spec.Path, path), capability), "%s is refused to the client %s: its policies do not grant %s on %s", what, t.client, capability, path)
	case err != nil:
		t.wrong("correct the path, or see Vault's log", "%s is not given to the client %s: %s answers %s", what, t.client, path, answerOf(err, data))
	case isEmpty(secret):
		t.wrong("write the secret, or correct the path", "%s is not there: %s has nothing", what, path)
	default:
		if secret.LeaseID != "" {
			t.leases = append(t.leases, secret.LeaseID)
		}
		t.ok("%s is granted to the client %s by %s: %s", what, t.client, path, granted(secret, spec))
	}
}

// spec is the credential as it is registered. For the data of a write, which servers/ does not
// show, the registry of the gateways is asked. why says why it cannot be tried.
func (t *trial) spec(ctx context.Context, server, name string, shown map[string]any) (spec credential.Spec, why string) {
	spec = credential.Spec{Path: fmt.Sprint(shown["path"]), Method: fmt.Sprint(shown["method"])}
	if refresh, ok := shown["refresh"].(interface{ Int64() (int64, error) }); ok {
		spec.Refresh, _ = refresh.Int64()
	}
	wanted := texts(shown["data"])
	if len(wanted) == 0 {
		return spec, ""
	}
	if t.full == nil {
		t.full = map[string]any{}
		if answer, err := t.ask(ctx, t.Mount+"/gateway/servers"); err == nil && answer != nil {
			for _, field := range []string{"servers", "pinned_servers", "credential_servers"} {
				servers, _ := answer[field].(map[string]any)
				maps.Copy(t.full, servers)
			}
		}
	}
	data := t.full
	for _, key := range []string{server, "credentials", name, "data"} {
		data, _ = data[key].(map[string]any)
	}
	spec.Data = map[string]string{}
	for _, key := range wanted {
		value, found := data[key].(string)
		if !found {
			return spec, fmt.Sprintf("it writes data (%s) that only a token with read on %s/gateway/servers may see", strings.Join(wanted, ", "), t.Mount)
		}
		spec.Data[key] = value
	}
	return spec, ""
}

func (t *trial) request(ctx context.Context, spec credential.Spec, path string, data map[string]any) (*api.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if spec.Verb() == credential.MethodWrite {
		return t.child.Logical().WriteWithContext(ctx, path, data)
	}
	return t.child.Logical().ReadWithContext(ctx, path)
}

// templated is the path as a rule for all clients names it.
func (t *trial) templated(registered, resolved string) string {
	of := "{{identity.entity.aliases." + t.accessor + ".name}}"
	whole := strings.NewReplacer("{{client.alias}}", of, "{{ client.alias }}", of).Replace(registered)
	if strings.Contains(strings.ReplaceAll(whole, of, ""), "{{") { // other values: a rule for this client
		return resolved
	}
	return whole
}

// granted describes a secret without its values.
func granted(secret *api.Secret, spec credential.Spec) string {
	refresh := time.Duration(spec.Refresh) * time.Second
	if refresh == 0 {
		refresh = credential.DefaultRefresh
	}
	life := fmt.Sprintf("no lease, read again every %s", refresh)
	if secret.LeaseID != "" {
		life = fmt.Sprintf("a lease of %s, not renewable", time.Duration(secret.LeaseDuration)*time.Second)
		if secret.Renewable {
			life = strings.TrimSuffix(life, ", not renewable") + ", renewable"
		}
	}
	fields := slices.Sorted(maps.Keys(secret.Data))
	if inner, ok := secret.Data["data"].(map[string]any); ok { // KV version 2
		fields = nil
		for _, key := range slices.Sorted(maps.Keys(inner)) {
			fields = append(fields, "data."+key)
		}
	}
	return life + "; its fields: " + strings.Join(fields, ", ")
}

// isEmpty reports whether an answer holds no secret, as that of a deleted version in KV does.
func isEmpty(secret *api.Secret) bool {
	if secret == nil || len(secret.Data) == 0 {
		return true
	}
	inner, found := secret.Data["data"]
	return found && inner == nil && secret.Data["metadata"] != nil
}

// line is a rule of an ACL policy.
func line(path, capability string) string {
	return fmt.Sprintf("path %q { capabilities = [%q] }", path, capability)
}

// answerOf is Vault's answer to a request for a credential. It may repeat what was written, of
// which one may be a secret.
func answerOf(err error, data map[string]any) string {
	var answer *api.ResponseError
	if len(data) > 0 && errors.As(err, &answer) {
		return fmt.Sprintf("%d (its words are not shown, since they may repeat the data)", answer.StatusCode)
	}
	return reason(err)
}
