package protocol_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/itemlist"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// Whoever decides on an object's members goes by the one rule of jsonscan.Object.
func TestEveryReaderKeepsTheRuleAboutKeys(t *testing.T) {
	rules := policy.CompileRules("s", []policy.Rights{{Lists: policy.Lists{AllowedServers: []string{"s"}, DeniedTools: []string{"s/denied"}}}})
	filter := itemlist.Filter{Rules: rules}
	// Members that stand beside a key K, which is guarded.
	for name, beside := range map[string]func(key string) string{
		"twice":                 func(key string) string { return `"` + key + `":0` },
		"in capitals":           func(key string) string { return `"` + string(key[0]-'a'+'A') + key[1:] + `":0` },
		"with white space":      func(key string) string { return `" ` + key + `":0` },
		"up to a NUL":           func(key string) string { return `"` + key + `\u0000x":0` },
		"a control character":   func(string) string { return `"x\u0001":0` },
		"DEL":                   func(string) string { return `"x\u007f":0` },
		"half a surrogate pair": func(string) string { return `"\ud800":0` },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := envelope.Parse([]byte(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a",` + beside("name") + `}}`))
			require.Error(t, err, "envelope.Parse")
			_, err = rewrite.Answer([]byte(`{"result":{"contents":[{"uri":"a",`+beside("uri")+`}]}}`), "s")
			require.Error(t, err, "rewrite.Answer")
			_, _, err = filter.Apply([]byte(`{"result":{"tools":[],` + beside("tools") + `}}`))
			require.Error(t, err, "itemlist.Filter")

			tool := `{"name":"a",` + beside("name") + `}`
			filtered, _, err := filter.Apply([]byte(`{"result":{"tools":[` + tool + `]}}`))
			require.NoError(t, err)
			require.Equal(t, `{"result":{"tools":[]}}`, string(filtered), "a tool of itemlist.Filter")
			page, err := rewrite.ReadPage(rewrite.Tools, "s", []byte(`{"result":{"tools":[`+tool+`]}}`))
			require.NoError(t, err)
			require.Empty(t, page.Entries, "an entry of rewrite.ReadPage")
			_, err = rewrite.ReadPage(rewrite.Tools, "s", []byte(`{"result":{"tools":[],`+beside("tools")+`}}`))
			require.Error(t, err, "rewrite.ReadPage")

			listen := []byte(`{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true,` + beside("toolsListChanged") + `}}}`)
			e, err := envelope.Parse(listen)
			require.NoError(t, err)
			_, err = rewrite.ReadListen(&e, listen)
			require.Error(t, err, "rewrite.ReadListen")
		})
	}
}
