package telemetry

import (
	"fmt"
	"slices"
	"strings"
)

// Environment variables that this package reads. OpenTelemetry's SDK reads more;
// docs/gateway.md lists them.
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
	exporterPrometheus = "prometheus" // /metrics is always there
	exporterNone       = "none"

	protocolHTTP = "http/protobuf"
)

// Settings are those of the environment.
type Settings struct {
	Traces      bool // send them by OTLP
	Metrics     bool // send them by OTLP, beside /metrics
	ToolDetails bool // traces have names of tools
}

// Environment reads the OTEL_ variables. Without an exporter or an endpoint, the gateway
// sends nothing. OpenTelemetry's own default is a collector on this machine, and every
// gateway without one would log errors.
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

// wanted reports whether to send one kind of telemetry by OTLP. others are valid values
// of the exporter variable that mean no.
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
				return false, fmt.Errorf("%s: %q is not supported: use %s, which collectors accept on port 4318", variable, value, protocolHTTP)
			}
			break
		}
	}
	return true, nil
}

// truth reads a switch in the forms of Claude Code and of OpenTelemetry's own tools.
func truth(value string) bool {
	return value == "1" || strings.EqualFold(value, "true")
}
