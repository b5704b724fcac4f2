package terraform

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
)

// The requests of the Vault provider for each kind of resource, and the parts of the answers that
// it keeps, as of its version 5.11. The long form of the test compares these requests with the
// provider's own.

func missing(err error) bool {
	var answer *api.ResponseError
	return errors.As(err, &answer) && (answer.StatusCode == http.StatusNotFound ||
		answer.StatusCode == http.StatusBadRequest && (strings.Contains(err.Error(), "No secret engine mount at") || strings.Contains(err.Error(), "No auth engine at")))
}

func registerPlugin(p *provider, one *instance) error {
	one.id = one.config.text("name")
	return p.vault.Sys().RegisterPluginWithContext(p.t.Context(), &api.RegisterPluginInput{
		Type: api.PluginTypeSecrets, Name: one.id, Version: one.config.text("version"),
		SHA256: one.config.text("sha256"), Command: one.config.text("command"), Args: []string{}, Env: []string{},
	})
}

func readPlugin(p *provider, one *instance) (attributes, error) {
	answer, err := p.vault.Sys().GetPluginWithContext(p.t.Context(), &api.GetPluginInput{
		Type: api.PluginTypeSecrets, Name: one.config.text("name"), Version: one.config.text("version"),
	})
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return attributes{"sha256": answer.SHA256, "command": answer.Command, "oci_image": answer.OCIImage, "runtime": answer.Runtime}, nil
}

func deregisterPlugin(p *provider, one *instance) error {
	return p.vault.Sys().DeregisterPluginWithContext(p.t.Context(), &api.DeregisterPluginInput{
		Type: api.PluginTypeSecrets, Name: one.config.text("name"), Version: one.config.text("version"),
	})
}

func mount(p *provider, one *instance) error {
	return p.vault.Sys().MountWithContext(p.t.Context(), one.config.text("path"), &api.MountInput{
		Type: one.config.text("type"), Description: one.config.text("description"), Options: map[string]string{},
		Config: api.MountConfigInput{DefaultLeaseTTL: "0s", MaxLeaseTTL: "0s", PluginVersion: one.config.text("plugin_version")},
	})
}

func readMount(p *provider, one *instance) (attributes, error) {
	answer, err := p.vault.Sys().GetMountWithContext(p.t.Context(), one.config.text("path"))
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return attributes{
		"type": answer.Type, "description": answer.Description, "accessor": answer.Accessor, "plugin_version": answer.PluginVersion,
		"default_lease_ttl_seconds": float64(answer.Config.DefaultLeaseTTL), "max_lease_ttl_seconds": float64(answer.Config.MaxLeaseTTL),
		"local": answer.Local, "seal_wrap": answer.SealWrap,
	}, nil
}

func unmount(p *provider, one *instance) error {
	return p.vault.Sys().UnmountWithContext(p.t.Context(), one.config.text("path"))
}

// writeEndpoint writes the JSON, and keeps of the answer the write_fields.
func writeEndpoint(p *provider, one *instance) error {
	one.id = one.config.text("path")
	var body map[string]any
	if err := json.Unmarshal([]byte(one.config.text("data_json")), &body); err != nil {
		return err
	}
	answer, err := data(p.vault.Logical().WriteWithContext(p.t.Context(), one.id, body))
	written := map[string]any{}
	fields, _ := one.config["write_fields"].([]any)
	for _, field := range fields {
		if value, ok := answer[field.(string)]; ok {
			written[field.(string)] = value
		}
	}
	one.state["write_data"] = written
	return err
}

// readEndpoint puts the fields that it reads into the JSON.
func readEndpoint(p *provider, one *instance) (attributes, error) {
	if one.config.is("disable_read") {
		return attributes{}, nil
	}
	answer, err := data(p.vault.Logical().ReadWithContext(p.t.Context(), one.config.text("path")))
	if answer == nil || err != nil {
		return nil, err
	}
	if one.config.is("ignore_absent_fields") {
		var relevant attributes
		if err := json.Unmarshal([]byte(one.config.text("data_json")), &relevant); err != nil {
			return nil, err
		}
		for name := range relevant {
			if value, ok := answer[name]; ok {
				relevant[name] = value
			}
		}
		answer = relevant
	}
	encoded, err := json.Marshal(answer)
	return attributes{"data_json": string(encoded)}, err
}

func deleteEndpoint(p *provider, one *instance) error {
	if one.config.is("disable_delete") {
		return nil
	}
	_, err := p.vault.Logical().DeleteWithContext(p.t.Context(), one.config.text("path"))
	return err
}

func writePolicy(p *provider, one *instance) error {
	name := one.config.text("name")
	if _, err := p.vault.Sys().GetPolicyWithContext(p.t.Context(), name); err != nil {
		return err
	}
	return p.vault.Sys().PutPolicyWithContext(p.t.Context(), name, one.config.text("policy"))
}

func readPolicy(p *provider, one *instance) (attributes, error) {
	rules, err := p.vault.Sys().GetPolicyWithContext(p.t.Context(), one.config.text("name"))
	return attributes{"policy": rules}, err
}

func deletePolicy(p *provider, one *instance) error {
	return p.vault.Sys().DeletePolicyWithContext(p.t.Context(), one.config.text("name"))
}

func enableAuth(p *provider, one *instance) error {
	return p.vault.Sys().EnableAuthWithOptionsWithContext(p.t.Context(), one.config.text("path"), &api.EnableAuthOptions{Type: one.config.text("type")})
}

func readAuth(p *provider, one *instance) (attributes, error) {
	answer, err := p.vault.Sys().GetAuthWithContext(p.t.Context(), one.config.text("path"))
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return attributes{"type": answer.Type, "description": answer.Description, "local": answer.Local, "accessor": answer.Accessor}, nil
}

func disableAuth(p *provider, one *instance) error {
	return p.vault.Sys().DisableAuthWithContext(p.t.Context(), one.config.text("path"))
}

// rolePath is that of a role of an auth method.
func rolePath(one *instance) string {
	return "auth/" + one.config.text("backend") + "/role/" + one.config.text("role_name")
}

// writeRole writes the fields of the configuration, and the resource's own defaults.
func writeRole(p *provider, one *instance) error {
	body := map[string]any{"token_type": "default"}
	if one.kind == "vault_approle_auth_backend_role" {
		maps.Copy(body, map[string]any{"bind_secret_id": true, "local_secret_ids": false})
	} else {
		body["bound_service_account_namespace_selector"] = ""
	}
	for name, value := range one.config {
		empty, isList := value.([]any)
		if name != "backend" && name != "role_name" && (!isList || len(empty) > 0) {
			body[name] = value
		}
	}
	_, err := p.vault.Logical().WriteWithContext(p.t.Context(), rolePath(one), body)
	return err
}

// tokenFields are those that roles have in common. token_type is left out, which the resource
// sets itself.
var tokenFields = []string{
	"token_bound_cidrs", "token_max_ttl", "token_ttl", "token_explicit_max_ttl", "token_no_default_policy", "token_period", "token_policies", "token_num_uses",
}

func readAppRole(p *provider, one *instance) (attributes, error) {
	answer, err := data(p.vault.Logical().ReadWithContext(p.t.Context(), rolePath(one)))
	answer, err = chosen(answer, err, append(tokenFields, "secret_id_bound_cidrs", "secret_id_num_uses", "secret_id_ttl")...)
	if answer == nil || err != nil {
		return nil, err
	}
	id, err := data(p.vault.Logical().ReadWithContext(p.t.Context(), rolePath(one)+"/role-id"))
	answer["role_id"] = id["role_id"]
	return answer, err
}

func readKubernetesRole(p *provider, one *instance) (attributes, error) {
	answer, err := data(p.vault.Logical().ReadWithContext(p.t.Context(), rolePath(one)))
	return chosen(answer, err, append(tokenFields, "bound_service_account_names", "bound_service_account_namespaces", "audience", "alias_name_source")...)
}

func deleteRole(p *provider, one *instance) error {
	_, err := p.vault.Logical().DeleteWithContext(p.t.Context(), rolePath(one))
	return err
}
