package backend

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/pin"
)

// setPins sets pin and pin_kinds, if the request has them. They are checked later. An empty pin
// is refused: it would switch pins off without the word "off", and Vault's ACL accepts it in
// the place of any value that a policy requires.
func (e *serverEntry) setPins(d *framework.FieldData) error {
	if mode, given := d.Raw["pin"]; given {
		if mode == nil || mode == "" {
			return userErrorf("field pin: it is empty: write off, observe or enforce")
		}
		if e.Pin = pin.Mode(d.Get("pin").(string)); e.Pin == pin.Off {
			e.Pin = ""
		}
	}
	if names, ok := d.GetOk("pin_kinds"); ok {
		e.PinKinds = nil
		for _, name := range listOrNil(names) {
			e.PinKinds = append(e.PinKinds, pin.Kind(name))
		}
	}
	return nil
}

// pinMode is the server's mode as a read shows it.
func (e *serverEntry) pinMode() string { return string(cmp.Or(e.Pin, pin.Off)) }

func kindNames(kinds []pin.Kind) []string {
	names := make([]string, 0, len(kinds))
	for _, kind := range kinds {
		names = append(names, string(kind))
	}
	return names
}

// addPins adds the pins to a server's fields in gateway/servers.
func (b *mcpBackend) addPins(ctx context.Context, s logical.Storage, name string, e *serverEntry, server map[string]any) error {
	if !e.Pin.Active() {
		return nil
	}
	pins, err := b.pinsOf(ctx, s, name, e)
	if err != nil {
		return err
	}
	server["pin"], server["pin_kinds"], server["place"] = e.pinMode(), kindNames(e.PinnedKinds()), e.place()
	server["pins"] = pins.approved().ID()
	return nil
}

// pinWarnings warns of a write after which less is approved of the server than its writer may
// think. It takes no lock: a writer of pins takes that of the server under its own.
func (b *mcpBackend) pinWarnings(ctx context.Context, s logical.Storage, name string, held, next *serverEntry) ([]string, error) {
	approved := 0
	var moved []string
	if held != nil {
		stored, err := b.pins.read(ctx, s, name)
		if err != nil {
			return nil, err
		}
		approved, moved = len(stored.of(held.place()).Approved), next.movedFrom(held)
	}
	switch {
	case len(moved) > 0 && approved > 0:
		return []string{fmt.Sprintf("%s changed, so nothing is approved of the server any more: its %d approvals were for another place. Approve the definitions of this one (pins/%s)",
			strings.Join(moved, ", "), approved, name)}, nil
	case !next.Pin.Active() && kindsWritten(held, next):
		return []string{fmt.Sprintf("pin is off at the server, so pin_kinds does nothing until pin is observe or enforce: write servers/%s pin=observe", name)}, nil
	case next.Pin == pin.Enforce && approved == 0 && (held == nil || held.Pin != pin.Enforce):
		return []string{fmt.Sprintf("nothing is approved of the server, so with pin=enforce clients see nothing of it: approve its definitions (pins/%s), or write pin=observe first", name)}, nil
	}
	return nil, nil
}

// kindsWritten reports whether a write has set pin_kinds.
func kindsWritten(held, next *serverEntry) bool {
	return len(next.PinKinds) > 0 && (held == nil || !slices.Equal(held.PinKinds, next.PinKinds))
}
