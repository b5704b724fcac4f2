package backend

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/feed"
	"vault-plugin-secrets-mcp/backend/policy"
)

// ownPolicyFields are the fields of a policy's write that are not settings.
var ownPolicyFields = []string{"name", "managed", "dry_run", "force"}

func (b *mcpBackend) writePolicy(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	if err := refused(check.PolicyName(name)); err != nil {
		return nil, err
	}
	if d.Get("dry_run").(bool) {
		return b.tryPolicy(ctx, req, d, name)
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	b.policyBook.writing.Lock()
	defer b.policyBook.writing.Unlock()
	w, err := b.readPolicyWrite(ctx, req, d, name)
	if err != nil {
		return nil, err
	}
	if reflect.DeepEqual(w.held, w.next) { // an empty list and an unset one differ
		return warned(w.warnings), nil
	}
	if err := w.refuseWidening(d.Get("force").(bool)); err != nil {
		return nil, err
	}
	op := feed.Update
	if w.held == nil {
		op = feed.Create
	}
	err = b.writePolicies(func() error {
		return b.feed.Around(ctx, req.Storage, []feed.Event{{Type: feed.Policy, Operation: op, Name: name}}, func() error {
			return putJSON(ctx, req.Storage, policyPrefix+name, w.next)
		})
	})
	if err != nil {
		return nil, err
	}
	return warned(w.warnings), nil
}

// tryPolicy is writePolicy without the write. It takes no lock: a dry run reads every client,
// and a denial that is written meanwhile must not wait for it.
func (b *mcpBackend) tryPolicy(ctx context.Context, req *logical.Request, d *framework.FieldData, name string) (*logical.Response, error) {
	w, err := b.readPolicyWrite(ctx, req, d, name)
	if err != nil {
		return nil, err
	}
	if err := w.refuseWidening(true); err != nil { // only for its warnings: a dry run needs no force
		return nil, err
	}
	return b.dryRun(ctx, req.Storage, w.before, w.after, w.warnings)
}

// policyWrite is one write of a policy: the stored one, and the one to be.
type policyWrite struct {
	name          string
	held, next    *policyEntry
	before, after *policySnapshot
	warnings      []string
}

func (b *mcpBackend) readPolicyWrite(ctx context.Context, req *logical.Request, d *framework.FieldData, name string) (*policyWrite, error) {
	before, err := b.policies(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	w := &policyWrite{name: name, held: before.all[name], before: before}
	if err := checkStillThere(req, w.held != nil, "policy", name); err != nil {
		return nil, err
	}
	if w.next, w.warnings, err = policyFromRequest(w.held, req.Data, d); err != nil {
		return nil, err
	}
	w.after = before.with(name, w.next)
	for _, warning := range w.after.effective([]string{name}).Warnings() {
		if !slices.Contains(w.warnings, warning) {
			w.warnings = append(w.warnings, warning)
		}
	}
	return w, nil
}

// refuseWidening refuses to take a managed policy out of force if clients may reach more
// without it, unless forced. Otherwise it notes a warning.
func (w *policyWrite) refuseWidening(forced bool) error {
	if w.held == nil || !w.held.Managed || w.next.Managed {
		return nil
	}
	problem := w.before.widening(w.after)
	if problem != "" && !forced {
		return userErrorf("the policy %q applies to every client, and taking it out of force lets clients reach more: %s. See who would, with dry_run=true, and pass force=true to do it", w.name, problem)
	}
	w.warnings = append(w.warnings, outOfForce(w.name, problem, "from now on it applies only to the clients that name it"))
	return nil
}

// outOfForce is the text about a managed policy that no longer applies to every client.
func outOfForce(name, problem, then string) string {
	text := fmt.Sprintf("the policy %q applied to every client: %s", name, then)
	if problem != "" {
		text += "; clients may reach more: " + problem
	}
	return text
}

// policyFromRequest reads the policy to be written. If the request has only fields of the
// engine's own and none of the settings, those of held stay.
func policyFromRequest(held *policyEntry, request map[string]any, d *framework.FieldData) (*policyEntry, []string, error) {
	next := &policyEntry{}
	if held != nil {
		*next = *held
	}
	set(d, "managed", &next.Managed)
	settings := maps.Clone(request)
	for _, own := range ownPolicyFields {
		delete(settings, own)
	}
	if err := refuseNearMisses(settings); err != nil {
		return nil, nil, err
	}
	if !policy.AnySetting(settings) {
		return next, nil, refuseWithoutSetting(held, settings)
	}
	document, warnings, err := policy.ParseFields(settings)
	if err != nil {
		return nil, nil, userErrorf("%s", err)
	}
	next.Document = document
	return next, append(warnings, losses(held, next)...), nil
}

// refuseNearMisses refuses a field whose name is nearly one of the engine's own: a
// write that was meant to be a dry run must not be carried out.
func refuseNearMisses(settings map[string]any) error {
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if meant := policy.NearMiss(name, ownPolicyFields); meant != "" {
			return userErrorf("the field %q is not known: did you mean %q? Nothing was written", name, meant)
		}
	}
	return nil
}

// refuseWithoutSetting refuses a write that has none of the settings, unless it changes another
// field of the policy. Such a write would restrict nothing, which its sender cannot mean.
func refuseWithoutSetting(held *policyEntry, settings map[string]any) error {
	if held != nil && len(settings) == 0 {
		return nil
	}
	what := "it holds none of " + strings.Join(policy.Settings(), ", ")
	if len(settings) > 0 {
		what = fmt.Sprintf("it holds %s, and none of %s", strings.Join(slices.Sorted(maps.Keys(settings)), ", "), strings.Join(policy.Settings(), ", "))
	}
	if _, ok := settings[policy.ServersKey]; ok {
		what += ". " + policy.AboutServers
	}
	if held != nil {
		return userErrorf("a policy must restrict something, and this one is left as it was: %s. To change managed alone, write that and nothing else; to lift the policy, delete it", what)
	}
	return userErrorf("a policy must restrict something: %s", what)
}

// losses warns of restrictions that the write removes, and of a policy that restricts nothing.
func losses(held, next *policyEntry) []string {
	var warnings []string
	allowed, denied := next.Document.Allowed, next.Document.Denied
	if held != nil && held.Document.Allowed != nil && allowed == nil {
		warnings = append(warnings, fmt.Sprintf("%s was set and is now unset: every server that no list denies is allowed", policy.AllowedSetting))
	}
	if held != nil && len(held.Document.Denied) > 0 && denied == nil {
		warnings = append(warnings, fmt.Sprintf("%s was set and is now unset: its denials end", policy.DeniedSetting))
	}
	if allowed == nil && len(denied) == 0 && !next.Document.ManagedOnly {
		warnings = append(warnings, fmt.Sprintf("THIS POLICY RESTRICTS NOTHING: it denies no server, and without %s it admits every one. Write %s=[] to admit none",
			policy.AllowedSetting, policy.AllowedSetting))
	}
	return warnings
}

func (b *mcpBackend) deletePolicy(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, forced := d.Get("name").(string), d.Get("force").(bool)
	if !forced {
		if err := b.refuseDelete(ctx, req.Storage, name); err != nil {
			return nil, err
		}
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	b.policyBook.writing.Lock()
	defer b.policyBook.writing.Unlock()
	all, err := b.policies(ctx, req.Storage)
	if err != nil || all.all[name] == nil {
		return nil, err
	}
	held, problem := all.all[name], all.lifting(name)
	if problem != "" && !forced { // it was made so since it was looked at
		return nil, userErrorf("%s", managedStill(name, problem))
	}
	err = b.writePolicies(func() error {
		return b.feed.Around(ctx, req.Storage, []feed.Event{{Type: feed.Policy, Operation: feed.Delete, Name: name}}, func() error {
			return req.Storage.Delete(ctx, policyPrefix+name)
		})
	})
	if err != nil {
		return nil, err
	}
	var warnings []string
	if held.Managed {
		warnings = append(warnings, outOfForce(name, problem, "it is gone"))
	}
	if forced {
		warnings = append(warnings, fmt.Sprintf("clients that name the policy %q can reach no server now: take it out of their policies, or create it again", name))
	}
	return warned(warnings), nil
}

// refuseDelete looks for reasons against a delete of the policy. It reads every client in the
// request's own time and takes no lock, so that writers of other policies do not wait. A
// client that names the policy only after it was read reaches no server, as after a forced
// delete.
func (b *mcpBackend) refuseDelete(ctx context.Context, s logical.Storage, name string) error {
	all, err := b.policies(ctx, s)
	if err != nil || all.all[name] == nil {
		return err
	}
	var problems []string
	if problem := all.lifting(name); problem != "" {
		problems = append(problems, managedStill(name, problem))
	}
	users, err := b.clientsOfPolicy(ctx, s, name)
	if err != nil {
		return err
	}
	if len(users) > 0 {
		problems = append(problems, fmt.Sprintf("the policy %q is named by %s: take it out of their policies first, or pass force=true, which leaves them without access to any server",
			name, someOf("client", users)))
	}
	if len(problems) > 0 {
		return userErrorf("%s", strings.Join(problems, "; "))
	}
	return nil
}

func managedStill(name, problem string) string {
	return fmt.Sprintf("the policy %q applies to every client, and without it clients may reach more: %s. Pass force=true to delete it", name, problem)
}

// clientsOfPolicy returns the names of the clients that bind a policy.
func (b *mcpBackend) clientsOfPolicy(ctx context.Context, s logical.Storage, name string) ([]string, error) {
	var users []string
	err := b.clients.each(ctx, s, func(client string, c *clientEntry) {
		if slices.Contains(c.Policies, name) {
			users = append(users, client)
		}
	})
	return users, err
}
