package pins

import (
	"strings"
	"time"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// Judge judges the definitions of one server by its pins of one time. Ask for it when a
// message comes: see [Keeper.Of]. A nil Judge is that of a server without pins, where everything
// passes. Any goroutine may call its methods.
type Judge struct {
	keeper *Keeper // nil: nothing is reported
	server string
	pins   *grants.Pins
	texts  *texts
	others *others
}

// Known reports whether Vault has answered the approvals. Until then nothing is approved. Where pins are
// enforced, requests to the server are refused before they come here; in observe mode its
// definitions cannot be judged.
func (j *Judge) Known() bool { return j == nil || j.pins.Known }

// Pins reports whether definitions of the kind are pinned: in observe mode, too, as soon as the
// pins are known.
func (j *Judge) Pins(kind pin.Kind) bool {
	return j != nil && j.pins.Covers(kind) && (j.pins.Known || j.pins.Mode != pin.Observe)
}

// Enforces reports whether a definition of the kind that is not approved must not pass.
func (j *Judge) Enforces(kind pin.Kind) bool { return j.Pins(kind) && j.pins.Mode != pin.Observe }

// Keeps reports whether a definition may pass, as the server wrote it: an entry of a list, the
// instructions, a serverInfo, a page of an app. In observe mode all may. One that is not
// approved is noted in any case, so call it once for each that a client would get.
func (j *Judge) Keeps(kind pin.Kind, raw []byte) bool {
	return j.Approved(kind, raw) || !j.Enforces(kind)
}

// Approved is [Judge.Keeps] for those who count definitions without approval: in observe mode it
// is false for them, too. Definitions that are not pinned count as approved.
func (j *Judge) Approved(kind pin.Kind, raw []byte) bool {
	if !j.Pins(kind) {
		return true
	}
	if _, approved, _ := j.look(kind, raw); approved {
		return true
	}
	j.count(kind)
	return false
}

// Digest returns the digest of a definition, for callers that keep it with the definition and
// ask [Judge.Approves] later, by the pins of that time. It is false for a text that cannot be
// approved, which must not pass where its kind is enforced. One that is not approved is
// reported.
func (j *Judge) Digest(kind pin.Kind, raw []byte) (pin.Digest, bool) {
	if j == nil {
		d, err := pin.Read(kind, raw)
		if err != nil {
			return pin.Digest{}, false
		}
		return d.Digest, true
	}
	digest, _, readable := j.look(kind, raw)
	return digest, readable
}

// Approves is [Judge.Approved] for a definition whose digest is known.
func (j *Judge) Approves(kind pin.Kind, name string, digest pin.Digest) bool {
	if !j.Pins(kind) || j.pins.Set.Approves(kind, name, digest) {
		return true
	}
	j.count(kind)
	return false
}

// Admits reports whether a client may use something of the server by its name, as a call does:
// a tool, a prompt, a resource by its URI, a resource template. Some definition of that name, or
// of a template for that URI, is approved. In observe mode all names pass. Of an app's page the
// answer is judged, where pages are pinned.
func (j *Judge) Admits(kind pin.Kind, name string) bool {
	return j.Names(kind, name) || !j.Enforces(kind)
}

// Names is [Judge.Admits] for those who count: in observe mode it is false for a name without
// approval, too.
func (j *Judge) Names(kind pin.Kind, name string) bool {
	switch {
	case !j.Pins(kind):
		return true
	case kind == pin.Resource && j.Pins(pin.Page) && strings.HasPrefix(name, pin.UIScheme):
		return true
	case kind == pin.Resource && j.pins.Set.AdmitsURI(name):
		return true
	case j.pins.Set.Has(kind, name):
		return true
	}
	j.count(kind)
	return false
}

// count counts something that is not approved, for metrics.
func (j *Judge) count(kind pin.Kind) {
	if j.keeper != nil && j.pins.Known {
		j.keeper.observe(func(o Observer) { o.PinsUnapproved(j.server, kind, j.pins.Mode) })
	}
}

// look finds out whether a definition of a kind that may be pinned is approved, and its digest;
// readable is false for a text that cannot be approved.
func (j *Judge) look(kind pin.Kind, raw []byte) (digest pin.Digest, approved, readable bool) {
	key := j.texts.key(kind, raw)
	if t := j.texts.find(key, raw); t != nil && j.pins.Set.Approves(kind, t.name, t.digest) {
		return t.digest, true, true
	}
	otherKey, now := j.texts.otherKey(key, raw), j.now()
	if o, seen := j.others.Get(otherKey); seen && now.Before(o.again) {
		return o.digest, false, o.readable
	}
	d, err := pin.Read(kind, raw)
	if err == nil && j.pins.Set.Approves(kind, d.Name, d.Digest) {
		j.texts.add(key, d, raw)
		return d.Digest, true, true
	}
	o := other{readable: err == nil, again: now.Add(noteAgain)}
	if err == nil {
		o.digest = d.Digest
	} else {
		o.again = now.Add(tellAgain)
	}
	if j.keeper != nil && j.Pins(kind) && j.pins.Known && !j.keeper.note(j, kind, d, err, now) {
		o.again = now.Add(noteLater)
	}
	j.others.Add(otherKey, o)
	return o.digest, false, o.readable
}

func (j *Judge) now() time.Time {
	if j.keeper == nil {
		return time.Now()
	}
	return j.keeper.options.Now()
}
