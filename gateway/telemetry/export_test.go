package telemetry

import (
	"bytes"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
)

func TestACredentialForTheCollectorIsNotLogged(t *testing.T) {
	for name, headers := range map[string]string{
		"without an equals sign":        "authorization Bearer s3cr3t",
		"with a name that is not valid": "s3cr3t s3cr3t=x",
		"with an escape that is broken": "authorization=Bearer s3cr3t%",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
			t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", headers)
			var log bytes.Buffer
			e, err := Open(t.Context(), Settings{Traces: true}, nil, "1", hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Trace}))
			require.NoError(t, err)
			e.Close()
			require.Contains(t, log.String(), "header", "the mistake is told")
			require.NotContains(t, log.String(), "s3cr3t")
		})
	}
}
