package backend

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
)

func TestPinsBelongToWhereTheServerLeads(t *testing.T) {
	t.Parallel()
	text := toolText("a", "")
	for _, tc := range []struct {
		name string
		held data
		data data
		same bool
	}{
		{"its headers", nil, data{"headers": data{"Authorization": "Bearer other"}}, true},
		{"its description", nil, data{"description": "other"}, true},
		{"disabled", nil, data{"disabled": true}, true},
		{"pin", nil, data{"pin": "observe"}, true},
		{"its URL", nil, data{"url": "https://other.example.com/mcp"}, false},
		{"the query of its URL", nil, data{"url": "https://s.example.com/mcp?tenant=other"}, false},
		{"its transport", nil, data{"transport": "sse"}, false},
		{"the environment of a program", child, data{"env": data{"A": "b"}}, true},
		{"shared, of a program", child, data{"shared": true}, true},
		{"a program's arguments", child, data{"args": []string{"--other"}}, false},
		{"a program's command", child, data{"command": "/bin/other"}, false},
	} {
		t.Run("changing "+tc.name, func(t *testing.T) {
			t.Parallel()
			e := pinnedEnv(t, "enforce")
			if tc.held != nil {
				e.delete("servers/s")
				e.write("servers/s", tc.held)
			}
			e.reportTools(text, toolText("b", ""))
			e.write("pins/s", data{"approve": "a", "digest": digestOf(t, pin.Tool, text)})
			before := e.read("pins/s")
			resp := e.write("servers/s", tc.data)
			after := e.read("pins/s")
			require.Equal(t, tc.same, before["place"] == after["place"])
			if tc.same {
				require.Equal(t, before["approved"], after["approved"])
				return
			}
			require.Contains(t, strings.Join(resp.Warnings, "\n"), "nothing is approved of the server any more")
			_, approved := e.pinnedSet()
			require.Empty(t, approved)
			require.Empty(t, after["approved"])
			require.Empty(t, after["reported"])

			// Reports about the old place are refused, and a return to it does not bring the
			// approvals back.
			late := e.write("gateway/pins/s", data{"place": before["place"], "definitions": []any{data{"kind": "tool", "text": text}}}).Data
			require.Equal(t, reportCounts(0, 0, 1, 0), late)
			e.write("servers/s", with(data{"url": "", "command": "", "args": ""}, heldOr(tc.held)))
			require.Empty(t, e.pinRows("approved"))
			e.tidyToEnd()
			require.Empty(t, e.keys("pin"), "tidy removes the pins of before")
		})
	}
}

func heldOr(held data) data {
	if held != nil {
		return held
	}
	return data{"transport": "http", "url": "https://s.example.com/mcp"}
}

func TestAServerThatIsRegisteredAgainHasNothingApproved(t *testing.T) {
	t.Parallel()
	e := pinnedEnv(t, "enforce")
	text := toolText("a", "")
	e.reportTools(text)
	e.write("pins/s", data{"approve": "a", "digest": digestOf(t, pin.Tool, text)})
	e.delete("servers/s")
	require.Nil(t, e.read("pins/s"))
	require.Nil(t, e.read("gateway/pins/s"))
	e.write("servers/s", data{"transport": "http", "url": "https://s.example.com/mcp", "pin": "enforce"})
	_, approved := e.pinnedSet()
	require.Empty(t, approved)
	e.reportTools(text)
	e.tidyToEnd()
	require.Equal(t, []string{"tool a " + digestOf(t, pin.Tool, text) + " new"}, e.pinRows("reported"), "tidy leaves the definitions of the new place")
	require.Len(t, e.keys(pinTextPrefix), 1)
	e.delete("servers/s")
	e.tidyToEnd()
	require.Empty(t, e.keys("pin"))
}
