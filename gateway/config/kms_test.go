package config

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSealedTokensAreOpenedWhereTheFileSaysSo(t *testing.T) {
	c, err := parse(t, minimal, noEnvironment)
	require.NoError(t, err)
	require.Nil(t, c.KMS)

	c, err = parse(t, minimal+"kms {}\n", noEnvironment)
	require.NoError(t, err)
	require.Equal(t, &KMS{Refresh: 5 * time.Minute, MaxStale: time.Hour}, c.KMS)

	c, err = parse(t, minimal+`kms {
  audience  = "https://mcp.example.com"
  required  = true
  region    = "eu-central-1"
  endpoint  = "https://vpce-0123.kms.eu-central-1.vpce.amazonaws.com"
  refresh   = "1m"
  max_stale = "10m"
}
`, noEnvironment)
	require.NoError(t, err)
	require.Equal(t, &KMS{
		Audience: "https://mcp.example.com", Required: true, Region: "eu-central-1",
		Endpoint: "https://vpce-0123.kms.eu-central-1.vpce.amazonaws.com", Refresh: time.Minute, MaxStale: 10 * time.Minute,
	}, c.KMS)
}

func TestMistakesAboutKMSAreTold(t *testing.T) {
	for block, want := range map[string]string{
		`kms { endpoint = "kms" }`:                            "endpoint",
		`kms { endpoint = "https://u:p@kms.local" }`:          "leave the rest out",
		`kms { refresh = "10ms" }`:                            "out of range",
		`kms { refresh = "2h" }`:                              "out of range",
		"kms {\n  refresh = \"10m\"\n  max_stale = \"5m\"\n}": "less than refresh",
		`kms { secret_key = "x" }`:                            `no setting "secret_key"`,
		"kms {\n  refresh = \"10m\"\n  required = 1\n}":       "true or false",
	} {
		_, err := parse(t, minimal+block+"\n", noEnvironment)
		require.ErrorContains(t, err, want, block)
	}
}
