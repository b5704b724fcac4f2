package doctor

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPinsThatWaitForSomebodyAreToldAndNotWrong(t *testing.T) {
	for name, test := range map[string]struct{ data, want string }{
		"reported": {
			`{"pin":"observe","approved":[],"reported":[{"kind":"tool","name":"a"},{"kind":"tool","name":"b"}]}`,
			"the server x has pin=observe. Definitions that wait for approval: 2. See `mcp-bootstrap pins diff x`",
		},
		"frozen and lost": {
			`{"pin":"enforce","approved":[{"kind":"tool","name":"a"}],"frozen":[{"kind":"tool","name":"b"}],"lost":7}`,
			"the server x has pin=enforce. Frozen names: 1. Lost reports: 7. See `mcp-bootstrap pins diff x`",
		},
		"nothing approved": {`{"pin":"enforce","approved":[]}`, "has pin=enforce. Nothing is approved, so clients see nothing of it. See `mcp-bootstrap pins diff x`"},
		"all approved":     {`{"pin":"enforce","approved":[{"kind":"tool","name":"a"}]}`, ""},
		"pins are off":     {`{"pin":"off","reported":[{"kind":"tool","name":"a"}]}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			vault := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				assert.Equal(t, "/v1/mcp/pins/x", r.URL.Path)
				_, _ = w.Write([]byte(`{"data":` + test.data + `}`))
			}))
			defer vault.Close()
			e, out := newExamination(Options{})
			var err error
			e.vault, err = api.NewClient(&api.Config{Address: vault.URL})
			require.NoError(t, err)
			e.checkPins(t.Context(), []string{"x"})
			require.Zero(t, e.findings)
			if test.want == "" {
				require.Empty(t, out.String())
				return
			}
			require.Contains(t, out.String(), test.want)
		})
	}
}
