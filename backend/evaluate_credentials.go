package backend

import (
	"regexp"

	"vault-plugin-secrets-mcp/backend/credential"
)

// fieldAliasPrefix is the gateway's alias_prefix, which the engine does not know.
const (
	fieldAliasPrefix   = "alias_prefix"
	defaultAliasPrefix = "mcp"
)

var aliasPrefixForm = regexp.MustCompile(`^[a-z0-9-]+$`)

// credentialUse is a credential of a server as a client would get it.
type credentialUse struct {
	name, method, path string
	problem            string // why there is no path
}

// credentialUses resolves the credentials of a server for a client.
func credentialUses(prefix, client string, c *clientEntry, e *serverEntry) []credentialUse {
	values := credential.Values{ClientAlias: prefix + ":" + client}
	if c.UpstreamPolicies != nil {
		values.Metadata = copyOf(c.Metadata)
	}
	uses := make([]credentialUse, 0, len(e.Credentials))
	for _, name := range sortedKeys(e.Credentials) {
		spec := e.Credentials[name]
		use := credentialUse{name: name, method: spec.Verb()}
		path, _, err := spec.Resolve(values)
		switch {
		case c.UpstreamPolicies != nil && len(c.UpstreamPolicies) == 0:
			use.problem = "the client's upstream_policies is empty"
		case err != nil:
			use.problem = err.Error()
		default:
			use.path = path
		}
		uses = append(uses, use)
	}
	return uses
}

// usesData are the uses as evaluate answers them.
func usesData(uses []credentialUse) []map[string]any {
	all := make([]map[string]any, 0, len(uses))
	for _, u := range uses {
		all = append(all, map[string]any{"name": u.name, "method": u.method, "path": u.path, "problem": u.problem})
	}
	return all
}

// usesSummary are the uses for people; "" if there are none.
func usesSummary(uses []credentialUse) string {
	if len(uses) == 0 {
		return ""
	}
	rows := [][]string{{"CREDENTIAL", "METHOD", "PATH"}}
	for _, u := range uses {
		path := u.path
		if u.problem != "" {
			path = "none: " + u.problem
		}
		rows = append(rows, []string{u.name, u.method, path})
	}
	return "\n\n" + table(rows)
}
