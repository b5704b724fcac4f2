package backend

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
)

// settingFields are the fields that a caller may set on a client and read back.
func settingFields() fields {
	return merge(rightsFields("the client"), fields{
		"role": {
			Type:        framework.TypeString,
			Description: "Name of a role: the client may also use everything that the role allows, and nothing that the role denies. A client whose role does not exist reaches nothing.",
		},
		"policies": {
			Type:        framework.TypeCommaStringSlice,
			Description: "Names of the policies that apply to the client, besides the managed ones, which apply to every client.",
		},
		"token_ttl": {
			Type:        framework.TypeDurationSecond,
			Description: "How long the client's tokens live. 0: the mount's default_ttl.",
		},
		"token_max_ttl": {
			Type:        framework.TypeDurationSecond,
			Description: "The longest life of the client's tokens, renewals included. 0: the mount's max_ttl.",
		},
		"token_bound_cidrs": {
			Type:        framework.TypeCommaStringSlice,
			Description: "Addresses or CIDR blocks that the client's tokens are accepted from. The gateway enforces it. Without it: from anywhere.",
		},
		"metadata": {
			Type:        framework.TypeKVPairs,
			Description: "Names and values of your own, shown in lookups. The path of a server's credential may have {{client.metadata.KEY}}, for clients with upstream_policies.",
		},
		"upstream_policies": {
			Type:        framework.TypeCommaStringSlice,
			Description: "Vault policies with which gateways read the credentials of servers for the client, out of those in the gateway's file. Unset: all of those. Set but empty: none, so the client reaches no server with credentials.",
		},
		"seal": {
			Type:        framework.TypeString,
			Description: "How tokens are handed out that the client gets from now on: none, which is as they are, or kms, which is sealed under AWS KMS (config/kms). Empty: as config says.",
		},
		"sign_in": {
			Type:        framework.TypeBool,
			Description: "Whether people and machines who sign in may get tokens of the client (creds/ with a resource). Taken away, it ends those tokens.",
		},
		"disabled": {
			Type:        framework.TypeBool,
			Description: "While true, none of the client's tokens is accepted. They work again once it is false.",
		},
	})
}

func clientFields() fields {
	return merge(settingFields(), fields{
		"name":                    nameField,
		"access_token":            accessTokenField,
		"access_token_ciphertext": ciphertextField,
		"allow_reuse":             allowReuseField,
	})
}

func clientResponseFields() fields {
	return merge(settingFields(),
		pick(tokenResponseFields, "client_id", "accessor", "issued_at", "expires_at"),
		fields{
			"name":       nameField,
			"version":    {Type: framework.TypeInt64, Description: "Rises with every write."},
			"created_at": {Type: framework.TypeString, Description: "When the client was created (RFC 3339)."},
			"updated_at": {Type: framework.TypeString, Description: "When the client was last written (RFC 3339)."},
			"last_used":  lastUsedField,
		})
}

func (b *mcpBackend) pathClients() []*framework.Path {
	created := merge(tokenFields("token", "send_as"), pick(settingFields(), "allowed_servers"))
	// OpenAPI has one operation for both writes: the one that creates and the one that changes.
	written := map[int][]framework.Response{
		http.StatusOK: {{
			Description: "A client was created: this is its token, which is shown once; one with sign_in gets none. Without data: a client was changed, with warnings.",
			Fields:      created,
		}},
		http.StatusNoContent: {{Description: "A client that existed was changed."}},
	}
	return build(
		path{
			pattern: "clients/?$",
			about:   "clients",
			ops: operations{logical.ListOperation: {
				do: b.listClients,
				answers: fields{
					"keys":     {Type: framework.TypeStringSlice, Description: "The names, in order."},
					"key_info": {Type: framework.TypeMap, Description: "By name, last_used: the day of the client's last use. It is left out of a list of more than 10,000 clients."},
				},
			}},
			synopsis: "List the clients.",
			help:     "The names come in alphabetical order. vault list -detailed shows when each client was last used, as far as gateways have reported it.",
		},
		path{
			pattern: "clients/" + segment("name"),
			fields:  clientFields(),
			exists:  existing(b.clients),
			about:   "client",
			ops: operations{
				logical.ReadOperation:   {do: b.readClient, summary: "Read a client, without any token.", answers: clientResponseFields()},
				logical.CreateOperation: {do: b.createClient, summary: "Create a client and issue its token.", answers: created},
				logical.UpdateOperation: {do: b.updateClient, summary: "Create a client and issue its token, or change one.", responses: written},
				logical.PatchOperation:  {do: b.updateClient, summary: "Change some fields of a client; null resets a field."},
				logical.DeleteOperation: {do: b.deleteClient, summary: "Delete a client and end all its tokens."},
			},
			synopsis: "Create the identities with which MCP clients reach MCP servers.",
			help: `
The write that creates a client answers with its token, once. The token is stored
only as an HMAC, so it cannot be shown again: if it is lost, rotate-client replaces it.
A client with sign_in gets none of its own, unless rotate-client issues one.

A client reaches the servers in allowed_servers and no other; without that field
it reaches none. A server need not be registered yet.

A later write changes the fields that it names and leaves the others as they
are; it never answers with a token. A field that is given empty (metadata=) is
emptied. A PATCH is a merge patch (RFC 7396): null resets a field, and metadata is
merged name by name, where null removes one.

A write with access_token makes that the client's token, and the old one stays valid for
the mount's grace_period. The same access_token again changes nothing.
access_token_ciphertext is an access_token that was encrypted under the mount's KMS key,
for this mount and this client; the answer does not repeat the token in it.

With seal=kms, set here or as the mount's default, the answer holds the sealed form
of the token, which is the only one that is accepted.

Deleting a client ends all its tokens at once. A client that is created again under
the same name shares nothing with the old one here. But Vault's ACL knows it by its name:
in the credentials of servers it gets what the old one got.`,
		},
	)
}

func (b *mcpBackend) readClient(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	c, err := b.clients.get(ctx, req.Storage, name)
	if err != nil || c == nil {
		return nil, err
	}
	var current tokenInfo // of a revoked client: none
	if held := c.current(); held != nil {
		current = held.tokenInfo
	}
	used, err := b.usageOf(ctx, req.Storage, c.ID)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: nullUnset(with(c.clientSettings.data(), map[string]any{
		"name":       name,
		"client_id":  c.ID,
		"version":    c.Version,
		"created_at": formatTime(c.CreatedAt),
		"updated_at": formatTime(c.UpdatedAt),
		"accessor":   current.Accessor,
		"issued_at":  formatTime(current.IssuedAt),
		"expires_at": formatTime(current.ExpiresAt),
		"last_used":  used.lastUsed(),
	}))}, nil
}

// requireClient returns the client, for operations that need one.
func (b *mcpBackend) requireClient(ctx context.Context, s logical.Storage, name string) (*clientEntry, error) {
	c, err := b.clients.get(ctx, s, name)
	if err == nil && c == nil {
		err = noSuchClient(name)
	}
	return c, err
}

// data returns the settings in the form of a read's answer.
func (s *clientSettings) data() map[string]any {
	return with(rightsData(&s.Rights), map[string]any{
		"role":              s.Role,
		"policies":          orEmpty(s.Policies),
		"token_ttl":         seconds(s.TokenTTL),
		"token_max_ttl":     seconds(s.TokenMaxTTL),
		"token_bound_cidrs": orEmpty(s.TokenBoundCIDRs),
		"metadata":          copyOf(s.Metadata),
		"seal":              s.Seal,
		"disabled":          s.Disabled,
		"upstream_policies": listOrNull(s.UpstreamPolicies),
		"sign_in":           s.SignIn,
	})
}

// apply sets the fields that the request names. A null, which only a PATCH can
// carry, resets its field, and a PATCH merges the names of metadata: it is a merge
// patch as of RFC 7396.
func (s *clientSettings) apply(op logical.Operation, d *framework.FieldData) error {
	metadata := func(v any) map[string]string {
		next := v.(map[string]string)
		if op == logical.PatchOperation {
			next = mergePairs(s.Metadata, next, d.Raw["metadata"])
		}
		if len(next) == 0 {
			return nil
		}
		return next
	}
	for _, err := range []error{
		applyRights(d, &s.Rights),
		apply(d, "role", &s.Role, same[string]),
		apply(d, "policies", &s.Policies, listOrNil),
		apply(d, "token_bound_cidrs", &s.TokenBoundCIDRs, listOrNil),
		apply(d, "token_ttl", &s.TokenTTL, duration),
		apply(d, "token_max_ttl", &s.TokenMaxTTL, duration),
		apply(d, "metadata", &s.Metadata, metadata),
		apply(d, "seal", &s.Seal, same[string]),
		apply(d, "disabled", &s.Disabled, same[bool]),
		apply(d, "sign_in", &s.SignIn, same[bool]),
		apply(d, "upstream_policies", &s.UpstreamPolicies, dedupe), // null is the gateway's own list, an empty list none
	} {
		if err != nil {
			return err
		}
	}
	return refusedBy(d, s.Check())
}

// apply sets target from a field, if the request has it; null resets it.
func apply[T any](d *framework.FieldData, field string, target *T, read func(any) T) error {
	raw, given := d.Raw[field]
	if !given {
		return nil
	}
	var value T
	if raw != nil {
		v, _, err := d.GetOkErr(field)
		if err != nil {
			return userErrorf("field %s: %s", field, err)
		}
		value = read(v)
	}
	*target = value
	return nil
}

func same[T any](v any) T { return v.(T) }

func duration(v any) time.Duration { return time.Duration(v.(int)) * time.Second }

// dedupe keeps the first of each, in order, and never returns nil.
func dedupe(v any) []string {
	values := v.([]string)
	kept := make([]string, 0, len(values))
	for _, v := range values {
		if !slices.Contains(kept, v) {
			kept = append(kept, v)
		}
	}
	return kept
}

// listOrNil is dedupe for a list that means the same if it is empty and if it is unset.
func listOrNil(v any) []string {
	if len(v.([]string)) == 0 {
		return nil
	}
	return dedupe(v)
}

// mergePairs applies a merge patch to held. raw is the patch as it came, in which null
// removes a name.
func mergePairs(held, given map[string]string, raw any) map[string]string {
	next := make(map[string]string, len(held)+len(given))
	maps.Copy(next, held)
	maps.Copy(next, given)
	object, _ := raw.(map[string]any)
	for name, value := range object {
		if value == nil {
			delete(next, name)
		}
	}
	return next
}

// settingWarnings warns of settings that an administrator may not have meant.
func (b *mcpBackend) settingWarnings(ctx context.Context, s logical.Storage, c *clientEntry) ([]string, error) {
	var warnings []string
	rights, err := b.rights(ctx, s, c)
	if err != nil {
		return nil, err
	}
	switch {
	case rights.missing():
		warnings = append(warnings, check.NoSuchRole(c.Role))
	case len(rights.servers()) == 0:
		warnings = append(warnings, "the client reaches no server: set allowed_servers to the names of those that it may reach, or role to a role that has some")
	}
	warnings = append(warnings, overruledWarnings(rights.sources)...)
	more, err := b.rightsWarnings(ctx, s, &c.Rights, "the client")
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, more...)
	all, err := b.policies(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, name := range c.Policies {
		if all.all[name] == nil {
			warnings = append(warnings, check.NoSuchPolicy(name))
		}
	}
	if more, err = b.sealWarnings(ctx, s, c); err != nil {
		return nil, err
	}
	warnings = append(warnings, more...)
	if c.UpstreamPolicies != nil && len(c.UpstreamPolicies) == 0 {
		warnings = append(warnings, `upstream_policies is set and empty, so the client reaches no server with credentials: a patch with {"upstream_policies": null} gives it the policies of the gateway's file`)
	}
	return warnings, nil
}
