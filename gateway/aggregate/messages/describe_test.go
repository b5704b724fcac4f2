package messages

import (
	"strings"
	"testing"
	"unique"

	"github.com/stretchr/testify/require"
)

func TestWhatAServerSaysOfItselfIsKeptWithinBounds(t *testing.T) {
	long := strings.Repeat("x", maxInstructions+1)
	d, err := ReadDescription([]byte(`{"result":{"protocolVersion":"2025-11-25","instructions":"` + long + `","capabilities":{"tools":{}}}}`))
	require.NoError(t, err)
	require.Equal(t, Description{Version: "2025-11-25", Has: Capabilities{tools: true}, Instructions: unique.Make("")}, d)
	_, err = ReadDescription([]byte(`{"result":{"protocolVersion":"` + long + `"}}`))
	require.ErrorIs(t, err, errLongVersion)
}
