package backend

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEvaluateHintsAtTheServersOwnNameOfAnItem(t *testing.T) {
	e := newEnv(t)
	e.write("servers/notes", data{"transport": "http", "url": "https://h.example/mcp"})
	e.client("c", data{"allowed_servers": "notes", "allowed_tools": "notes/list_*"})
	for _, test := range []struct{ item, name, hint string }{
		{"tool", "notes__list_notes", "tool=list_notes"},
		{"prompt", "notes__a", "prompt=a"},
		{"resource", "mcp://notes/file:///a", "resource=file:///a"},
		{"resource", "ui://notes/page", "resource=ui://page"},
		{"tool", "list_notes", ""},
		{"tool", "other__list_notes", ""},
		{"tool", "notes__", ""},
		{"resource", "ui://other/page", ""},
	} {
		answer := e.write("evaluate", data{"client": "c", "server": "notes", test.item: test.name}).Data
		reason := answer["reason"].(string)
		if test.hint == "" {
			require.NotContains(t, reason, "/mcp:", test.name)
			continue
		}
		require.Contains(t, reason, "that looks like its name at /mcp: give "+test.hint, test.name)
		checks := answer["checks"].([]map[string]any)
		require.Equal(t, reason, checks[len(checks)-1]["detail"], "a summary would say it twice")
	}
}
