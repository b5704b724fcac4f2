package grantstest

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// pins are those of a server.
type pins struct {
	mode     pin.Mode
	kinds    []pin.Kind
	place    string
	approved map[pin.Kind]map[string][]pin.Digest
	reports  []vaultclient.PinReport
	failing  int // status of every answer about them, if not 0
	reads    int
}

// of returns the entry of the registry with the pins, and whether they are enforced.
func (p *pins) of(entry Data) (Data, bool) {
	if p == nil || !p.mode.Active() {
		return entry, false
	}
	entry = maps.Clone(entry)
	entry["pin"], entry["place"], entry["pins"] = p.mode, p.place, pin.NewSet(p.approved).ID()
	if len(p.kinds) > 0 {
		entry["pin_kinds"] = p.kinds
	}
	return entry, p.mode == pin.Enforce
}

// Pin sets the mode of a server's pins, for these kinds of definitions; for all without any.
func (v *Vault) Pin(server string, mode pin.Mode, kinds ...pin.Kind) {
	v.changePins(server, func(p *pins) { p.mode, p.kinds = mode, kinds })
}

// Approve approves a definition of a server, as the server writes it.
func (v *Vault) Approve(server string, kind pin.Kind, raw string) {
	v.t.Helper()
	d, err := pin.Read(kind, []byte(raw))
	if err != nil {
		v.t.Fatal(err)
	}
	v.changePins(server, func(p *pins) {
		if p.approved[kind] == nil {
			p.approved[kind] = map[string][]pin.Digest{}
		}
		p.approved[kind][d.Name] = append(p.approved[kind][d.Name], d.Digest)
	})
}

// Withdraw ends all approvals of a server's definitions of that name.
func (v *Vault) Withdraw(server string, kind pin.Kind, name string) {
	v.changePins(server, func(p *pins) { delete(p.approved[kind], name) })
}

// FailPins has every request about the pins of a server answered with the status; 0 ends it.
func (v *Vault) FailPins(server string, status int) {
	v.set(func() { v.pinsOf(server).failing = status })
}

// PinReports returns the reports about a server.
func (v *Vault) PinReports(server string) []vaultclient.PinReport {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.pinsOf(server).reports)
}

// PinReads returns how often the pins of a server were read.
func (v *Vault) PinReads(server string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.pinsOf(server).reads
}

func (v *Vault) changePins(server string, change func(*pins)) {
	v.set(func() { change(v.pinsOf(server)) })
	v.announce(Data{"type": "server", "operation": "update", "name": server})
}

// pinsOf returns the pins of a server. The lock is held.
func (v *Vault) pinsOf(server string) *pins {
	if v.pins[server] == nil {
		v.pins[server] = &pins{place: "place-" + server, approved: map[pin.Kind]map[string][]pin.Digest{}}
	}
	return v.pins[server]
}

// servePins answers the approvals of a server, and takes reports.
func (v *Vault) servePins(w http.ResponseWriter, r *http.Request, server string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := v.pinsOf(server)
	switch {
	case p.failing != 0:
		w.WriteHeader(p.failing)
		_ = json.NewEncoder(w).Encode(Data{"errors": []string{"failing"}})
	case r.Method == http.MethodGet:
		p.reads++
		set := pin.NewSet(p.approved)
		v.answer(w, Data{"set": set.ID(), "place": p.place, "approved": set})
	default:
		var report vaultclient.PinReport
		if err := json.NewDecoder(r.Body).Decode(&report); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		p.reports = append(p.reports, report)
		v.answer(w, Data{"kept": len(report.Definitions), "known": 0, "refused": 0, "lost": 0})
	}
}
