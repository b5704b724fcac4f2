package config

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSyslogHasTheDefaultsOfVaultsAuditDevice(t *testing.T) {
	c, err := parse(t, minimal+"audit {\n syslog {\n address = \"127.0.0.1:601\"\n }\n}\n", noEnvironment)
	require.NoError(t, err)
	require.Equal(t, &Syslog{
		Address: "127.0.0.1:601", SocketType: SocketTCP, Facility: "AUTH", Tag: "mcp-gateway", Required: true, MaxQueue: 8 << 20,
	}, c.Audit.Syslog)
	require.Equal(t, AuditStdout, c.Audit.File)
	require.Empty(t, c.Warnings)
}

func TestAuditLinesInClearAreAWarning(t *testing.T) {
	c, err := parse(t, minimal+"audit {\n syslog {\n address = \"syslog.example.com:601\"\n }\n}\n", noEnvironment)
	require.NoError(t, err)
	require.Contains(t, strings.Join(c.Warnings, "\n"), "without TLS")
}

func TestMistakesInSyslogAreToldWithTheirRemedy(t *testing.T) {
	for name, test := range map[string]struct{ block, want string }{
		"no address":              {``, "address is required"},
		"an address without port": {`address = "syslog.example.com"`, "is not a server's address"},
		"an address without host": {`address = ":601"`, "is not a server's address"},
		"a relative socket":       {"address = \"log\"\nsocket_type = \"unix\"", "is not the absolute path of a socket"},
		"an unknown socket type":  {"address = \"a:1\"\nsocket_type = \"udp\"", `"udp" is not one of tcp, tls, unix, unixgram`},
		"an unknown facility":     {"address = \"a:1\"\nfacility = \"LOCAL9\"", `"LOCAL9" is not a facility`},
		"no facility":             {"address = \"a:1\"\nfacility = \"\"", "is not a facility"},
		"a tag with a space":      {"address = \"a:1\"\ntag = \"a b\"", "is not a valid APP-NAME"},
		"an empty tag":            {"address = \"a:1\"\ntag = \"\"", "is not a valid APP-NAME"},
		"a tag that is too long":  {"address = \"a:1\"\ntag = \"" + strings.Repeat("a", 49) + "\"", "is not a valid APP-NAME"},
		"authorities without tls": {"address = \"a:1\"\nca_cert_file = \"DIR/ca.pem\"", `it is for socket_type = "tls" alone`},
		"a name without tls":      {"address = \"a:1\"\ntls_server_name = \"a\"", `it is for socket_type = "tls" alone`},
		"half a pair":             {"address = \"a:1\"\nsocket_type = \"tls\"\nclient_key_file = \"DIR/tls.key\"", "go together"},
		"a queue that is small":   {"address = \"a:1\"\nmax_queue = \"1KiB\"", "out of range"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, minimal+"audit {\nsyslog {\n"+test.block+"\n}\n}\n", noEnvironment)
			require.ErrorContains(t, err, test.want)
		})
	}
}
