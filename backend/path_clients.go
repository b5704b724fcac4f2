package backend

import (
	"context"
	"maps"
	"net/http"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// settingFields are the fields that a caller may set on a client and read back.
func settingFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"allowed_servers": {
			Type:        framework.TypeCommaStringSlice,
			Description: "Names of the servers that the client may reach, or * for all. None given: it reaches no server.",
		},
		"allowed_tools": {
			Type:        framework.TypeCommaStringSlice,
			Description: "Tools that the client may call, as server/tool with * as a wildcard. Unset: every tool of the allowed servers. Set but empty: none.",
		},
		"denied_tools": {
			Type:        framework.TypeCommaStringSlice,
			Description: "Tools that the client may not call, as server/tool with * as a wildcard. A denial wins over allowed_tools.",
		},
		"policies": {
			Type:        framework.TypeCommaStringSlice,
			Description: "Names of the policies that apply to the client, beside the managed ones, which apply to every client.",
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
			Description: "Addresses or CIDR blocks that the client's tokens are accepted from. The gateway enforces it. None given: from anywhere.",
		},
		"metadata": {
			Type:        framework.TypeKVPairs,
			Description: "Names and values of your own, shown in lookups and in the gateway's audit lines.",
		},
		"seal": {
			Type:        framework.TypeString,
			Description: "How the client's tokens are handed out from then on: none, or kms, sealed under AWS KMS (config/kms). Empty: as config says.",
		},
		"disabled": {
			Type:        framework.TypeBool,
			Description: "While true, none of the client's tokens is accepted. They work again once it is false.",
		},
	}
}

func clientFields() map[string]*framework.FieldSchema {
	return merge(settingFields(), map[string]*framework.FieldSchema{
		"name":                    nameField,
		"access_token":            accessTokenField,
		"access_token_ciphertext": ciphertextField,
		"allow_reuse":             allowReuseField,
	})
}

func clientResponseFields() map[string]*framework.FieldSchema {
	return merge(settingFields(),
		pick(tokenResponseFields, "client_id", "accessor", "issued_at", "expires_at"),
		map[string]*framework.FieldSchema{
			"name":       nameField,
			"version":    {Type: framework.TypeInt64, Description: "Rises with every write."},
			"created_at": {Type: framework.TypeString, Description: "When the client was created (RFC 3339)."},
			"updated_at": {Type: framework.TypeString, Description: "When the client was last written (RFC 3339)."},
		})
}

func (b *mcpBackend) pathClients() []*framework.Path {
	created := responses(merge(
		pick(tokenResponseFields, "token", "accessor", "client", "client_id", "kind", "issued_at", "expires_at", "ttl", "send_as"),
		pick(settingFields(), "allowed_servers")))
	// OpenAPI folds the write that creates into the one that changes.
	written := map[int][]framework.Response{
		http.StatusOK: {{
			Description: "A client was created: this is its token, which is shown once. Without data: a client was changed, with warnings.",
			Fields:      created[http.StatusOK][0].Fields,
		}},
		http.StatusNoContent: {{Description: "A client that existed was changed."}},
	}
	return []*framework.Path{
		describe(&framework.Path{
			Pattern: "clients/?$",
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: &framework.PathOperation{
					Callback:     b.listClients,
					Summary:      "List the clients.",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "list", OperationSuffix: "clients"},
					Responses:    listed(),
				},
			},
			HelpSynopsis:    "List the clients.",
			HelpDescription: "The names come in alphabetical order.",
		}),
		describe(&framework.Path{
			Pattern:        "clients/(?P<name>[^/]+)",
			Fields:         clientFields(),
			DisplayAttrs:   &framework.DisplayAttributes{OperationSuffix: "client"},
			ExistenceCheck: b.clientExists,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{
					Callback: b.readClient, Summary: "Read a client, without any token.", Responses: responses(clientResponseFields()),
				},
				logical.CreateOperation: &framework.PathOperation{
					Callback: b.createClient, Summary: "Create a client and issue its token.", Responses: created,
					ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
				},
				logical.UpdateOperation: &framework.PathOperation{
					Callback: b.updateClient, Summary: "Create a client and issue its token, or change one.", Responses: written,
					ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
				},
				logical.PatchOperation: &framework.PathOperation{
					Callback: b.patchClient, Summary: "Change some fields of a client; null resets a field.", Responses: noContent(),
					ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
				},
				logical.DeleteOperation: &framework.PathOperation{
					Callback: b.deleteClient, Summary: "Delete a client and end all its tokens.", Responses: noContent(),
					ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
				},
			},
			HelpSynopsis: "Create the identities with which MCP clients reach MCP servers.",
			HelpDescription: `
The write that creates a client answers with its token, once: it is stored only
as an HMAC and cannot be shown again. Lost, it is replaced by rotate-client.

A client reaches the servers in allowed_servers and no other; without that field
it reaches none. A server need not be registered yet.

A later write changes the fields that it names and leaves the others as they
are; it never answers with a token. A field that is given empty (metadata=) is
emptied. A PATCH is a merge patch (RFC 7396): null resets a field, and metadata is
merged name by name, where null removes one. With access_token it replaces the client's
token by that one, and the old one lives on for the mount's grace_period. The
same access_token again changes nothing. access_token_ciphertext is an access_token
that was encrypted under the mount's KMS key, for this mount and this client; the
answer does not repeat what is in it.

With seal=kms, set here or as the mount's default, the answer holds the sealed form
of the token, which is the only one that is accepted.

Deleting a client ends all its tokens at once. A client created anew under the
same name shares nothing with the old one.`,
		}),
	}
}

func (b *mcpBackend) clientExists(ctx context.Context, req *logical.Request, d *framework.FieldData) (bool, error) {
	c, err := b.clients.get(ctx, req.Storage, d.Get("name").(string))
	return c != nil, err
}

func (b *mcpBackend) listClients(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	names, err := b.clients.list(ctx, req.Storage, "")
	if err != nil {
		return nil, err
	}
	return logical.ListResponse(names), nil
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
	return &logical.Response{Data: shown(with(c.clientSettings.data(), map[string]any{
		"name":       name,
		"client_id":  c.ID,
		"version":    c.Version,
		"created_at": formatTime(c.CreatedAt),
		"updated_at": formatTime(c.UpdatedAt),
		"accessor":   current.Accessor,
		"issued_at":  formatTime(current.IssuedAt),
		"expires_at": formatTime(current.ExpiresAt),
	}))}, nil
}

// data returns the settings in the form of a read's answer.
func (s *clientSettings) data() map[string]any {
	metadata := maps.Clone(s.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	data := map[string]any{
		"allowed_servers":   orEmpty(s.AllowedServers),
		"allowed_tools":     nil,
		"denied_tools":      orEmpty(s.DeniedTools),
		"policies":          orEmpty(s.Policies),
		"token_ttl":         seconds(s.TokenTTL),
		"token_max_ttl":     seconds(s.TokenMaxTTL),
		"token_bound_cidrs": orEmpty(s.TokenBoundCIDRs),
		"metadata":          metadata,
		"seal":              s.Seal,
		"disabled":          s.Disabled,
	}
	if s.AllowedTools != nil {
		data["allowed_tools"] = s.AllowedTools
	}
	return data
}
