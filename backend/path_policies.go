package backend

import (
	"context"
	"maps"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/policy"
)

// policySettings are the fields that make up a policy's document. Every other
// field of a write is the engine's own or, in a whole settings file, ignored.
func policySettings() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		policy.AllowedSetting: {
			Type:        framework.TypeSlice,
			Description: "The allow-list: entries of serverUrl, serverCommand or serverName. Unset: it admits every server. Empty: none.",
		},
		policy.DeniedSetting: {
			Type:        framework.TypeSlice,
			Description: "The deny-list: entries of the same form. Nothing overrides a match.",
		},
		policy.ManagedOnlySetting: {
			Type:        framework.TypeBool,
			Description: "In a managed policy: only the allow-lists of managed policies count.",
		},
	}
}

func policyFields() map[string]*framework.FieldSchema {
	return merge(policySettings(), map[string]*framework.FieldSchema{
		"name": {
			Type:        framework.TypeString,
			Description: "Name of the policy: lower-case letters, digits and . _ - with a letter or digit at both ends.",
			Required:    true,
		},
		"managed": {
			Type:        framework.TypeBool,
			Description: "The policy applies to every client. Otherwise it applies to the clients that name it in policies.",
		},
		"dry_run": {
			Type:        framework.TypeBool,
			Description: "Write nothing, and answer with the pairs of client and server whose decision would change.",
		},
		"force": {
			Type:        framework.TypeBool,
			Description: "Take a managed policy out of force though clients may then reach more. In a delete also: although clients name the policy, which then reach no server until it exists again, or they no longer name it. Nobody looks which clients those are.",
			Query:       true,
		},
	})
}

func (b *mcpBackend) pathPolicies() []*framework.Path {
	written := noContent()
	written[200] = []framework.Response{{Description: "OK: a dry run", Fields: dryRunFields()}}
	return []*framework.Path{
		describe(&framework.Path{
			Pattern: "policies/?$",
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: &framework.PathOperation{
					Callback:     b.listPolicies,
					Summary:      "List the policies.",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "list", OperationSuffix: "policies"},
					Responses:    listed(),
				},
			},
			HelpSynopsis:    "List the policies.",
			HelpDescription: "The names come in alphabetical order.",
		}),
		describe(&framework.Path{
			Pattern:             "policies/(?P<name>[^/]+)",
			Fields:              policyFields(),
			TakesArbitraryInput: true, // a whole settings file
			DisplayAttrs:        &framework.DisplayAttributes{OperationSuffix: "policy"},
			ExistenceCheck:      b.policyExists,
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: only(&framework.PathOperation{
					Callback: b.readPolicy, Summary: "Read a policy in the form in which it was written.",
					Responses: responses(merge(policySettings(), pick(policyFields(), "managed"))),
				}, "name"),
				logical.CreateOperation: &framework.PathOperation{
					Callback: b.writePolicy, Summary: "Create a policy.", Responses: written,
					ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
				},
				logical.UpdateOperation: &framework.PathOperation{
					Callback: b.writePolicy, Summary: "Replace a policy.", Responses: written,
					ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
				},
				logical.DeleteOperation: &framework.PathOperation{
					Callback: b.deletePolicy, Summary: "Delete a policy that no client names.", Responses: noContent(),
					ForwardPerformanceStandby: true, ForwardPerformanceSecondary: true,
				},
			},
			HelpSynopsis: "Decide which servers clients may reach, in the form of Claude Code's managed settings.",
			HelpDescription: `
A policy is written as Claude Code's managed settings are: the file that is
deployed already loads as it stands,

    vault write mcp/policies/corp @managed-settings.json

and settings in it that are about something else are ignored with a warning. What
the desktop program would drop without a word, and so admit or block everything,
is refused here with its place in the list.

A write that gives any of the three settings replaces all three. One that gives none
of them, such as managed=true alone, leaves them as they are; a file that has none
of them is refused, and so is a field whose name is nearly one of this path's.
dry_run=true answers what would change and writes nothing.

Taking a managed policy out of force (managed=false, or a delete) concerns every
client. Where clients may reach more by it, that needs force=true.

A client reaches a server if its allowed_servers names it and all policies that
apply to it admit it. evaluate explains each decision.`,
		}),
	}
}

func (b *mcpBackend) policyExists(ctx context.Context, req *logical.Request, d *framework.FieldData) (bool, error) {
	held, err := b.policies(ctx, req.Storage)
	if err != nil {
		return false, err
	}
	return held.all[d.Get("name").(string)] != nil, nil
}

func (b *mcpBackend) listPolicies(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	held, err := b.policies(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	return logical.ListResponse(slices.Sorted(maps.Keys(held.all))), nil
}

func (b *mcpBackend) readPolicy(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	held, err := b.policies(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	e := held.all[d.Get("name").(string)]
	if e == nil {
		return nil, nil
	}
	return &logical.Response{Data: e.data()}, nil
}

// data returns the policy in the form in which it was written. An unset list is left out,
// since null would mean an empty one.
func (e *policyEntry) data() map[string]any {
	data := map[string]any{"managed": e.Managed}
	if e.Document.Allowed != nil {
		data[policy.AllowedSetting] = e.Document.Allowed
	}
	if e.Document.Denied != nil {
		data[policy.DeniedSetting] = e.Document.Denied
	}
	if e.Document.ManagedOnly {
		data[policy.ManagedOnlySetting] = true
	}
	return data
}
