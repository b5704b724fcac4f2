package aggregate

import (
	"strings"
	"testing"
	"unique"

	"github.com/stretchr/testify/require"
)

func TestWhatAServerSaysOfItselfIsKeptWithinBounds(t *testing.T) {
	long := strings.Repeat("x", maxInstructions+1)
	d, err := readDescription([]byte(`{"result":{"protocolVersion":"2025-11-25","instructions":"` + long + `","capabilities":{"tools":{}}}}`))
	require.NoError(t, err)
	require.Equal(t, description{version: "2025-11-25", has: capabilities{tools: true}, instructions: unique.Make("")}, d)
	_, err = readDescription([]byte(`{"result":{"protocolVersion":"` + long + `"}}`))
	require.ErrorIs(t, err, errLongVersion)
}
