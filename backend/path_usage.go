package backend

import (
	"context"
	"fmt"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
)

// lastUsedField is the day of the last use, wherever it is read.
var lastUsedField = &framework.FieldSchema{
	Type:        framework.TypeString,
	Description: "The day of the last use in UTC, such as 2026-11-30, as gateways have reported it; null if none within usage_days (config) is known.",
}

func (b *mcpBackend) pathUsage() []*framework.Path {
	return build(
		path{
			pattern: "usage/?$",
			about:   "usage",
			ops: operations{
				logical.ReadOperation: {
					do: b.readCoverage, runs: onActive,
					answers: fields{
						"usage_days": {Type: framework.TypeInt, Description: "The number of days for which usage is kept; 0: none is kept.", Required: true},
						"days":       {Type: framework.TypeSlice, Description: "The days in order, today's at the end: day, complete, the number of gateways, and gaps, each with why and, of a gateway, gateway, first_seen, last_seen and last_report.", Required: true},
					},
				},
			},
			synopsis: "Read the days for which usage is known.",
			help: `
A day is complete if the engine was there when it began, and every gateway that was there
has reported all of it. Only of such a day can be said that something was not used; gaps
say why another one is not complete. Today never is.`,
		},
		path{
			pattern: "usage/clients/" + segment("name"),
			fields:  fields{"name": nameField},
			about:   "client-usage",
			ops: operations{
				logical.ReadOperation: {
					do: b.readClientUsage,
					answers: merge(pick(tokenResponseFields, "client", "client_id"), fields{
						"last_used": lastUsedField,
						"rows":      {Type: framework.TypeSlice, Description: "The client's usage, in order: server, tool and last_used of each. The tool \"\" is everything that is not a tool of the server's list: prompts, resources, and calls by other names.", Required: true},
					}),
				},
			},
			synopsis: "Read the usage of a client.",
			help: `
A call of a tool counts, and so does a read of a prompt or a resource. Sessions, lists and
open streams are no use of a server, though they are one of the client and its token. What
is not here within usage_days was not used on the days that usage calls complete.`,
		},
	)
}

func (b *mcpBackend) readClientUsage(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	c, err := b.clients.get(ctx, req.Storage, name)
	if err != nil || c == nil {
		return nil, err
	}
	used, err := b.usageOf(ctx, req.Storage, c.ID)
	if err != nil {
		return nil, err
	}
	rows, err := b.usageRowsOf(ctx, req.Storage, c.ID)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{"client": name, "client_id": c.ID, "last_used": used.lastUsed(), "rows": rows}}, nil
}

// usageRowsOf returns the rows of the client in order.
func (b *mcpBackend) usageRowsOf(ctx context.Context, s logical.Storage, clientID string) ([]map[string]any, error) {
	w, err := b.usageWindow(ctx, s)
	if err != nil {
		return nil, err
	}
	servers, err := sortedNames(ctx, s, usageRowsPrefix+clientID+"/")
	if err != nil {
		return nil, err
	}
	rows := []map[string]any{}
	for _, server := range servers {
		held, err := b.usageRows.get(ctx, s, usageRowKey(clientID, server))
		if err != nil {
			return nil, err
		}
		if held == nil {
			continue
		}
		for _, tool := range sortedKeys(held.Tools) {
			if day := held.Tools[tool]; w.has(day) {
				rows = append(rows, map[string]any{"server": server, "tool": tool, "last_used": day.String()})
			}
		}
	}
	return rows, nil
}

func (b *mcpBackend) readCoverage(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	w, err := b.usageWindow(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	keys, err := sortedNames(ctx, req.Storage, usageDayPrefix)
	if err != nil {
		return nil, err
	}
	first := w.today + 1
	for _, key := range keys {
		if day, err := check.ParseDay(key); err == nil && w.has(day) {
			first = day
			break
		}
	}
	days := []map[string]any{}
	for day := first; day <= w.today; day++ {
		held, err := b.usageDays.read(ctx, req.Storage, day.String())
		if err != nil {
			return nil, err
		}
		days = append(days, held.data(day, w.today))
	}
	return &logical.Response{Data: map[string]any{"usage_days": w.days, "days": days}}, nil
}

// data is the day in the form of an answer; d is nil for a day without an entry.
func (d *usageDay) data(day, today check.Day) map[string]any {
	gaps, gateways := d.gaps(day == today), 0
	if d != nil {
		gateways = len(d.Gateways)
	}
	return map[string]any{"day": day.String(), "complete": len(gaps) == 0 && day < today, "gateways": gateways, "gaps": gaps}
}

// gaps are the parts of the day's usage that are not known.
func (d *usageDay) gaps(isToday bool) []map[string]any {
	gaps := []map[string]any{}
	gap := func(why string) { gaps = append(gaps, map[string]any{"why": why}) }
	if d == nil {
		gap("the engine has kept nothing of this day: it was not there, or usage_days was 0")
		return gaps
	}
	if d.Partial {
		gap("the engine has kept nothing of the day before, and perhaps only a part of this one")
	}
	if d.More {
		gap(fmt.Sprintf("there were more than %d gateways, each start counted", maxGatewaysADay))
	}
	for _, id := range sortedKeys(d.Gateways) {
		if why := d.Gateways[id].why(id, isToday); why != "" {
			gaps = append(gaps, d.Gateways[id].gap(id, why))
		}
	}
	return gaps
}

// why names the part of the gateway's day that is missing, or "". Today is not over.
func (g *gatewayDay) why(id string, isToday bool) string {
	switch {
	case id == "":
		return "a gateway sent no id with its requests for changes: its version is an earlier one, which does not report"
	case g.Lost > 0:
		return fmt.Sprintf("the gateway could not keep %d uses of the day", g.Lost)
	case g.Closed || isToday:
		return ""
	case g.Reported.IsZero():
		return "the gateway has not reported"
	}
	return "the gateway has not reported the rest of the day: it has ended without a report, or Vault could not be reached"
}

func (g *gatewayDay) gap(id, why string) map[string]any {
	return nullUnset(map[string]any{
		"gateway": id, "why": why, "first_seen": formatTime(g.First), "last_seen": formatTime(g.Last), "last_report": formatTime(g.Reported),
	})
}
