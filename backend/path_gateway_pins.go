package backend

import (
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/pin"
)

// The bounds of one report of definitions.
const (
	maxPinReport     = 64
	maxPinReportSize = 2 << 20 // bytes of its texts
)

func (b *mcpBackend) pathGatewayPins() []*framework.Path {
	return build(path{
		pattern: "gateway/pins/" + segment("server"),
		fields: merge(pick(pinFields(), "server"), fields{
			"place":       {Type: framework.TypeString, Description: "The id of the server's place, as gateway/servers has it. A report about another place counts for nothing."},
			"definitions": {Type: framework.TypeSlice, Description: "Definitions of the server that are not approved: kind and text of each, the text being JSON as the server wrote it. At most 64, of 2 MiB together."},
		}),
		about: "gateway-pins",
		ops: operations{
			logical.ReadOperation: {
				do: b.gatewayPins, runs: onActive, takes: noFields,
				answers: merge(feedFields(), fields{
					"set":      {Type: framework.TypeString, Description: "The id of the set, as gateway/servers has it in pins.", Required: true},
					"place":    {Type: framework.TypeString, Description: "The id of the server's place.", Required: true},
					"approved": {Type: framework.TypeMap, Description: "The approved digests by kind and name.", Required: true},
				}),
			},
			logical.UpdateOperation: {
				do: b.reportPins, verb: "report",
				answers: fields{
					"kept":    {Type: framework.TypeInt, Description: "How many of the definitions are new, and kept.", Required: true},
					"known":   {Type: framework.TypeInt, Description: "How many are approved, or were reported before.", Required: true},
					"refused": {Type: framework.TypeInt, Description: "The number of definitions that cannot be approved: they are not valid, belong to another place, or are of a kind that is not pinned.", Required: true},
					"lost":    {Type: framework.TypeInt, Description: "How many are not kept, since there is no room. There may be later.", Required: true},
				},
			},
		},
		synopsis: "Read the approvals of a server, and report definitions without one.",
		help: `
For gateways alone. They read the approvals of a server once for each set of it, and report
definitions that are not approved, so that somebody can look at them. The engine computes the
digests itself. A report approves nothing, unless somebody who may write pins/NAME has
written trust_first=true there.`,
	})
}

func (b *mcpBackend) gatewayPins(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	epoch, index, err := b.feed.Head(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	e, pins, err := b.serverPins(ctx, req.Storage, d.Get("server").(string))
	if err != nil || e == nil {
		return nil, err
	}
	set := pins.approved()
	approved := map[string]map[string][]string{}
	for a := range set.All() {
		kind := string(a.Kind)
		if approved[kind] == nil {
			approved[kind] = map[string][]string{}
		}
		approved[kind][a.Name] = append(approved[kind][a.Name], a.Digest.String())
	}
	return &logical.Response{Data: map[string]any{
		"set": set.ID(), "place": pins.Place, "approved": approved, "epoch": epoch, "index": index,
	}}, nil
}

// pinReport is a report of a gateway, with the definitions in it that can be approved.
type pinReport struct {
	place       string
	definitions []*pin.Definition
	refused     int
}

func (r *pinReport) size() int { return len(r.definitions) + r.refused }

// readPinReport reads the request. It refuses a form that no gateway sends, and counts the
// definitions that cannot be approved.
func readPinReport(d *framework.FieldData) (*pinReport, error) {
	place, err := required(d, "place", "send the id of the server's place")
	if err != nil {
		return nil, err
	}
	var rows []struct {
		Kind string `json:"kind"`
		Text string `json:"text"`
	}
	if err := readRows(d.Get("definitions").([]any), &rows); err != nil {
		return nil, userErrorf("field definitions: it is not a list of objects with kind and text")
	}
	size := 0
	for i := range rows {
		size += len(rows[i].Text)
	}
	if len(rows) > maxPinReport || size > maxPinReportSize {
		return nil, userErrorf("field definitions: there are %d of %d bytes: at most %d of %d bytes are allowed", len(rows), size, maxPinReport, maxPinReportSize)
	}
	report := &pinReport{place: place}
	for i := range rows {
		definition, err := pin.Read(pin.Kind(rows[i].Kind), []byte(rows[i].Text))
		if err != nil {
			report.refused++
			continue
		}
		report.definitions = append(report.definitions, definition)
	}
	return report, nil
}

func (b *mcpBackend) reportPins(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	report, err := readPinReport(d)
	if err != nil {
		return nil, err
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	name := d.Get("server").(string)
	defer b.pins.lock(name)()
	w, err := b.beginPins(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if w == nil || !w.server.Pin.Active() || w.held.Place != report.place {
		return reportAnswer(0, 0, report.size(), 0), nil
	}
	counts := map[noted]int{}
	for _, definition := range report.definitions {
		if !slices.Contains(w.server.PinnedKinds(), definition.Kind) {
			report.refused++
			continue
		}
		counts[w.note(definition, b.now().Truncate(time.Second))]++
	}
	if err := b.commitReport(ctx, req.Storage, w); err != nil {
		return nil, err
	}
	return reportAnswer(counts[notedKept], counts[notedKnown], report.refused, counts[notedLost]), nil
}

func reportAnswer(kept, known, refused, lost int) *logical.Response {
	return &logical.Response{Data: map[string]any{"kept": kept, "known": known, "refused": refused, "lost": lost}}
}

// note takes one definition of a report.
func (w *pinWrite) note(definition *pin.Definition, now time.Time) noted {
	found := pinDefinition{
		pinName: pinName{Kind: definition.Kind, Name: definition.Name}, Digest: definition.Digest,
		Seen: now, Size: len(definition.Text), Text: len(definition.Text) <= maxPinText,
	}
	outcome := w.next.note(found, now)
	if outcome == notedKept && found.Text {
		w.texts[found.Digest] = definition.Text
	}
	return outcome
}

// commitReport stores the changes of a report. That there was no room is stored once: a server
// with another definition each time must not make the engine write each time.
func (b *mcpBackend) commitReport(ctx context.Context, s logical.Storage, w *pinWrite) error {
	lost := w.next.Lost - w.held.Lost
	if w.held.Lost > 0 {
		unchanged := w.next.clone()
		unchanged.Lost = w.held.Lost
		if reflect.DeepEqual(&w.held.pinState, unchanged) {
			if lost > 0 {
				b.pinLosses.add(w.next.Place, lost)
			}
			return nil
		}
	} else if reflect.DeepEqual(&w.held.pinState, w.next) {
		return nil
	}
	return b.commitPins(ctx, s, w)
}
