package backend

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
)

// apply sets the fields that the request names. A null, which only a PATCH can
// carry, resets its field, and a PATCH merges the names of metadata: it is a merge
// patch as of RFC 7396.
func (s *clientSettings) apply(op logical.Operation, d *framework.FieldData) error {
	for field, set := range map[string]func(v any, reset bool) error{
		"allowed_servers": list(&s.AllowedServers),
		"allowed_tools": func(v any, reset bool) error {
			s.AllowedTools = nil // every tool, while an empty list is none
			if !reset {
				s.AllowedTools = dedupe(v.([]string))
			}
			return nil
		},
		"denied_tools":      list(&s.DeniedTools),
		"policies":          list(&s.Policies),
		"token_bound_cidrs": list(&s.TokenBoundCIDRs),
		"token_ttl":         duration(&s.TokenTTL),
		"token_max_ttl":     duration(&s.TokenMaxTTL),
		"metadata": func(v any, reset bool) error {
			held := s.Metadata
			s.Metadata = nil
			if reset {
				return nil
			}
			next := v.(map[string]string)
			if op == logical.PatchOperation {
				next = mergePairs(held, next, d.Raw["metadata"])
			}
			if len(next) > 0 {
				s.Metadata = next
			}
			return nil
		},
		"seal": func(v any, reset bool) error {
			s.Seal = ""
			if !reset {
				s.Seal = v.(string)
			}
			return nil
		},
		"disabled": func(v any, reset bool) error {
			s.Disabled = !reset && v.(bool)
			return nil
		},
	} {
		raw, given := d.Raw[field]
		if !given {
			continue
		}
		if raw == nil {
			if err := set(nil, true); err != nil {
				return err
			}
			continue
		}
		v, _, err := d.GetOkErr(field)
		if err != nil {
			return userErrorf("field %s: %s", field, err)
		}
		if err := set(v, false); err != nil {
			return err
		}
	}
	return refusedAll(slices.DeleteFunc(s.Check(), func(p *check.Problem) bool {
		_, given := d.Raw[p.Field]
		return p.Size && !given // an earlier version took it
	}))
}

// mergePairs returns held with what a merge patch gives: raw is that as it came,
// in which a null removes its name.
func mergePairs(held, given map[string]string, raw any) map[string]string {
	next := make(map[string]string, len(held)+len(given))
	maps.Copy(next, held)
	maps.Copy(next, given)
	object, _ := raw.(map[string]any)
	for name, value := range object {
		if value == nil {
			delete(next, name)
		}
	}
	return next
}

func list(target *[]string) func(any, bool) error {
	return func(v any, reset bool) error {
		*target = nil
		if !reset && len(v.([]string)) > 0 {
			*target = dedupe(v.([]string))
		}
		return nil
	}
}

func duration(target *time.Duration) func(any, bool) error {
	return func(v any, reset bool) error {
		*target = 0
		if !reset {
			*target = time.Duration(v.(int)) * time.Second
		}
		return nil
	}
}

// dedupe keeps the first of each, in order, and never returns nil.
func dedupe(values []string) []string {
	kept := make([]string, 0, len(values))
	for _, v := range values {
		if !slices.Contains(kept, v) {
			kept = append(kept, v)
		}
	}
	return kept
}

// warnings returns what an administrator may not have meant.
func (b *mcpBackend) settingWarnings(ctx context.Context, s logical.Storage, c *clientEntry) ([]string, error) {
	var warnings []string
	if len(c.AllowedServers) == 0 {
		warnings = append(warnings, "the client reaches no server: set allowed_servers to the names of those that it may reach")
	}
	for _, name := range c.AllowedServers {
		if name == check.AnyServer {
			warnings = append(warnings, "allowed_servers=* admits the client to every server, also to those registered later: prefer the names of those that it needs")
			continue
		}
		e, err := b.servers.get(ctx, s, name)
		if err != nil {
			return nil, err
		}
		if e == nil {
			warnings = append(warnings, check.NoSuchServer(name))
		}
	}
	all, err := b.policies(ctx, s)
	if err != nil {
		return nil, err
	}
	for _, name := range c.Policies {
		if all.all[name] == nil {
			warnings = append(warnings, check.NoSuchPolicy(name))
		}
	}
	more, err := b.sealWarnings(ctx, s, c)
	if err != nil {
		return nil, err
	}
	warnings = append(warnings, more...)
	if c.AllowedTools != nil && len(c.AllowedTools) == 0 {
		warnings = append(warnings, "allowed_tools is set and empty, so the client may call no tool at all: write allowed_tools='*/*' to allow every tool of its servers")
	}
	return warnings, nil
}
