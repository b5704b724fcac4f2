package backend

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/backend/policy"
)

// pinnedItems are the kinds of definitions by which the pins decide on calls.
var pinnedItems = map[policy.Item]pin.Kind{policy.Tool: pin.Tool, policy.Prompt: pin.Prompt, policy.Resource: pin.Resource}

// withPins adds to the decision about an item that of the server's pins: whether any definition
// of the name is approved. e is nil for a server that is not registered.
func (b *mcpBackend) withPins(ctx context.Context, s logical.Storage, d policy.Decision, e *serverEntry, server *policy.Server, item policy.Item, name string) (policy.Decision, error) {
	if e == nil || !e.Pin.Active() || !slices.Contains(e.PinnedKinds(), pinnedItems[item]) {
		return d, nil
	}
	pins, err := b.pinsOf(ctx, s, server.Name, e)
	if err != nil {
		return d, err
	}
	subject := fmt.Sprintf("%s %q of server %q", item, name, server.Name)
	switch {
	case item == policy.Resource && strings.HasPrefix(name, pin.UIScheme) && slices.Contains(e.PinnedKinds(), pin.Page):
		return d.WithPins(item, false, subject+" is a page of an app: its contents are judged when it is read"), nil
	case admits(pins.approved(), item, name):
		return d.WithPins(item, false, fmt.Sprintf("a definition of %s is approved (pins/%s)", subject, server.Name)), nil
	case e.Pin == pin.Observe:
		return d.WithPins(item, false, fmt.Sprintf("nobody has approved a definition of %s, and pin=observe lets it pass: pin=enforce would not", subject)), nil
	}
	return d.WithPins(item, true, fmt.Sprintf("nobody has approved a definition of %s, and the server has pin=enforce: approve it (pins/%s)", subject, server.Name)), nil
}

// admits reports whether the set has a definition under which the item may be used.
func admits(set *pin.Set, item policy.Item, name string) bool {
	if item == policy.Resource {
		return set.AdmitsURI(name)
	}
	return set.Has(pinnedItems[item], name)
}
