package backend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/policy"
)

func (b *mcpBackend) pathEvaluate() []*framework.Path {
	return build(path{
		pattern: "evaluate",
		fields: fields{
			"client":         {Type: framework.TypeString, Description: "The client to decide for, with its allowed_servers and its policies."},
			"policies":       {Type: framework.TypeCommaStringSlice, Description: "Instead of a client: the policies to decide by, besides the managed ones, which always apply."},
			"server":         {Type: framework.TypeString, Description: "A registered server."},
			"server_name":    {Type: framework.TypeString, Description: "Instead of a registered server: the name of one that is not registered. Give url, or command and args, with it."},
			"url":            {Type: framework.TypeString, Description: "The URL that the server would have."},
			"command":        {Type: framework.TypeString, Description: "The command that the server would have."},
			"args":           {Type: framework.TypeStringSlice, Description: "The command's arguments, one each."},
			"tool":           {Type: framework.TypeString, Description: "With client: a tool that the client would call on the server."},
			"prompt":         {Type: framework.TypeString, Description: "With client: a prompt that it would get."},
			"resource":       {Type: framework.TypeString, Description: "With client: the URI of a resource that it would read."},
			fieldAliasPrefix: {Type: framework.TypeString, Default: defaultAliasPrefix, Description: "The alias_prefix in the gateway's file, for the paths of the server's credentials."},
		},
		ops: operations{
			logical.UpdateOperation: {
				do: b.evaluate, verb: "evaluate", runs: onAny,
				answers: fields{
					"allowed":     {Type: framework.TypeBool, Description: "Whether the gateway would let the client through.", Required: true},
					"decision":    {Type: framework.TypeString, Description: "allowed, blocked-deny, blocked-allow, not-in-allowed-servers, unknown-server, server-disabled, client-disabled, tool-not-allowed, prompt-not-allowed, resource-not-allowed, tool-not-approved, prompt-not-approved or resource-not-approved.", Required: true},
					"reason":      {Type: framework.TypeString, Description: "The reason for the decision, and how to change it.", Required: true},
					"entry":       {Type: framework.TypeString, Description: "The entry of a policy, or the rule, that decided, if one did."},
					"source":      {Type: framework.TypeString, Description: "The policy that has the entry; of a rule its list, as in: denied_tools of role engineer."},
					"checks":      {Type: framework.TypeSlice, Description: "Each check in order: check, result (passed, blocked or skipped) and detail.", Required: true},
					"credentials": {Type: framework.TypeSlice, Description: "The credentials of a registered server that the gateway would read for the client: name, method, path, or the problem for which there is no path.", Required: true},
					"summary":     {Type: framework.TypeString, Description: "All of it as one text, for people.", Required: true},
				},
			},
		},
		synopsis: "Explain whether a client may reach a server, or use a tool, a prompt or a resource of it.",
		help: `
"Why can't cursor-local reach github?"

    vault write mcp/evaluate client=cursor-local server=github

The answer is the decision that the gateway makes and writes to its audit log, with
the entry that decided and each check in order; with -field=summary it is a text. Give
policies instead of a client to try a policy, and server_name with url (or command and
args) for a server that is not registered yet.

With tool, prompt or resource, the answer also says whether the client's rules let it use
that, and which rule decides:

    vault write mcp/evaluate client=cursor-local server=github tool=create_issue

At a server with pins it also says whether a definition of that is approved. Whether the one
that the server has now is, only a gateway sees: read pins/NAME.

For a server with credentials, the answer also has the paths in Vault that the gateway
would read for the client. Whether Vault's policies let it is not asked.`,
	})
}

func (b *mcpBackend) evaluate(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	if err := checkEvaluateFields(d); err != nil {
		return nil, err
	}
	all, err := b.policies(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	server, registered, err := b.evaluatedServer(ctx, req.Storage, d)
	if err != nil {
		return nil, err
	}
	var warnings []string
	var decision policy.Decision
	var uses []credentialUse
	var sources []policy.Rights
	disabled := false
	client, forClient := d.GetOk("client")
	switch {
	case server == nil:
		decision = policy.Unknown(d.Get("server").(string))
	case registered != nil && registered.Disabled:
		decision = policy.Stopped(server.Name)
	case !forClient:
		decision = all.effective(d.Get("policies").([]string)).Evaluate(server)
	default:
		c, err := b.requireClient(ctx, req.Storage, client.(string))
		if err != nil {
			return nil, err
		}
		rights, err := b.rights(ctx, req.Storage, c)
		if err != nil {
			return nil, err
		}
		sources, disabled = rights.sources, c.Disabled
		decision = policy.Decide(client.(string), sources, all.effective(c.Policies), server)
		if registered != nil {
			uses = credentialUses(d.Get(fieldAliasPrefix).(string), client.(string), c, registered)
		} else {
			decision.Checks[0].Detail = fmt.Sprintf("server %q is taken as if it were registered", server.Name)
		}
	}
	if item, name := evaluatedItem(d); item != "" {
		decision = decision.Then(item, func() policy.Decision {
			return withHint(policy.DecideItem(client.(string), sources, server.Name, item, name), server.Name, item, name)
		})
		if decision, err = b.withPins(ctx, req.Storage, decision, registered, server, item, name); err != nil {
			return nil, err
		}
	}
	if disabled {
		decision = policy.Disabled(client.(string), decision)
		warnings = append(warnings, "the client is disabled: until it is enabled, none of its tokens is accepted")
	}
	answer := decisionData(&decision)
	answer["credentials"] = usesData(uses)
	answer["summary"] = decisionSummary(&decision) + usesSummary(uses)
	return &logical.Response{Data: answer, Warnings: warnings}, nil
}

func checkEvaluateFields(d *framework.FieldData) error {
	given := func(field string) bool { _, ok := d.GetOk(field); return ok }
	item, name := evaluatedItem(d)
	switch {
	case given("client") == given("policies"):
		return userErrorf("fields client and policies: give one of them")
	case given("server") == given("server_name"):
		return userErrorf("fields server and server_name: give one of them")
	case given("server") && (given("url") || given("command") || given("args")):
		return userErrorf("field server: a registered server has its URL or command already; use server_name for one that is not registered")
	case given("server_name") && given("url") == given("command"):
		return userErrorf("field server_name: give url, or command and args, along with it")
	case given("args") && !given("command"):
		return userErrorf("field args: give command along with it")
	case given("tool") && given("prompt"), given("tool") && given("resource"), given("prompt") && given("resource"):
		return userErrorf("fields tool, prompt and resource: give one of them")
	case item != "" && !given("client"):
		return userErrorf("field %s: rules about it belong to a client: give client along with it", item)
	case item != "" && name == "":
		return userErrorf("field %s: it is empty: give the %s that the client would use, or leave it out", item, item)
	case !aliasPrefixForm.MatchString(d.Get(fieldAliasPrefix).(string)):
		return userErrorf("field alias_prefix: use lower-case letters, digits and -, as in the gateway's file")
	}
	return nil
}

// evaluatedItem returns the item of the request and its name or URI; "" if there is none.
func evaluatedItem(d *framework.FieldData) (policy.Item, string) {
	for _, item := range []policy.Item{policy.Tool, policy.Prompt, policy.Resource} {
		if name, ok := d.GetOk(string(item)); ok {
			return item, name.(string)
		}
	}
	return "", ""
}

// evaluatedServer returns the server of the request, nil if it names one that is not
// registered, and its registration if it has one.
func (b *mcpBackend) evaluatedServer(ctx context.Context, s logical.Storage, d *framework.FieldData) (*policy.Server, *serverEntry, error) {
	if name, ok := d.GetOk("server"); ok {
		e, err := b.servers.get(ctx, s, name.(string))
		if err != nil || e == nil {
			return nil, nil, err
		}
		return e.subject(name.(string)), e, nil
	}
	_, stdio := d.GetOk("command")
	return &policy.Server{
		Name: d.Get("server_name").(string), Stdio: stdio, URL: d.Get("url").(string),
		Command: d.Get("command").(string), Args: d.Get("args").([]string),
	}, nil, nil
}

func decisionData(decision *policy.Decision) map[string]any {
	checks := make([]map[string]any, 0, len(decision.Checks))
	for _, c := range decision.Checks {
		checks = append(checks, map[string]any{"check": c.Check, "result": c.Result, "detail": c.Detail})
	}
	return map[string]any{
		"allowed":  decision.Allowed,
		"decision": decision.Decision,
		"reason":   decision.Reason,
		"entry":    decision.Entry,
		"source":   decision.Source,
		"checks":   checks,
	}
}

// decisionSummary describes the decision for people. The deciding check is the reason, so
// it is not repeated.
func decisionSummary(decision *policy.Decision) string {
	rows := [][]string{{"CHECK", "RESULT", "DETAIL"}}
	for _, c := range decision.Checks {
		detail := c.Detail
		if detail == decision.Reason {
			detail = "see above"
		}
		rows = append(rows, []string{c.Check, c.Result, detail})
	}
	return decision.Decision + ": " + decision.Reason + "\n\n" + table(rows)
}

// How many changed decisions a dry run lists, and how many its summary; it counts all.
const (
	maxDryRun        = 1000
	maxDryRunSummary = 50
)

func dryRunFields() fields {
	return fields{
		"changed": {Type: framework.TypeInt, Description: "How many pairs of client and server would get another decision."},
		"changes": {Type: framework.TypeSlice, Description: "The first 1,000 of them: client, server, before, after, and the reason of the decision after."},
		"summary": {Type: framework.TypeString, Description: "The first 50 of them as a table, for people."},
	}
}

// pairChange is a pair of client and server whose decision would change.
type pairChange struct {
	client, server, before, after, reason string
}

// dryRun lists the decisions that a change of the policies would change. A server that the
// client's allowed_servers does not name is refused before and after, so it is not listed.
func (b *mcpBackend) dryRun(ctx context.Context, s logical.Storage, before, after *policySnapshot, warnings []string) (*logical.Response, error) {
	servers, err := b.allServers(ctx, s)
	if err != nil {
		return nil, err
	}
	changed, listed := 0, []pairChange{}
	compare := newComparison(servers, before, after)
	var failed error
	err = b.clients.each(ctx, s, func(client string, c *clientEntry) {
		rights, err := b.rights(ctx, s, c)
		if err != nil {
			failed = err
			return
		}
		for _, change := range compare.of(c.Policies) {
			if !policy.AllowsServer(rights.sources, change.server) {
				continue
			}
			if changed++; changed <= maxDryRun {
				change.client = client
				listed = append(listed, change)
			}
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, err
	}
	changes := make([]map[string]any, 0, len(listed))
	for _, c := range listed {
		changes = append(changes, map[string]any{"client": c.client, "server": c.server, "before": c.before, "after": c.after, "reason": c.reason})
	}
	return &logical.Response{
		Data:     map[string]any{"changed": changed, "changes": changes, "summary": summaryOf(changed, listed)},
		Warnings: append(warnings, "dry run: nothing was written"),
	}, nil
}

// comparison decides about every server under two states of the policies, once for
// each list of policies that some client has.
type comparison struct {
	servers       map[string]*serverEntry
	names         []string
	before, after *policySnapshot
	known         map[string][]pairChange // by list of policies
}

func newComparison(servers map[string]*serverEntry, before, after *policySnapshot) *comparison {
	return &comparison{
		servers: servers, names: slices.Sorted(maps.Keys(servers)),
		before: newPolicySnapshot(before.all), // with compiled policies of its own, apart from those of lookups
		after:  after, known: map[string][]pairChange{},
	}
}

// of returns the changes for a client that binds those policies and may reach every
// server.
func (c *comparison) of(policies []string) []pairChange {
	key := strings.Join(policies, "\n")
	if known, ok := c.known[key]; ok {
		return known
	}
	var changes []pairChange
	old, next := c.before.effective(policies), c.after.effective(policies)
	if old.Digest() != next.Digest() {
		for _, name := range c.names {
			subject := c.servers[name].subject(name)
			was, is := old.Evaluate(subject), next.Evaluate(subject)
			if was.Decision != is.Decision {
				changes = append(changes, pairChange{server: name, before: was.Decision, after: is.Decision, reason: is.Reason})
			}
		}
	}
	c.known[key] = changes
	return changes
}

// summaryOf is a dry run's answer for people.
func summaryOf(changed int, listed []pairChange) string {
	if changed == 0 {
		return "No decision would change."
	}
	rows := [][]string{{"CLIENT", "SERVER", "BEFORE", "AFTER"}}
	for _, c := range listed[:min(maxDryRunSummary, len(listed))] {
		rows = append(rows, []string{c.client, c.server, c.before, c.after})
	}
	text := table(rows)
	if extra := changed - min(maxDryRunSummary, len(listed)); extra > 0 {
		text += fmt.Sprintf("\nand %d more", extra)
	}
	return text
}
