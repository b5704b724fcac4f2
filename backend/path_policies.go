package backend

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/feed"
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
			Query:       true,
		},
		"force": {
			Type:        framework.TypeBool,
			Description: "Delete the policy though clients name it: those then reach no server until it exists again, or they no longer name it.",
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
				logical.ReadOperation: &framework.PathOperation{
					Callback: b.readPolicy, Summary: "Read a policy in the form in which it was written.",
					Responses: responses(merge(policySettings(), pick(policyFields(), "managed"))),
				},
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

A write replaces the whole policy; one that gives none of the three settings, such
as managed=true alone, leaves them as they are. dry_run=true answers what would
change and writes nothing.

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

// data is the policy in the form in which it was written: a list that is not set
// is left out, since null would be an empty one.
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

func (b *mcpBackend) writePolicy(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	if err := refused(check.PolicyName(name)); err != nil {
		return nil, err
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	b.policyBook.writing.Lock()
	defer b.policyBook.writing.Unlock()
	all, err := b.policies(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	held := all.all[name]
	if err := checkStillThere(req, held != nil, "policy", name); err != nil {
		return nil, err
	}
	next, warnings, err := policyFromRequest(held, req.Data, d)
	if err != nil {
		return nil, err
	}
	after := all.with(name, next)
	for _, w := range after.effective([]string{name}).Warnings() {
		if !slices.Contains(warnings, w) {
			warnings = append(warnings, w)
		}
	}
	if d.Get("dry_run").(bool) {
		return b.dryRun(ctx, req.Storage, all, after, warnings)
	}
	op := feed.Update
	if held == nil {
		op = feed.Create
	}
	err = b.writePolicies(func() error {
		return b.feed.Around(ctx, req.Storage, []feed.Event{{Type: feed.Policy, Operation: op, Name: name}}, func() error {
			return putJSON(ctx, req.Storage, policyPrefix+name, next)
		})
	})
	if err != nil {
		return nil, err
	}
	return warned(warnings), nil
}

// policyFromRequest reads the policy to be written. Where the request has none of
// the settings, but only fields of the engine's own, those of held stay.
func policyFromRequest(held *policyEntry, request map[string]any, d *framework.FieldData) (*policyEntry, []string, error) {
	next := &policyEntry{}
	if held != nil {
		*next = *held
	}
	if v, ok := d.GetOk("managed"); ok {
		next.Managed = v.(bool)
	}
	settings := maps.Clone(request)
	for _, own := range []string{"name", "managed", "dry_run", "force"} {
		delete(settings, own)
	}
	if held != nil && len(settings) == 0 {
		return next, nil, nil
	}
	document, warnings, err := policy.ParseFields(settings)
	if err != nil {
		return nil, nil, userErrorf("%s", err)
	}
	next.Document = document
	if held != nil && held.Document.Allowed != nil && document.Allowed == nil {
		warnings = append(warnings, fmt.Sprintf("%s was set and is not any more: what no list denies is allowed", policy.AllowedSetting))
	}
	if held != nil && len(held.Document.Denied) > 0 && document.Denied == nil {
		warnings = append(warnings, fmt.Sprintf("%s was set and is not any more: what it denied is not denied any more", policy.DeniedSetting))
	}
	return next, warnings, nil
}

func (b *mcpBackend) deletePolicy(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	ctx, cancel := durable(ctx)
	defer cancel()
	b.policyBook.writing.Lock()
	defer b.policyBook.writing.Unlock()
	all, err := b.policies(ctx, req.Storage)
	if err != nil || all.all[name] == nil {
		return nil, err
	}
	users, err := b.clientsOfPolicy(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if len(users) > 0 && !d.Get("force").(bool) {
		return nil, userErrorf("the policy %q is named by %s: take it out of their policies first, or pass force=true, which leaves them without access to any server",
			name, someOf("client", users))
	}
	err = b.writePolicies(func() error {
		return b.feed.Around(ctx, req.Storage, []feed.Event{{Type: feed.Policy, Operation: feed.Delete, Name: name}}, func() error {
			return req.Storage.Delete(ctx, policyPrefix+name)
		})
	})
	if err != nil || len(users) == 0 {
		return nil, err
	}
	return warned([]string{fmt.Sprintf("%s named the policy %q and can reach no server now: take it out of their policies, or create it anew", someOf("client", users), name)}), nil
}

// clientsOfPolicy returns the names of the clients that bind a policy.
func (b *mcpBackend) clientsOfPolicy(ctx context.Context, s logical.Storage, name string) ([]string, error) {
	var users []string
	err := b.eachClient(ctx, s, func(client string, c *clientEntry) {
		if slices.Contains(c.Policies, name) {
			users = append(users, client)
		}
	})
	return users, err
}

// eachClient calls do for every client, in the order of their names.
func (b *mcpBackend) eachClient(ctx context.Context, s logical.Storage, do func(name string, c *clientEntry)) error {
	names, err := b.clients.list(ctx, s, "")
	if err != nil {
		return err
	}
	for _, name := range names {
		c, err := b.clients.get(ctx, s, name)
		if err != nil {
			return err
		}
		if c != nil {
			do(name, c)
		}
	}
	return nil
}

// someOf names a few of many, for a sentence.
func someOf(what string, names []string) string {
	const shown = 5
	if len(names) == 1 {
		return fmt.Sprintf("the %s %s", what, names[0])
	}
	list := strings.Join(names[:min(shown, len(names))], ", ")
	if extra := len(names) - shown; extra > 0 {
		list = fmt.Sprintf("%s and %d more", list, extra)
	}
	return fmt.Sprintf("%d %ss (%s)", len(names), what, list)
}
