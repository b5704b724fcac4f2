package telemetry

import (
	"fmt"
	"slices"
	"strings"
)

// Environment variables that are read here. OpenTelemetry's SDK reads further
// ones of its own; docs/gateway.md lists them.
const (
	EnvDisabled        = "OTEL_SDK_DISABLED"
	EnvTracesExporter  = "OTEL_TRACES_EXPORTER"
	EnvMetricsExporter = "OTEL_METRICS_EXPORTER"
	EnvEndpoint        = "OTEL_EXPORTER_OTLP_ENDPOINT"
	EnvTracesEndpoint  = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	EnvMetricsEndpoint = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
	EnvProtocol        = "OTEL_EXPORTER_OTLP_PROTOCOL"
	EnvTracesProtocol  = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	EnvMetricsProtocol = "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"
	EnvToolDetails     = "OTEL_LOG_TOOL_DETAILS"
)

// Values of the exporter variables.
const (
	exporterOTLP       = "otlp"
	exporterPrometheus = "prometheus" // what /metrics is in any case
	exporterNone       = "none"

	protocolHTTP = "http/protobuf"
)

// Settings is what the environment asks for.
type Settings struct {
	Traces      bool // are sent by OTLP
	Metrics     bool // are sent by OTLP, beside what /metrics answers
	ToolDetails bool // names of tools stand in traces
}

// Environment reads the OTEL_ variables. Where none of them names an exporter
// or an endpoint, nothing is sent: OpenTelemetry's own default, a collector on
// this machine, would have every gateway without one complain about it.
func Environment(getenv func(string) string) (Settings, error) {
	var s Settings
	if strings.EqualFold(getenv(EnvDisabled), "true") {
		return s, nil
	}
	var err error
	if s.Traces, err = wanted(getenv, EnvTracesExporter, EnvTracesEndpoint, EnvTracesProtocol); err != nil {
		return Settings{}, err
	}
	if s.Metrics, err = wanted(getenv, EnvMetricsExporter, EnvMetricsEndpoint, EnvMetricsProtocol, exporterPrometheus); err != nil {
		return Settings{}, err
	}
	s.ToolDetails = truth(getenv(EnvToolDetails))
	return s, nil
}

// wanted reports whether one kind of telemetry is to be sent by OTLP. others are
// values of the exporter variable that are good, and mean that it is not.
func wanted(getenv func(string) string, exporter, endpoint, protocol string, others ...string) (bool, error) {
	name := getenv(exporter)
	switch {
	case name == "" && getenv(endpoint) == "" && getenv(EnvEndpoint) == "":
		return false, nil
	case name == exporterNone || slices.Contains(others, name):
		return false, nil
	case name != "" && name != exporterOTLP:
		known := append([]string{exporterOTLP, exporterNone}, others...)
		return false, fmt.Errorf("%s: %q is not one of %s", exporter, name, strings.Join(known, ", "))
	}
	for _, variable := range [...]string{protocol, EnvProtocol} {
		if value := getenv(variable); value != "" {
			if value != protocolHTTP {
				return false, fmt.Errorf("%s: %q is not supported: use %s, which collectors take on port 4318", variable, value, protocolHTTP)
			}
			break
		}
	}
	return true, nil
}

// truth reads a switch as Claude Code and OpenTelemetry's own tools write it.
func truth(value string) bool {
	return value == "1" || strings.EqualFold(value, "true")
}
