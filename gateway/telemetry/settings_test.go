package telemetry

import (
	"testing"

	"github.com/stretchr/testify/require"
)

type environment map[string]string

func (e environment) get(name string) string { return e[name] }

func TestEnvironmentSaysWhatIsSent(t *testing.T) {
	const url = "http://127.0.0.1:4318"
	for name, test := range map[string]struct {
		environment environment
		want        Settings
	}{
		"nothing, where nothing is said":           {nil, Settings{}},
		"both, where there is an endpoint":         {environment{EnvEndpoint: url}, Settings{Traces: true, Metrics: true}},
		"traces, where they have an endpoint":      {environment{EnvTracesEndpoint: url}, Settings{Traces: true}},
		"metrics, where they have an endpoint":     {environment{EnvMetricsEndpoint: url}, Settings{Metrics: true}},
		"traces, where metrics are not wanted":     {environment{EnvEndpoint: url, EnvMetricsExporter: "none"}, Settings{Traces: true}},
		"traces, where metrics are scraped":        {environment{EnvEndpoint: url, EnvMetricsExporter: "prometheus"}, Settings{Traces: true}},
		"metrics, where traces are not wanted":     {environment{EnvEndpoint: url, EnvTracesExporter: "none"}, Settings{Metrics: true}},
		"traces to the default endpoint":           {environment{EnvTracesExporter: "otlp"}, Settings{Traces: true}},
		"nothing, where the SDK is off":            {environment{EnvEndpoint: url, EnvDisabled: "TRUE"}, Settings{}},
		"tools, where they may be named":           {environment{EnvTracesExporter: "otlp", EnvToolDetails: "1"}, Settings{Traces: true, ToolDetails: true}},
		"no tools, where they may not be":          {environment{EnvTracesExporter: "otlp", EnvToolDetails: "0"}, Settings{Traces: true}},
		"one kind over a protocol of its own":      {environment{EnvTracesExporter: "otlp", EnvTracesProtocol: "http/protobuf", EnvProtocol: "grpc"}, Settings{Traces: true}},
		"nothing over a protocol that is not used": {environment{EnvTracesExporter: "none", EnvProtocol: "grpc"}, Settings{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Environment(test.environment.get)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestMistakesInTheEnvironmentAreTold(t *testing.T) {
	for name, test := range map[string]struct {
		environment environment
		want        string
	}{
		"an unknown exporter of traces":  {environment{EnvTracesExporter: "zipkin"}, `OTEL_TRACES_EXPORTER: "zipkin" is not one of otlp, none`},
		"an unknown exporter of metrics": {environment{EnvMetricsExporter: "statsd"}, `OTEL_METRICS_EXPORTER: "statsd" is not one of otlp, none, prometheus`},
		"a protocol that is not spoken":  {environment{EnvMetricsExporter: "otlp", EnvMetricsProtocol: "grpc"}, `OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: "grpc" is not supported: use http/protobuf`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Environment(test.environment.get)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestOnlyNamesOfToolsAreTold(t *testing.T) {
	for name, want := range map[string]bool{
		"add": true, "github__create_issue": true, "files.read/all-2": true,
		"": false, "two words": false, "über": false, "a\nb": false,
		"mcpt_0123456789": false, "mcpk_0123456789": false,
	} {
		require.Equal(t, want, isToolName(name), "%q", name)
	}
}
