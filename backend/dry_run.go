package backend

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/policy"
)

// How many changed decisions a dry run lists, and how many its summary; it counts all.
const (
	maxDryRun        = 1000
	maxDryRunSummary = 50
)

func dryRunFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"changed": {Type: framework.TypeInt, Description: "How many pairs of client and server would be decided otherwise."},
		"changes": {Type: framework.TypeSlice, Description: "The first 1,000 of them: client, server, before, after, and the reason of the decision after."},
		"summary": {Type: framework.TypeString, Description: "The same for a reader, as a table of the first 50."},
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
	err = b.clients.each(ctx, s, func(client string, c *clientEntry) {
		for _, change := range compare.of(c.Policies) {
			if !policy.AllowsServer(c.AllowedServers, change.server) {
				continue
			}
			if changed++; changed <= maxDryRun {
				change.client = client
				listed = append(listed, change)
			}
		}
	})
	if err != nil {
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
		before: newPolicySnapshot(before.all), // whose memory of compiled policies is its own, not what lookups use
		after:  after, known: map[string][]pairChange{},
	}
}

// of returns what would change for a client that binds those policies and may reach
// every server.
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

// summaryOf is a dry run's answer for a reader.
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

// table aligns rows for a reader, without spaces at their ends.
func table(rows [][]string) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // a builder takes everything
	return strings.TrimSuffix(text.String(), "\n")
}
