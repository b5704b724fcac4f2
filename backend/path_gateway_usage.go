package backend

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/errgroup"

	"vault-plugin-secrets-mcp/backend/check"
)

// reportWrites is how many clients of a report are written at once.
const reportWrites = 16

func (b *mcpBackend) pathGatewayUsage() []*framework.Path {
	return build(path{
		pattern: "gateway/usage",
		fields: fields{
			"gateway": {Type: framework.TypeString, Description: "The gateway's id, which it makes at each start, and also sends with changes.", Required: true},
			"day":     {Type: framework.TypeString, Description: "The day of the report in UTC, such as 2026-11-30: today or yesterday.", Required: true},
			"clients": {
				Type:        framework.TypeMap,
				Description: "The usage, by the id of the client: tokens, a list of accessors, and servers, by name the list of the tools that were called. The tool \"\" stands for everything that is not a tool of the server's list.",
			},
			"closed": {Type: framework.TypeBool, Description: "This was the last of the day: the gateway has reported all of it."},
			"lost":   {Type: framework.TypeInt, Description: "How much of the day the gateway could not keep, and so does not report."},
		},
		about: "gateway-usage",
		ops: operations{
			logical.UpdateOperation: {
				do: b.reportUsage, verb: "report",
				answers: fields{
					"refused":    {Type: framework.TypeInt, Description: "How much of the report is not kept: its client or server does not exist, or it is not valid.", Required: true},
					"usage_days": {Type: framework.TypeInt, Description: "The number of days for which usage is kept; 0: none is kept.", Required: true},
				},
			},
		},
		synopsis: "Report usage.",
		help: `
For gateways alone, once a minute if there is something new. A report that came before
changes nothing, so a gateway sends it again until it is answered. When it is, all of it
is in storage. The engine believes the gateway: usage is only a hint.`,
	})
}

// usageReport is the usage of one day at one gateway.
type usageReport struct {
	gateway string
	day     check.Day
	closed  bool
	lost    int
	clients map[string]*reportedClient // by id
}

type reportedClient struct {
	Tokens  []string            `json:"tokens"`
	Servers map[string][]string `json:"servers"`
}

// rows counts the tokens and tools that are reported of the client, and 1 for the
// client itself if there are none.
func (c *reportedClient) rows() int {
	rows := len(c.Tokens)
	for _, tools := range c.Servers {
		rows += max(1, len(tools))
	}
	return max(1, rows)
}

func (b *mcpBackend) reportUsage(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := durable(ctx)
	defer cancel()
	w, err := b.usageWindow(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	report, err := readReport(d, w.today)
	if err != nil {
		return nil, err
	}
	var refused int64
	if !w.off() {
		if refused, err = b.keepReport(ctx, req.Storage, report, w); err != nil {
			return nil, err
		}
	}
	return &logical.Response{Data: map[string]any{"refused": refused, "usage_days": w.days}}, nil
}

// readReport reads the request. It refuses a form that no gateway sends, and days that are
// too old or in the future.
func readReport(d *framework.FieldData, today check.Day) (*usageReport, error) {
	gateway, err := required(d, "gateway", "send the id of the gateway")
	if err != nil {
		return nil, err
	}
	if err := check.GatewayID(gateway); err != nil {
		return nil, userErrorf("field gateway: %s", err)
	}
	text, err := required(d, "day", "send the day of the report")
	if err != nil {
		return nil, err
	}
	day, err := check.ParseDay(text)
	if err != nil {
		return nil, userErrorf("field day: %s", err)
	}
	if day != today && day != today-1 {
		return nil, userErrorf("field day: %s is neither today nor yesterday, which are %s and %s here: compare the clocks", day, today, today-1)
	}
	report := &usageReport{gateway: gateway, day: day, closed: d.Get("closed").(bool), lost: d.Get("lost").(int)}
	if report.lost < 0 {
		return nil, userErrorf("field lost: %d is negative", report.lost)
	}
	report.clients, err = readReported(d.Get("clients").(map[string]any))
	return report, err
}

func readReported(raw map[string]any) (map[string]*reportedClient, error) {
	text, err := json.Marshal(raw)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	var clients map[string]*reportedClient
	if decoder.Decode(&clients) != nil { // without the error, which repeats the body
		return nil, userErrorf("field clients: it is not an object of clients, each with tokens and servers")
	}
	rows := 0
	for id, c := range clients {
		if c == nil {
			return nil, userErrorf("field clients: a client of it is null")
		}
		if len(id) != idLength {
			return nil, userErrorf("field clients: the id of a client has %d characters", idLength)
		}
		rows += c.rows()
	}
	if rows > check.MaxReportRows {
		return nil, userErrorf("field clients: it has %d rows, and a report has at most %d: send the others with the next one", rows, check.MaxReportRows)
	}
	return clients, nil
}

// keepReport stores the usage. It stores last that the day is closed, when all usage is
// stored.
func (b *mcpBackend) keepReport(ctx context.Context, s logical.Storage, report *usageReport, w usageWindow) (refused int64, err error) {
	var count atomic.Int64
	group, parallel := errgroup.WithContext(ctx)
	group.SetLimit(reportWrites)
	for id, c := range report.clients {
		group.Go(func() error {
			n, err := b.keepClient(parallel, s, id, c, report.day, w)
			count.Add(n)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	if err := b.noteReport(ctx, s, report); err != nil {
		return 0, err
	}
	return count.Load(), nil
}

// keepClient stores the usage of one client, and returns the number of rows that are
// refused. The client's lock is not held: if the client is deleted meanwhile, nobody reads
// its usage, and tidy removes it.
func (b *mcpBackend) keepClient(ctx context.Context, s logical.Storage, id string, reported *reportedClient, day check.Day, w usageWindow) (refused int64, err error) {
	_, c, err := b.clientOfID(ctx, s, id)
	if err != nil {
		return 0, err
	}
	if c == nil {
		return int64(reported.rows()), nil
	}
	var tokens []string
	for _, accessor := range reported.Tokens {
		there, err := b.hasToken(ctx, s, c, accessor)
		if err != nil {
			return 0, err
		}
		if there {
			tokens = append(tokens, accessor)
		} else {
			refused++
		}
	}
	errs := []error{b.noteClient(ctx, s, id, tokens, day)}
	for server, tools := range reported.Servers {
		n, err := b.keepServer(ctx, s, id, server, tools, day, w)
		refused, errs = refused+n, append(errs, err)
	}
	return refused, errors.Join(errs...)
}

func (b *mcpBackend) keepServer(ctx context.Context, s logical.Storage, id, server string, tools []string, day check.Day, w usageWindow) (refused int64, err error) {
	var e *serverEntry
	if check.ServerName(server) == nil {
		if e, err = b.servers.get(ctx, s, server); err != nil {
			return 0, err
		}
	}
	if e == nil {
		return int64(len(tools)), nil
	}
	var named []string
	for _, tool := range tools {
		if check.ToolName(tool) == nil {
			named = append(named, tool)
		} else {
			refused++
		}
	}
	return refused, b.noteTools(ctx, s, id, server, named, day, w)
}
