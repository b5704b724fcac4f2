package backend

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/policy"
)

// rightsFields are the fields of rights; whom is who has them.
func rightsFields(whom string) fields {
	list := func(format string) *framework.FieldSchema {
		return &framework.FieldSchema{Type: framework.TypeCommaStringSlice, Description: fmt.Sprintf(format, whom)}
	}
	return fields{
		"allowed_servers":   list("Names of the servers that %s may reach, or * for all. Unset: none."),
		"allowed_tools":     list("Tools that %s may call, as server/tool with * as a wildcard. Unset: every tool of the allowed servers. Set but empty: none."),
		"denied_tools":      list("Tools that %s may not call, as server/tool with * as a wildcard. A denial wins over allowed_tools."),
		"allowed_prompts":   list("Prompts that %s may get, as server/prompt with * as a wildcard. Unset: every prompt of the allowed servers. Set but empty: none."),
		"denied_prompts":    list("Prompts that %s may not get, as server/prompt with * as a wildcard. A denial wins over allowed_prompts."),
		"allowed_resources": list("Resources that %s may read, as server/URI with * as a wildcard, which matches slashes too. Unset: every resource of the allowed servers. Set but empty: none."),
		"denied_resources":  list("Resources that %s may not read, as server/URI with * as a wildcard, which matches slashes too. A denial wins over allowed_resources, and matches other spellings of the URI too."),
		"rate_limit":        {Type: framework.TypeFloat, Description: "Requests a second that each client may send to each gateway; fractions are allowed. 0: no limit."},
		"rate_burst":        {Type: framework.TypeInt, Description: "Requests that may come at once under rate_limit. 0: as many as a second has, at least one."},
	}
}

// rightsData returns the rights in the form of a read's answer.
func rightsData(r *check.Rights) map[string]any {
	return map[string]any{
		"allowed_servers":   orEmpty(r.AllowedServers),
		"allowed_tools":     listOrNull(r.AllowedTools),
		"denied_tools":      orEmpty(r.DeniedTools),
		"allowed_prompts":   listOrNull(r.AllowedPrompts),
		"denied_prompts":    orEmpty(r.DeniedPrompts),
		"allowed_resources": listOrNull(r.AllowedResources),
		"denied_resources":  orEmpty(r.DeniedResources),
		"rate_limit":        r.RateLimit,
		"rate_burst":        r.RateBurst,
	}
}

// applyRights sets the fields that the request names. Of a list of allowed items null allows
// every item, and an empty one none.
func applyRights(d *framework.FieldData, r *check.Rights) error {
	for _, err := range []error{
		apply(d, "allowed_servers", &r.AllowedServers, listOrNil),
		apply(d, "allowed_tools", &r.AllowedTools, dedupe),
		apply(d, "denied_tools", &r.DeniedTools, listOrNil),
		apply(d, "allowed_prompts", &r.AllowedPrompts, dedupe),
		apply(d, "denied_prompts", &r.DeniedPrompts, listOrNil),
		apply(d, "allowed_resources", &r.AllowedResources, dedupe),
		apply(d, "denied_resources", &r.DeniedResources, listOrNil),
		apply(d, "rate_limit", &r.RateLimit, same[float64]),
		apply(d, "rate_burst", &r.RateBurst, same[int]),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// refusedBy refuses problems of the fields that were written. A field that is only too
// large and was not given stays: an earlier version accepted it.
func refusedBy(d *framework.FieldData, problems check.Problems) error {
	return refusedAll(slices.DeleteFunc(problems, func(p *check.Problem) bool {
		_, given := d.Raw[p.Field]
		return p.Size && !given
	}))
}

// rightsWarnings warns of rights that an administrator may not have meant; whom is who has
// them.
func (b *mcpBackend) rightsWarnings(ctx context.Context, s logical.Storage, r *check.Rights, whom string) ([]string, error) {
	var warnings []string
	for _, name := range r.AllowedServers {
		if name == check.AnyServer {
			warnings = append(warnings, fmt.Sprintf("allowed_servers=* admits %s to every server, also to those registered later: prefer the names of those that it needs", whom))
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
	for _, list := range []struct {
		field string
		item  policy.Item
		rules []string
	}{
		{"allowed_tools", policy.Tool, r.AllowedTools},
		{"allowed_prompts", policy.Prompt, r.AllowedPrompts},
		{"allowed_resources", policy.Resource, r.AllowedResources},
	} {
		if list.rules != nil && len(list.rules) == 0 && len(r.AllowedServers) > 0 {
			warnings = append(warnings, fmt.Sprintf("%s is set and empty, so it allows no %s of allowed_servers: write %s='*/*' to allow all of them",
				list.field, list.item, list.field))
		}
		if servers := notAllowed(r.AllowedServers, list.rules); len(servers) > 0 {
			warnings = append(warnings, fmt.Sprintf("%s has rules about %s, which allowed_servers does not name: they have no effect until it does",
				list.field, strings.Join(servers, ", ")))
		}
	}
	return warnings, nil
}

// notAllowed returns the servers that rules name, without a wildcard, and allowed_servers do
// not admit.
func notAllowed(allowed, rules []string) []string {
	var servers []string
	for _, rule := range rules {
		server, _, _ := strings.Cut(rule, "/")
		if strings.Contains(server, check.AnyServer) || slices.Contains(servers, server) {
			continue
		}
		if !policy.AllowsServer([]policy.Rights{{Lists: policy.Lists{AllowedServers: allowed}}}, server) {
			servers = append(servers, server)
		}
	}
	return servers
}

// clientRights are a client's rights from all their sources.
type clientRights struct {
	sources []policy.Rights
	limit   policy.RateLimit
}

// rights returns the sources of a client's rights: its own fields and, if it has a role,
// those of the role.
func (b *mcpBackend) rights(ctx context.Context, s logical.Storage, c *clientEntry) (*clientRights, error) {
	own := policy.Rights{Lists: c.Lists}
	if c.Role == "" {
		return &clientRights{sources: []policy.Rights{own}, limit: c.Limit()}, nil
	}
	role, err := b.roles.get(ctx, s, c.Role)
	switch {
	case err != nil:
		return nil, err
	case role == nil:
		return &clientRights{sources: []policy.Rights{own, {Role: c.Role, Missing: true}}, limit: c.Limit()}, nil
	}
	return &clientRights{
		sources: []policy.Rights{own, {Role: c.Role, Lists: role.Lists}},
		limit:   c.Limit().Lower(role.Limit()),
	}, nil
}

// addTo adds the rights to the answer of a lookup. A gateway of an earlier version reads
// allowed_servers, allowed_tools and denied_tools alone. Where these do not say all, they
// admit nothing, and the field rights has the whole. bound says that the token is good for one
// resource alone, which these lists do not say either.
func (r *clientRights) addTo(data map[string]any, bound bool) {
	data["rights"] = nil
	told := policy.Lists{AllowedTools: []string{}}
	if r.plain() && !bound {
		told = r.sources[0].Lists
	} else {
		data["rights"] = r.sources
	}
	data["allowed_servers"] = orEmpty(told.AllowedServers)
	data["allowed_tools"] = listOrNull(told.AllowedTools)
	data["denied_tools"] = orEmpty(told.DeniedTools)
	data["rate_limit"], data["rate_burst"] = r.limit.Rate, r.limit.Burst
}

// plain reports whether allowed_servers, allowed_tools and denied_tools say all.
func (r *clientRights) plain() bool {
	own := &r.sources[0]
	return len(r.sources) == 1 && own.Role == "" && !own.Missing && r.limit == policy.RateLimit{} &&
		own.AllowedPrompts == nil && len(own.DeniedPrompts) == 0 &&
		own.AllowedResources == nil && len(own.DeniedResources) == 0
}

// missing reports whether a source does not exist, so that nothing is granted at all.
func (r *clientRights) missing() bool {
	return slices.ContainsFunc(r.sources, func(source policy.Rights) bool { return source.Missing })
}

// servers returns the names in allowed_servers of all sources, each once; none where a source
// is missing.
func (r *clientRights) servers() []string {
	if r.missing() {
		return nil
	}
	var names []string
	for i := range r.sources {
		names = append(names, r.sources[i].AllowedServers...)
	}
	return listOrNil(names)
}
