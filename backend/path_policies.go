package backend

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/policy"
)

// policySettings are the fields that make up a policy's document. Every other
// field of a write is the engine's own or, in a whole settings file, ignored.
func policySettings() fields {
	return fields{
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

func policyFields() fields {
	return merge(policySettings(), fields{
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
			Description: "Write nothing, and answer the pairs of client and server whose decision would change.",
		},
		"force": {
			Type:        framework.TypeBool,
			Description: "Take a managed policy out of force even if clients may then reach more. In a delete, also if clients name the policy: they then reach no server until it exists again or they no longer name it. The engine does not look for those clients.",
			Query:       true,
		},
	})
}

func (b *mcpBackend) pathPolicies() []*framework.Path {
	written := noContent()
	written[http.StatusOK] = []framework.Response{{Description: "OK: a dry run", Fields: dryRunFields()}}
	return build(
		listPath("policies", "List the policies.", b.policyNames),
		path{
			pattern:  "policies/" + segment("name"),
			fields:   policyFields(),
			anyField: true, // a whole settings file
			exists:   b.policyExists,
			about:    "policy",
			ops: operations{
				logical.ReadOperation: {
					do: b.readPolicy, summary: "Read a policy in the form in which it was written.",
					takes: noFields, answers: merge(policySettings(), pick(policyFields(), "managed")),
				},
				logical.CreateOperation: {do: b.writePolicy, summary: "Create a policy.", responses: written},
				logical.UpdateOperation: {do: b.writePolicy, summary: "Replace a policy.", responses: written},
				logical.DeleteOperation: {do: b.deletePolicy, summary: "Delete a policy that no client names."},
			},
			synopsis: "Decide which servers clients may reach, in the form of Claude Code's managed settings.",
			help: `
A policy is written as Claude Code's managed settings are: the file that is
deployed already loads as it stands,

    vault write mcp/policies/corp @managed-settings.json

and its settings about other things are ignored with a warning. An entry that Claude
Code would silently drop, and so admit or block everything, is refused here with its
place in the list.

A write that gives any of the three settings replaces all three. One that gives none
of them, such as managed=true alone, leaves them as they are; a file that has none
of them is refused, and so is a field whose name is nearly one of this path's.
dry_run=true answers what would change and writes nothing.

Taking a managed policy out of force (managed=false, or a delete) concerns every
client. Where clients may reach more by it, that needs force=true.

A client reaches a server if its allowed_servers names it and all policies that
apply to it admit it. evaluate explains each decision.`,
		},
	)
}

func (b *mcpBackend) policyExists(ctx context.Context, req *logical.Request, d *framework.FieldData) (bool, error) {
	held, err := b.policies(ctx, req.Storage)
	if err != nil {
		return false, err
	}
	return held.all[d.Get("name").(string)] != nil, nil
}

func (b *mcpBackend) policyNames(ctx context.Context, s logical.Storage) ([]string, error) {
	held, err := b.policies(ctx, s)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(held.all)), nil
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
