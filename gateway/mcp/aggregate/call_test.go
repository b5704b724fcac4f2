package aggregate

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

const textResult = `{"content":[{"type":"text","text":"hi","n":12345678901234567890}],"resultType":"complete","x":1.10}`

func TestACallIsHandedToItsServer(t *testing.T) {
	calc, notes := modern(t, "add", textResult), modern(t, "add", textResult)
	s := newStage(t, map[string]string{"calc": calc.URL, "notes": notes.URL})
	g := s.asks("12345678901234567890", "tools/call", `"name":"calc__add","arguments":{"a":1.10,"b":"calc__add"}`)
	require.Equal(t, http.StatusOK, g.status, g.body)
	require.Equal(t, `{"jsonrpc":"2.0","id":12345678901234567890,"result":`+textResult+`}`, g.body)
	want, _ := stateless("12345678901234567890", "tools/call", `"name":"add","arguments":{"a":1.10,"b":"calc__add"}`)
	require.Equal(t, []string{want}, calc.sent("tools/call"), "all bytes but the name stay what they are")
	require.Equal(t, "add", calc.header("tools/call").Get("Mcp-Name"))
	require.Zero(t, notes.count(), "no other server hears of it")
}
