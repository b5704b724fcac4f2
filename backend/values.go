package backend

import (
	"maps"
	"slices"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
)

// checkDurations refuses a duration that is none before the framework does, which
// does not say how to write one.
func (b *mcpBackend) checkDurations(req *logical.Request) error {
	for _, name := range slices.Sorted(maps.Keys(req.Data)) {
		if !b.durations[name] {
			continue
		}
		read := check.Duration
		if name == fieldWait {
			read = check.FineDuration
		}
		if _, err := read(req.Data[name]); err != nil {
			return userErrorf("field %s: %s", name, err)
		}
	}
	return nil
}

// durationFields are the names of all fields that take a duration. No path has a
// field of such a name that takes something else.
func durationFields(paths []*framework.Path) map[string]bool {
	names := map[string]bool{}
	for _, p := range paths {
		for name, field := range p.Fields {
			if field.Type == framework.TypeDurationSecond {
				names[name] = true
			}
		}
	}
	return names
}
