package apply

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRolesStandInBlocksAndInFilesOfAFolder(t *testing.T) {
	mistakes, d := loaded(t, map[string]string{
		"broker.hcl":          `role "engineer" { allowed_servers = ["github"] }` + "\n" + `client "ann" { role = "engineer" }`,
		"roles/support.json":  `{"allowed_servers": ["tickets"], "allowed_tools": [], "rate_limit": 0.5}`,
		"roles/many.json":     `[{"name": "a"}, {"name": "b", "denied_tools": ["*/x"]}]`,
		"clients/bob.json":    `{"name": "bob", "role": "support"}`,
		"people/roles.d.json": `{"name": "carl", "allowed_servers": ["github"]}`,
	})
	require.Empty(t, mistakes)
	names := map[string]map[string]any{}
	for i := range d.roles {
		names[d.roles[i].name] = d.roles[i].fields
	}
	require.Len(t, names, 4)
	require.Equal(t, []string{"github"}, names["engineer"]["allowed_servers"])
	require.Nil(t, names["engineer"]["allowed_tools"], "unset: every tool")
	require.Equal(t, []string{}, names["support"]["allowed_tools"], "set and empty: none")
	require.InDelta(t, 0.5, names["support"]["rate_limit"], 0)
	require.Equal(t, []string{"*/x"}, names["b"]["denied_tools"])
	roles := map[string]any{}
	for i := range d.clients {
		roles[d.clients[i].name] = d.clients[i].fields["role"]
	}
	require.Equal(t, map[string]any{"ann": "engineer", "bob": "support", "carl": ""}, roles)
}

func TestMistakesInRolesAreTold(t *testing.T) {
	for name, tc := range map[string]struct{ file, content, told string }{
		"an attribute of a client": {"a.hcl", `role "r" { policies = ["p"] }`, `"policies"`},
		"a rule without a server":  {"a.hcl", `role "r" { denied_tools = ["x"] }`, "names no server"},
		"a name in upper case":     {"a.hcl", `role "R" { }`, "upper-case"},
		"the same one twice":       {"a.hcl", `role "r" { }` + "\n" + `role "r" { }`, "already"},
		"a token":                  {"roles/r.json", `{"access_token": "s3cret-s3cret-s3cret"}`, "brings a token"},
		"a field of a client's":    {"roles/r.json", `{"metadata": {}}`, `"metadata" is not known`},
		"one of many without name": {"roles/r.json", `[{"allowed_servers": []}]`, `field "name" is missing`},
	} {
		t.Run(name, func(t *testing.T) {
			mistakes, _ := loaded(t, map[string]string{tc.file: tc.content})
			require.Contains(t, mistakes, "have 1 mistake:")
			require.Contains(t, mistakes, tc.told)
			require.NotContains(t, mistakes, "s3cret")
		})
	}
}
