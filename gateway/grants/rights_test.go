package grants

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
)

func TestRightsCountInsteadOfTheListsThatAnOldGatewayReads(t *testing.T) {
	g := grantOf(t, `{"allowed_servers":[],"allowed_tools":[],"denied_tools":[],"rate_limit":0.5,"rate_burst":3,"rights":[
		{"allowed_servers":["z","files"],"allowed_tools":null,"denied_tools":["files/delete"]},
		{"role":"engineer","allowed_servers":["github"],"allowed_tools":["github/pull"],"allowed_prompts":[],"denied_resources":["*/*secret*"]}]}`)
	for server, want := range map[string]bool{"files": true, "z": true, "github": true, "other": false} {
		assert.Equal(t, want, g.AllowsServer(server), server)
	}
	assert.Equal(t, policy.RateLimit{Rate: 0.5, Burst: 3}, g.RateLimit())
	files, github := g.Rules("files"), g.Rules("github")
	assert.True(t, files.Tools.Allows("read"))
	assert.False(t, files.Tools.Allows("delete"))
	assert.Nil(t, files.Prompts, "the role's list is about the role's servers")
	assert.False(t, files.Resources.Allows("file:///Secret"), "a role denies on all servers")
	assert.True(t, github.Tools.Allows("pull"))
	assert.False(t, github.Tools.Allows("push"))
	assert.False(t, github.Prompts.Allows("any"))
	assert.Same(t, files.Resources, g.Rules("files").Resources, "rules are compiled once")
}

func TestGrantWithoutASourceOrWithAMissingOneAdmitsNothing(t *testing.T) {
	for name, rights := range map[string]string{
		"no source":                 `[]`,
		"a source that is empty":    `[{}]`,
		"a role that is not there":  `[{"allowed_servers":["*"]},{"role":"engineer","missing":true}]`,
		"a role that admits itself": `[{"role":"engineer","missing":true,"allowed_servers":["*"]}]`,
	} {
		t.Run(name, func(t *testing.T) {
			g := grantOf(t, `{"allowed_servers":["*"],"rights":`+rights+`}`)
			assert.False(t, g.AllowsServer("files"))
			err := Allows(g, &Server{Name: "files", Transport: TransportHTTP, URL: "http://h/mcp"})
			require.ErrorIs(t, err, ErrNotAllowed)
		})
	}
	missing := grantOf(t, `{"rights":[{"allowed_servers":["*"]},{"role":"engineer","missing":true}]}`)
	assert.False(t, missing.Rules("files").Tools.Allows("read"))
	require.ErrorContains(t, Allows(missing, &Server{Name: "files"}), `there is no role "engineer"`)
}

func TestSameRulesAreThoseAboutOneKindOfItem(t *testing.T) {
	one := grantOf(t, `{"allowed_servers":["*"]}`)
	assert.True(t, one.SameRules(policy.Tool, grantOf(t, `{"rights":[{"allowed_servers":["*"],"denied_prompts":["s/x"]}]}`)))
	assert.False(t, one.SameRules(policy.Prompt, grantOf(t, `{"rights":[{"allowed_servers":["*"],"denied_prompts":["s/x"]}]}`)))
	assert.False(t, one.SameRules(policy.Resource, grantOf(t, `{"rights":[{"allowed_servers":["*"],"allowed_resources":[]}]}`)), "unset is not empty")
	assert.False(t, one.SameRules(policy.Tool, grantOf(t, `{"rights":[{"allowed_servers":["*"]},{"role":"r"}]}`)))
}
