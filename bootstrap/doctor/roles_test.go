package doctor

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAClientReachesWhatItsRoleAllowsAndNothingWithoutTheRole(t *testing.T) {
	for name, test := range map[string]struct {
		own  []string
		role object // nil: there is none of that name
		want string // "": nothing is wrong
	}{
		"a role alone":                        {nil, object{"allowed_servers": []string{"s"}}, ""},
		"a role that does not exist":          {[]string{"s"}, nil, "the client c has the role engineer, which does not exist"},
		"a role without servers":              {nil, object{"allowed_servers": []string{}}, "the client c may reach no server"},
		"a role beside servers of the client": {[]string{"s"}, object{"allowed_servers": []string{}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			e := &examination{Options: Options{Mount: "mcp", Expiring: time.Hour, Out: &out}, vault: vaultOf(t, map[string]object{
				"roles/engineer": test.role, "evaluate": {"allowed": true},
			})}
			e.checkReach(t.Context(), "c", object{"allowed_servers": list(test.own), "role": "engineer"})
			if test.want == "" {
				require.Zero(t, e.findings, out.String())
				return
			}
			require.Equal(t, 1, e.findings)
			require.Contains(t, strings.Join(strings.Fields(out.String()), " "), test.want)
		})
	}
}

// list is a list as it comes from Vault.
func list(names []string) []any {
	all := make([]any, 0, len(names))
	for _, name := range names {
		all = append(all, name)
	}
	return all
}
