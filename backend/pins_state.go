package backend

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"vault-plugin-secrets-mcp/backend/pin"
)

// The bounds of a server's pins. An index fits into an entry of Vault's storage, which takes
// 512 KiB at least. Reported definitions are bounded more tightly, since servers choose them.
const (
	maxApproved      = 1024      // approvals, and as many frozen names
	maxApprovedAlike = 8         // of one name
	maxApprovedSize  = 384 << 10 // bytes of approvals and frozen names in the index
	maxApprovedTexts = 8 << 20   // bytes of their texts; an approval beyond has none

	maxReported      = 256
	maxReportedAlike = 4
	maxReportedSize  = 96 << 10
	maxReportedTexts = 2 << 20

	// maxPinText bounds a text that is kept. Of a longer one there is the digest and the size.
	maxPinText = 128 << 10
)

// trustFirstFor is how long trust_first lasts. For as long an approval of it is withdrawn again if
// a gateway reports another definition of the name.
const trustFirstFor = time.Hour

// ofName reports whether the definition is of the name, for slices.
func ofName(n pinName) func(pinDefinition) bool {
	return func(d pinDefinition) bool { return d.pinName == n }
}

// sizeInIndex estimates the bytes of an entry of that name in the index, never too low.
func sizeInIndex(texts ...string) int {
	const fixed = 320 // everything except names that people choose
	size := fixed
	for _, text := range texts {
		for i := range len(text) {
			switch c := text[i]; {
			case c < ' ', c == '"', c == '\\', c == '<', c == '>', c == '&', c >= 0x80:
				size += len(`\u0000`)
			default:
				size++
			}
		}
	}
	return size
}

func (p *pinState) approvedSize() int {
	size := 0
	for i := range p.Approved {
		size += sizeInIndex(p.Approved[i].Name, p.Approved[i].By)
	}
	for _, n := range p.Frozen {
		size += sizeInIndex(n.Name)
	}
	return size
}

// textsSize is how much the kept texts of the definitions take.
func textsSize(definitions []pinDefinition) int {
	size := 0
	for i := range definitions {
		if definitions[i].Text {
			size += definitions[i].Size
		}
	}
	return size
}

// approvedDefinitions are the approved definitions without the approvals.
func (p *pinState) approvedDefinitions() []pinDefinition {
	all := make([]pinDefinition, 0, len(p.Approved))
	for i := range p.Approved {
		all = append(all, p.Approved[i].pinDefinition)
	}
	return all
}

// approvals returns the places of the approvals of a name.
func (p *pinState) approvals(n pinName) []int {
	var places []int
	for i := range p.Approved {
		if p.Approved[i].pinName == n {
			places = append(places, i)
		}
	}
	return places
}

func (p *pinState) findApproved(n pinName, digest pin.Digest) int {
	return slices.IndexFunc(p.Approved, func(a pinApproval) bool { return a.pinName == n && a.Digest == digest })
}

func (p *pinState) findReported(n pinName, digest pin.Digest) int {
	return slices.IndexFunc(p.Reported, func(d pinDefinition) bool { return d.pinName == n && d.Digest == digest })
}

// approve approves a definition, whether a gateway has reported it or not. One that was first
// seen is approved like any other from then on.
func (p *pinState) approve(n pinName, digest pin.Digest, by string, now time.Time) {
	p.Frozen = slices.DeleteFunc(p.Frozen, func(f pinName) bool { return f == n })
	a := pinApproval{pinDefinition: pinDefinition{pinName: n, Digest: digest}, At: now, By: by}
	if i := p.findApproved(n, digest); i >= 0 {
		if held := &p.Approved[i]; held.FirstSeen {
			a.pinDefinition = held.pinDefinition
			*held = a
		}
		return
	}
	if i := p.findReported(n, digest); i >= 0 {
		a.pinDefinition = p.Reported[i]
		p.Reported = slices.Delete(p.Reported, i, i+1)
	}
	p.addApproval(a)
}

// addApproval adds an approval. If there is no room for its text, the text is not
// stored.
func (p *pinState) addApproval(a pinApproval) {
	if a.Text && textsSize(p.approvedDefinitions())+a.Size > maxApprovedTexts {
		a.Text = false
	}
	p.Approved = append(p.Approved, a)
}

// checkApproved refuses approvals beyond the bounds, with an error for the person who
// asked for them.
func (p *pinState) checkApproved() error {
	const room = "withdraw approvals that the server does not need any more"
	if len(p.Approved) > maxApproved {
		return userErrorf("these would be %d approvals, and a server has %d at most: %s", len(p.Approved), maxApproved, room)
	}
	alike := map[pinName]int{}
	for i := range p.Approved {
		n := p.Approved[i].pinName
		if alike[n]++; alike[n] > maxApprovedAlike {
			return userErrorf("these would be more than %d approvals of %s, which is the most it can have: withdraw one of its earlier definitions", maxApprovedAlike, n)
		}
	}
	if size := p.approvedSize(); size > maxApprovedSize {
		return userErrorf("with their names these approvals would be %d bytes long, and a server's are %d at most: %s", size, maxApprovedSize, room)
	}
	return nil
}

// withdraw takes these approvals back. A definition that a gateway has reported is a reported
// one again. It returns how many there were.
func (p *pinState) withdraw(which func(*pinApproval) bool) int {
	var kept []pinApproval
	var back []pinDefinition
	for i := range p.Approved {
		switch a := &p.Approved[i]; {
		case !which(a):
			kept = append(kept, *a)
		default:
			back = append(back, a.pinDefinition)
		}
	}
	p.Approved = kept
	for _, d := range back {
		if !d.Seen.IsZero() && !p.addReported(d) {
			p.Lost++
		}
	}
	return len(back)
}

// addReported adds a reported definition, if there is room.
func (p *pinState) addReported(d pinDefinition) bool {
	if len(p.Reported) >= maxReported {
		return false
	}
	alike, size := 0, sizeInIndex(d.Name)
	for i := range p.Reported {
		if size += sizeInIndex(p.Reported[i].Name); p.Reported[i].pinName == d.pinName {
			alike++
		}
	}
	if alike >= maxReportedAlike || size > maxReportedSize || d.Text && textsSize(p.Reported)+d.Size > maxReportedTexts {
		return false
	}
	p.Reported = append(p.Reported, d)
	return true
}

// noted is the outcome of a report of a definition.
type noted int

const (
	notedKnown noted = iota // it was approved, or reported before
	notedKept
	notedLost // there is no room for it
)

// note takes a gateway's report of a definition.
func (p *pinState) note(d pinDefinition, now time.Time) noted {
	if p.findApproved(d.pinName, d.Digest) >= 0 || p.findReported(d.pinName, d.Digest) >= 0 {
		return notedKnown
	}
	p.contradict(d.pinName, now)
	if p.trustFirst(d, now) || p.addReported(d) {
		return notedKept
	}
	p.Lost++
	return notedLost
}

// contradict is called for a name of which another definition is reported. If the approved one
// was approved by trust_first not long ago, nobody knows which is the right one. So it
// withdraws the approval, freezes the name, so that the next report is not approved either, and
// ends trust_first for the server.
func (p *pinState) contradict(n pinName, now time.Time) {
	fresh := func(a *pinApproval) bool {
		return a.pinName == n && a.FirstSeen && now.Sub(a.At) < trustFirstFor
	}
	if !slices.ContainsFunc(p.Approved, func(a pinApproval) bool { return fresh(&a) }) {
		return
	}
	p.withdraw(fresh)
	p.Frozen = append(p.Frozen, n)
	p.endTrustFirst()
}

func (p *pinState) endTrustFirst() { p.TrustFirstUntil, p.TrustFirstBy = time.Time{}, "" }

// trustFirst approves a definition as the first that was seen of its name, if it is that and
// the time has not run out.
func (p *pinState) trustFirst(d pinDefinition, now time.Time) bool {
	if !now.Before(p.TrustFirstUntil) || slices.Contains(p.Frozen, d.pinName) ||
		len(p.approvals(d.pinName)) > 0 || slices.ContainsFunc(p.Reported, ofName(d.pinName)) {
		return false
	}
	a := pinApproval{pinDefinition: d, At: now, By: p.TrustFirstBy, FirstSeen: true}
	if len(p.Approved)+len(p.Frozen) >= maxApproved || p.approvedSize()+sizeInIndex(a.Name, a.By) > maxApprovedSize {
		return false
	}
	p.addApproval(a)
	return true
}

// beginTrustFirst approves the definitions that are reported within an hour. One that was
// reported before counts, too, if it is the only one of its name: gateways report nothing twice.
func (p *pinState) beginTrustFirst(by string, now time.Time) {
	p.TrustFirstUntil, p.TrustFirstBy = now.Add(trustFirstFor), by
	reported := p.Reported
	p.Reported = nil
	for _, d := range reported {
		alone := 0
		for i := range reported {
			if reported[i].pinName == d.pinName {
				alone++
			}
		}
		if alone > 1 || !p.trustFirst(d, now) {
			p.Reported = append(p.Reported, d)
		}
	}
}

// change is "changed" for a reported definition if another one of its name is approved,
// and else "new".
func (p *pinState) change(n pinName) string {
	if len(p.approvals(n)) > 0 {
		return "changed"
	}
	return "new"
}

// String names the definition for a sentence.
func (n pinName) String() string {
	if !n.Kind.Named() {
		return fmt.Sprintf("the server's %s", map[pin.Kind]string{pin.Instructions: "instructions", pin.Server: "serverInfo"}[n.Kind])
	}
	return fmt.Sprintf("the %s %q", n.Kind, n.Name)
}

// compare orders definitions as people read them: by kind, by name, by time.
func (d *pinDefinition) compare(other *pinDefinition) int {
	return cmp.Or(
		cmp.Compare(slices.Index(pin.Kinds(), d.Kind), slices.Index(pin.Kinds(), other.Kind)),
		cmp.Compare(d.Name, other.Name),
		d.Seen.Compare(other.Seen),
		d.Digest.Compare(other.Digest))
}
