package backend

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/pin"
)

// pinAct is the act of a write of pins. It changes the state, and returns warnings.
type pinAct func(p *pinState, by string, now time.Time) (warnings []string, err error)

func (b *mcpBackend) writePins(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("server").(string)
	act, err := readPinAct(name, d)
	if err != nil {
		return nil, err
	}
	by, now := b.issuerOf(req), b.now().Truncate(time.Second)
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.pins.lock(name)()
	w, err := b.beginPins(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if w == nil {
		return nil, userErrorf("no server %q is registered: correct the name, or register it (servers/%s)", name, name)
	}
	if place, given := d.GetOk("place"); given && place != w.held.Place {
		return nil, userErrorf("field place: the server leads elsewhere by now, so this was meant for another place: read pins/%s again", name)
	}
	warnings, err := act(w.next, bounded(by.text()), now)
	if err != nil {
		return nil, err
	}
	if !w.server.Pin.Active() {
		warnings = append(warnings, fmt.Sprintf("pin is off at the server %q, so approvals do nothing and nothing is reported: write servers/%s pin=observe or pin=enforce", name, name))
	}
	switch {
	case d.Get("dry_run").(bool):
		return &logical.Response{Data: w.dryRun(), Warnings: append(warnings, "dry run: nothing was written")}, nil
	case reflect.DeepEqual(&w.held.pinState, w.next):
	default:
		if err := b.commitPins(ctx, req.Storage, w); err != nil {
			return nil, err
		}
	}
	if w.next.Lost == 0 {
		b.pinLosses.forget(w.next.Place)
	}
	return warned(warnings), nil
}

// dryRun describes the change.
func (w *pinWrite) dryRun() map[string]any {
	missing := func(from, in *pinState) []map[string]any {
		found := []map[string]any{}
		for i := range from.Approved {
			if d := &from.Approved[i].pinDefinition; in.findApproved(d.pinName, d.Digest) < 0 {
				found = append(found, d.data(nil))
			}
		}
		return found
	}
	forgotten := 0
	for i := range w.held.Reported {
		d := &w.held.Reported[i]
		if w.next.findReported(d.pinName, d.Digest) < 0 && w.next.findApproved(d.pinName, d.Digest) < 0 {
			forgotten++
		}
	}
	return map[string]any{
		"approved": missing(w.next, &w.held.pinState), "withdrawn": missing(&w.held.pinState, w.next),
		"forgotten": forgotten, "trust_first_until": formatTime(w.next.TrustFirstUntil),
	}
}

// readPinAct reads the one act of a write.
func readPinAct(server string, d *framework.FieldData) (pinAct, error) {
	var acts []string
	for _, field := range pinActs {
		if _, given := d.GetOk(field); given {
			acts = append(acts, field)
		}
	}
	const one = "a write does one thing: approve, definitions, withdraw, trust_first or forget_reported"
	switch len(acts) {
	case 0:
		return nil, userErrorf("it says nothing to do: %s", one)
	case 1:
	default:
		return nil, userErrorf("fields %s: %s", strings.Join(acts, " and "), one)
	}
	act := acts[0]
	for _, field := range []string{"kind", "digest"} {
		if _, given := d.GetOk(field); given && act != "approve" && act != "withdraw" {
			return nil, userErrorf("field %s: it goes with approve or withdraw: leave it out", field)
		}
	}
	switch act {
	case "definitions":
		return readDefinitions(d)
	case "trust_first":
		return readTrustFirst(d), nil
	case "forget_reported":
		if !d.Get(act).(bool) {
			return nil, userErrorf("field forget_reported: write true, or leave it out")
		}
		return func(p *pinState, _ string, _ time.Time) ([]string, error) {
			p.Reported, p.Lost = nil, 0
			return nil, nil
		}, nil
	}
	return readApproval(server, act, d)
}

// readApproval reads the approval of one definition, or the withdrawal of one or of all of its
// name.
func readApproval(server, act string, d *framework.FieldData) (pinAct, error) {
	n, err := readPinName(act, d.Get("kind").(string), d.Get(act).(string))
	if err != nil {
		return nil, err
	}
	text, given := d.GetOk("digest")
	if !given {
		if act == "approve" {
			return refuseWithoutDigest(server, n), nil
		}
		return withdrawAll(n), nil
	}
	digest, err := pin.ParseDigest(text.(string))
	if err != nil {
		return nil, userErrorf("field digest: %s", err)
	}
	if act == "approve" {
		return approveAll([]approvedDigest{{n, digest}}), nil
	}
	return withdrawWhere(n, func(a *pinApproval) bool { return a.pinName == n && a.Digest == digest }), nil
}

// readPinName reads the name of a definition. The field is where the name stands.
func readPinName(field, kind, name string) (pinName, error) {
	k, err := pin.ParseKind(kind)
	switch {
	case err != nil:
		return pinName{}, userErrorf("field kind: %s", err)
	case k.Named() && name == "":
		return pinName{}, userErrorf("field %s: the name of the %s is empty", field, k)
	case !k.Named() && name != "":
		return pinName{}, userErrorf("field %s: a definition of kind %s has no name: leave it empty", field, k)
	case len(name) > pin.MaxName:
		return pinName{}, userErrorf("field %s: the name is %d bytes long: at most %d are allowed", field, len(name), pin.MaxName)
	case !utf8.ValidString(name):
		return pinName{}, userErrorf("field %s: the name is not valid UTF-8", field)
	}
	return pinName{Kind: k, Name: name}, nil
}

// approvedDigest is one definition to approve.
type approvedDigest struct {
	name   pinName
	digest pin.Digest
}

func readDefinitions(d *framework.FieldData) (pinAct, error) {
	const field = "definitions"
	var rows []struct {
		Kind   string `json:"kind"`
		Name   string `json:"name"`
		Digest string `json:"digest"`
	}
	if err := readRows(d.Get(field).([]any), &rows); err != nil {
		return nil, userErrorf("field definitions: it is not a list of objects with kind, name and digest")
	}
	if len(rows) == 0 || len(rows) > maxApproved {
		return nil, userErrorf("field definitions: it has %d: give 1 to %d", len(rows), maxApproved)
	}
	all := make([]approvedDigest, 0, len(rows))
	for i, row := range rows {
		n, err := readPinName(fmt.Sprintf("definitions[%d]", i), row.Kind, row.Name)
		if err != nil {
			return nil, err
		}
		digest, err := pin.ParseDigest(row.Digest)
		if err != nil {
			return nil, userErrorf("field definitions[%d]: %s", i, err)
		}
		all = append(all, approvedDigest{n, digest})
	}
	return approveAll(all), nil
}

// readRows reads a list of objects strictly. A command line gives it as one text of JSON.
// Its errors quote the request, so callers leave them out.
func readRows(list []any, into any) error {
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if len(list) == 1 {
		if whole, ok := list[0].(string); ok {
			text = []byte(whole)
		}
	}
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

func approveAll(all []approvedDigest) pinAct {
	return func(p *pinState, by string, now time.Time) ([]string, error) {
		var unseen []approvedDigest
		for _, a := range all {
			if p.findApproved(a.name, a.digest) < 0 && p.findReported(a.name, a.digest) < 0 {
				unseen = append(unseen, a)
			}
		}
		warnings := p.unseenWarnings(unseen, len(all))
		for _, a := range all {
			p.approve(a.name, a.digest, by, now)
		}
		return warnings, p.checkApproved()
	}
}

// unseenWarnings warns of approvals of definitions that no gateway has reported: such an
// approval may be a mistake, and still calls of the name pass.
func (p *pinState) unseenWarnings(unseen []approvedDigest, of int) []string {
	var warnings []string
	switch {
	case len(unseen) == 0:
		return nil
	case of > 1:
		warnings = append(warnings, fmt.Sprintf("no gateway has reported %d of these definitions: they count once a server says them in these words, and calls of their names pass from now on", len(unseen)))
	case unseen[0].name.Kind.Named():
		warnings = append(warnings, fmt.Sprintf("no gateway has reported this definition: it takes effect once the server shows exactly this text, and calls of %s pass from now on", unseen[0].name))
	default:
		warnings = append(warnings, "no gateway has reported this definition: it takes effect once the server shows exactly this text")
	}
	for _, a := range unseen {
		if known, ok := p.reportedAs(a.digest); ok {
			return append(warnings, fmt.Sprintf("the digest that is approved of %s was reported of %s: withdraw it, and give that kind and name", a.name, known))
		}
	}
	return warnings
}

// reportedAs is the name under which gateways have reported a digest.
func (p *pinState) reportedAs(digest pin.Digest) (pinName, bool) {
	for i := range p.Reported {
		if d := &p.Reported[i]; d.Digest == digest {
			return d.pinName, true
		}
	}
	for i := range p.Approved {
		if d := &p.Approved[i].pinDefinition; d.Digest == digest && !d.Seen.IsZero() {
			return d.pinName, true
		}
	}
	return pinName{}, false
}

// refuseWithoutDigest lists the digests that could be approved under the name.
func refuseWithoutDigest(server string, n pinName) pinAct {
	return func(p *pinState, _ string, _ time.Time) ([]string, error) {
		var digests []string
		for i := range p.Reported {
			if d := &p.Reported[i]; d.pinName == n {
				digests = append(digests, d.Digest.String())
			}
		}
		known := "no gateway has reported a definition of it that is not approved"
		if len(digests) > 0 {
			slices.Sort(digests)
			known = "gateways have reported " + strings.Join(digests, ", ")
		}
		return nil, userErrorf("field digest is missing: an approval is of one definition of %s, and %s. Look at it (mcp-bootstrap pins diff %s, or vault read mcp/pins/%s texts=true), and give its digest",
			n, known, server, server)
	}
}

func withdrawAll(n pinName) pinAct {
	return withdrawWhere(n, func(a *pinApproval) bool { return a.pinName == n })
}

// withdrawWhere withdraws approvals of the name. It ends trust_first, which could approve the
// same again.
func withdrawWhere(n pinName, which func(*pinApproval) bool) pinAct {
	return func(p *pinState, _ string, now time.Time) ([]string, error) {
		if p.withdraw(which) == 0 {
			return []string{fmt.Sprintf("nothing is withdrawn: %s has no such approval", n)}, nil
		}
		trusting := now.Before(p.TrustFirstUntil)
		p.endTrustFirst()
		if trusting {
			return []string{"trust_first has ended, which could have approved the same again"}, nil
		}
		return nil, nil
	}
}

func readTrustFirst(d *framework.FieldData) pinAct {
	begin := d.Get("trust_first").(bool)
	return func(p *pinState, by string, now time.Time) ([]string, error) {
		if !begin {
			p.endTrustFirst()
			return nil, nil
		}
		held := len(p.Approved)
		p.beginTrustFirst(by, now)
		warnings := []string{fmt.Sprintf("until %s the first definition that a gateway reports of each name is approved: a holder of a gateway's login can choose it", formatTime(p.TrustFirstUntil))}
		if at := len(p.Approved) - held; at > 0 {
			// Some of them may have been withdrawn.
			warnings = append(warnings, fmt.Sprintf("%d definitions that were reported before, withdrawn ones too, are approved at once: look at those marked first_seen", at))
		}
		if len(p.Frozen) > 0 {
			warnings = append(warnings, frozenWarning(len(p.Frozen)))
		}
		return warnings, nil
	}
}

func frozenWarning(names int) string {
	if names == 1 {
		return "1 name is frozen, and nothing is approved of it, since there were two definitions: approve one by its digest"
	}
	return fmt.Sprintf("%d names are frozen, and nothing is approved of them, since there were two definitions of each: approve one by its digest", names)
}
