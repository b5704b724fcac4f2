package aggregate

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestListsAreMerged(t *testing.T) {
	calc, notes := modern(t, "add", textResult), modern(t, "read", textResult)
	s := newStage(t, map[string]string{"calc": calc.URL, "notes": notes.URL})
	g := s.asks("1", "tools/list", "")
	require.Equal(t, http.StatusOK, g.status, g.body)
	require.Equal(t, `{"jsonrpc":"2.0","id":1,"result":{"tools":[`+
		`{"name":"calc__add","inputSchema":{"type":"object"},"x":12345678901234567890},`+
		`{"name":"notes__read","inputSchema":{"type":"object"},"x":12345678901234567890}],`+
		`"ttlMs":5000,"cacheScope":"private","resultType":"complete"}}`, g.body)
	g = s.asks("1", "tools/list", "", "Authorization", "", ":token", bob)
	require.Equal(t, []string{"calc__add"}, toolsIn(t, g.body), "of what the client may reach")
}

func TestADeadServerCostsItsOwnEntriesAlone(t *testing.T) {
	calc, notes := modern(t, "add", textResult), modern(t, "read", textResult)
	s := newStage(t, map[string]string{"calc": calc.URL, "notes": notes.URL, "gone": "http://127.0.0.1:9/mcp"})
	require.Equal(t, []string{"calc__add", "notes__read"}, toolsIn(t, s.asks("1", "tools/list", "").body))
	notes.Close()
	require.Equal(t, []string{"calc__add", "notes__read"}, toolsIn(t, s.asks("1", "tools/list", "").body), "the last good list")
	require.Contains(t, s.log.text(), "a server is absent from the lists of /mcp: server=gone")
	require.Contains(t, s.log.text(), "a server is absent from the lists of /mcp: server=notes")
}
