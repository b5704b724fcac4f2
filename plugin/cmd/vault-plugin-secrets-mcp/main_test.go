package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/version"
)

func TestHelpAndVersionAreSpelledAsInTheOtherPrograms(t *testing.T) {
	for _, args := range [][]string{{"-h"}, {"-help"}, {"--help"}, {"help"}} {
		var stdout strings.Builder
		require.NoError(t, run(args, &stdout), args)
		require.Contains(t, stdout.String(), "Usage: vault-plugin-secrets-mcp", args)
		require.Contains(t, stdout.String(), "-version", args)
	}
	for _, args := range [][]string{{"-version"}, {"--version"}, {"version"}} {
		var stdout strings.Builder
		require.NoError(t, run(args, &stdout), args)
		require.Equal(t, version.String()+"\n", stdout.String(), args)
	}
	for _, args := range [][]string{{"-x"}, {"x"}, {"help", "x"}, {"-version", "x"}} {
		var stdout strings.Builder
		require.ErrorIs(t, run(args, &stdout), errUsage, args)
		require.Empty(t, stdout.String(), args)
	}
}
