package envelope

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReplaceKeepsEveryOtherByte(t *testing.T) {
	message := []byte(`{ "jsonrpc":"2.0","params":{"_meta":{"progressToken": "tok" },"big":12345678901234567890},"id" : 7,"method":"x" }`)
	e, err := Parse(message)
	require.NoError(t, err)
	got := Replace([]byte("> "), message,
		Part{Span: e.ID, Text: []byte("42")},
		Part{Span: e.RequestID, Text: []byte("never")},
		Part{Span: e.MetaProgressToken, Text: []byte("43")})
	require.Equal(t, `> { "jsonrpc":"2.0","params":{"_meta":{"progressToken": 43 },"big":12345678901234567890},"id" : 42,"method":"x" }`, string(got))
	require.Equal(t, string(message), string(Replace(nil, message)))
}
