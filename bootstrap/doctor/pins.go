package doctor

import (
	"context"
	"fmt"
	"strings"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/bootstrap/pins"
)

// checkPins tells where somebody has to look at what servers say of themselves. None of it is
// wrong: it may be what somebody wants.
func (e *examination) checkPins(ctx context.Context, servers []string) {
	broker := &pins.Broker{Vault: e.vault, Mount: e.Mount}
	for _, server := range servers {
		state, err := broker.Read(ctx, server, false)
		if err != nil {
			e.ok("the pins of the server %s were not looked at: %v", server, err)
			continue
		}
		if open := openPins(state); len(open) > 0 {
			e.ok("the server %s has pin=%s. %s. See `mcp-bootstrap pins diff %[1]s%[4]s`", server, state.Pin, strings.Join(open, ". "), mountFlag(e.Mount))
		}
	}
}

// openPins is what somebody has to decide about the definitions of a server.
func openPins(s *pins.State) []string {
	if !s.Pin.Active() {
		return nil
	}
	var open []string
	if s.Pin == pin.Enforce && len(s.Approved) == 0 {
		open = append(open, "Nothing is approved, so clients see nothing of it")
	}
	for _, one := range []struct {
		n    int
		text string
	}{
		{len(s.Reported), "Definitions that wait for approval"},
		{len(s.Frozen), "Frozen names"},
		{s.Lost, "Lost reports"},
	} {
		if one.n > 0 {
			open = append(open, fmt.Sprintf("%s: %d", one.text, one.n))
		}
	}
	return open
}

func mountFlag(mount string) string {
	if mount == "mcp" {
		return ""
	}
	return " -mount " + mount
}
