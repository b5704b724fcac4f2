package backend

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"golang.org/x/sync/errgroup"

	"vault-plugin-secrets-mcp/backend/pin"
)

func pinFields() fields {
	return fields{
		"server":  {Type: framework.TypeString, Description: "Name of the server.", Required: true},
		"texts":   {Type: framework.TypeBool, Description: "In a read: with the texts of the definitions, in canonical JSON.", Query: true},
		"approve": {Type: framework.TypeString, Description: "Approve a definition of this name: the name of a tool or a prompt, the URI of a resource or a page, the URI template of a template; empty for instructions and server. Give digest with it, and kind unless it is a tool."},
		"withdraw": {
			Type:        framework.TypeString,
			Description: "Withdraw the approvals of this name, and of kind tool unless kind is given; with digest, that one alone.",
		},
		"kind": {
			Type:          framework.TypeString,
			Default:       string(pin.Tool),
			Description:   "With approve or withdraw: the kind of the definition; tool unless given.",
			AllowedValues: allowedKinds(),
		},
		"digest":          {Type: framework.TypeString, Description: "With approve or withdraw: the digest of the definition, like sha256: and 64 hexadecimal digits."},
		"definitions":     {Type: framework.TypeSlice, Description: "Approve many definitions at once: kind, name and digest of each."},
		"trust_first":     {Type: framework.TypeBool, Description: "true: approve for an hour the first definition that gateways report of each name without approval, and the reported definitions that are the only ones of their names. false: stop that."},
		"forget_reported": {Type: framework.TypeBool, Description: "Forget the reported definitions, which nobody has approved."},
		"place":           {Type: framework.TypeString, Description: "Do nothing unless this is the id of the server's place, as a read has shown it."},
		"dry_run":         {Type: framework.TypeBool, Description: "Write nothing, and answer the changes."},
	}
}

func allowedKinds() []any {
	var kinds []any
	for _, kind := range pin.Kinds() {
		kinds = append(kinds, string(kind))
	}
	return kinds
}

// pinActs are the acts of a write: the fields of which it has one.
var pinActs = []string{"approve", "definitions", "withdraw", "trust_first", "forget_reported"}

func (b *mcpBackend) pathPins() []*framework.Path {
	written := noContent()
	written[http.StatusOK] = []framework.Response{{Description: "OK: a dry run", Fields: fields{
		"approved":          {Type: framework.TypeSlice, Description: "The definitions that would be approved: kind, name and digest of each."},
		"withdrawn":         {Type: framework.TypeSlice, Description: "The approvals that would be withdrawn: kind, name and digest of each."},
		"forgotten":         {Type: framework.TypeInt, Description: "How many reported definitions would be forgotten."},
		"trust_first_until": {Type: framework.TypeString, Description: "Until when the first of each name would be approved."},
	}}}
	return build(
		path{
			pattern: "pins/?$",
			about:   "pins",
			ops: operations{logical.ListOperation: {
				do: b.listPins,
				answers: fields{
					"keys":     {Type: framework.TypeStringSlice, Description: "The names of the servers with pins, in order."},
					"key_info": {Type: framework.TypeMap, Description: "By name: pin, and how many definitions are approved, and how many reported."},
				},
			}},
			synopsis: "List the servers with pins.",
			help: `
Those of which pin is not off, or of which something is approved or reported. vault list
-detailed shows how many definitions that is of each.`,
		},
		path{
			pattern: "pins/" + segment("server"),
			fields:  pinFields(),
			about:   "server-pins",
			ops: operations{
				logical.ReadOperation: {
					do: b.readPins, summary: "Read the approvals of a server, and the definitions that gateways have reported.", runs: onActive,
					answers: merge(pick(serverFields(), "pin"), pick(pinFields(), "server"), fields{
						"pin_kinds":         {Type: framework.TypeStringSlice, Description: "The kinds of definitions that pin is about."},
						"place":             {Type: framework.TypeString, Description: "The id of where the server leads. Approvals belong to it."},
						"approved":          {Type: framework.TypeSlice, Description: "The approvals: kind, name, digest, at (RFC 3339), by, and first_seen; of a definition that a gateway has reported also size, and with texts=true text."},
						"reported":          {Type: framework.TypeSlice, Description: "The definitions that gateways have reported and nobody has approved: kind, name, digest, at, size, and change, which is new or, where something else of the name is approved, changed. With texts=true text, unless it is too long to be kept."},
						"trust_first_until": {Type: framework.TypeString, Description: "Until when the first reported definition of a name is approved (RFC 3339)."},
						"frozen":            {Type: framework.TypeSlice, Description: "Kinds and names that trust_first does not approve: each had two definitions."},
						"lost":              {Type: framework.TypeInt, Description: "How many reports were not kept, since there was no room."},
					}),
				},
				logical.UpdateOperation: {
					do: b.writePins, summary: "Approve definitions of a server, or withdraw approvals.",
					takes:     append([]string{"server", "kind", "digest", "place", "dry_run"}, pinActs...),
					responses: written,
				},
				logical.DeleteOperation: {do: b.deletePins, summary: "Remove all that is approved and reported of a server.", takes: noFields},
			},
			synopsis: "Approve the definitions of a server, word by word.",
			help: `
A definition is a server's description of a tool, a prompt, a resource, a template, an app's
page, or of itself, for a model or a person to read. It is approved by its digest, so a
server that changes a word of it needs a new approval.

    vault read mcp/pins/github texts=true
    vault write mcp/pins/github approve=create_issue digest=sha256:…
    vault write mcp/pins/github approve= kind=instructions digest=sha256:…

Without kind, approve and withdraw are about a tool.

mcp-bootstrap pins shows the changes, and approves the definitions that it has shown. It spells
out the characters that a terminal hides or acts on, which vault read prints as they are. The
field pin of servers/NAME gives approvals their effect. A definition may be approved before a
gateway has seen it.

    vault write mcp/pins/github withdraw=create_issue
    vault write mcp/pins/github trust_first=true
    vault write mcp/pins/github forget_reported=true

A write is one kind of act. dry_run=true answers the changes that it would make.

With trust_first=true the first definition of each name counts for an hour, marked
first_seen. If gateways report another one of the same name within an hour, none is approved
any more, the name is frozen, and trust_first ends. So it does with a withdrawal.

Approvals belong to where the server leads. If its transport, url, command or args change,
nothing is approved, even if they change back. A server has at most 1,024 approvals, 8 of a
name; of reported definitions 256 are kept, 4 of a name, with 2 MiB of texts. lost counts the
rest. A delete removes everything, so nothing is approved any more.`,
		},
	)
}

func (b *mcpBackend) listPins(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	all, err := b.allServers(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	info := map[string]any{}
	for name, e := range all {
		pins, err := b.pinsOf(ctx, req.Storage, name, e)
		if err != nil {
			return nil, err
		}
		if e.Pin.Active() || len(pins.Approved)+len(pins.Reported) > 0 {
			info[name] = map[string]any{"pin": e.pinMode(), "approved": len(pins.Approved), "reported": len(pins.Reported)}
		}
	}
	return logical.ListResponseWithInfo(sortedKeys(info), info), nil
}

func (b *mcpBackend) readPins(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("server").(string)
	e, pins, err := b.serverPins(ctx, req.Storage, name)
	if err != nil || e == nil {
		return nil, err
	}
	texts := map[pin.Digest]string{}
	if d.Get("texts").(bool) {
		if texts, err = b.pinTexts(ctx, req.Storage, name, pins); err != nil {
			return nil, err
		}
	}
	frozen := make([]map[string]any, 0, len(pins.Frozen))
	for _, n := range pins.Frozen {
		frozen = append(frozen, map[string]any{"kind": string(n.Kind), "name": n.Name})
	}
	until := ""
	if b.now().Before(pins.TrustFirstUntil) {
		until = formatTime(pins.TrustFirstUntil)
	}
	return &logical.Response{Data: nullUnset(map[string]any{
		"server": name, "pin": e.pinMode(), "pin_kinds": kindNames(e.PinnedKinds()), "place": e.place(),
		"approved": pins.approvedData(texts), "reported": pins.reportedData(texts),
		"trust_first_until": until, "frozen": frozen, "lost": pins.Lost + b.pinLosses.read(pins.Place),
	})}, nil
}

// pinTexts reads the texts that are kept. One that is gone meanwhile is left out.
func (b *mcpBackend) pinTexts(ctx context.Context, s logical.Storage, name string, pins *pinEntry) (map[pin.Digest]string, error) {
	digests := slices.Collect(maps.Keys(pins.texts()))
	read := make([]*logical.StorageEntry, len(digests))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(scanReads)
	for i, digest := range digests {
		group.Go(func() (err error) {
			read[i], err = s.Get(ctx, pinTextKey(name, digest))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	texts := make(map[pin.Digest]string, len(digests))
	for i, entry := range read {
		if entry != nil {
			texts[digests[i]] = string(entry.Value)
		}
	}
	return texts, nil
}

// data is the definition in the form of an answer.
func (d *pinDefinition) data(texts map[pin.Digest]string) map[string]any {
	data := map[string]any{"kind": string(d.Kind), "name": d.Name, "digest": d.Digest.String()}
	if !d.Seen.IsZero() {
		data["size"] = d.Size
	}
	if text, ok := texts[d.Digest]; ok && d.Text {
		data["text"] = text
	}
	return data
}

func (p *pinState) approvedData(texts map[pin.Digest]string) []map[string]any {
	approved := slices.SortedFunc(slices.Values(p.Approved), func(a, b pinApproval) int { return a.compare(&b.pinDefinition) })
	all := make([]map[string]any, 0, len(approved))
	for i := range approved {
		a := &approved[i]
		all = append(all, with(a.data(texts), map[string]any{"at": formatTime(a.At), "by": a.By, "first_seen": a.FirstSeen}))
	}
	return all
}

func (p *pinState) reportedData(texts map[pin.Digest]string) []map[string]any {
	reported := slices.SortedFunc(slices.Values(p.Reported), func(a, b pinDefinition) int { return a.compare(&b) })
	all := make([]map[string]any, 0, len(reported))
	for i := range reported {
		d := &reported[i]
		all = append(all, with(d.data(texts), map[string]any{"at": formatTime(d.Seen), "change": p.change(d.pinName)}))
	}
	return all
}

func (b *mcpBackend) deletePins(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("server").(string)
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.pins.lock(name)()
	stored, err := b.pins.getLocked(ctx, req.Storage, name)
	if err != nil || stored == nil {
		return nil, err
	}
	err = b.announcePins(ctx, req.Storage, name, len(stored.Approved) > 0, func() error {
		return b.pins.delete(ctx, req.Storage, name)
	})
	if err != nil {
		return nil, err
	}
	b.pinLosses.forget(stored.Place)
	b.dropPinTexts(ctx, req.Storage, name, stored, nil)
	return nil, nil
}
