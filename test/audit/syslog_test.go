package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// TestSyslog is about a gateway whose audit lines go to a syslog server too: one over TCP
// that is required, and one behind a socket that is not.
func TestSyslog(t *testing.T) {
	s := stage.New(t, harness.GatewayOptions{})
	token := s.Client("told", nil)
	t.Run("a required server", func(t *testing.T) { requiredSyslog(t, s.In(t), token) })
	t.Run("a server that is not required", func(t *testing.T) { optionalSyslog(t, s.In(t), token) })
}

// withSyslog starts another gateway of the stage, with the server in its file.
func withSyslog(s *stage.Stage, server *gatewaytest.Syslog, lines string) {
	s.Gateway = s.StartGateway(harness.GatewayOptions{
		Blocks: map[string]string{"audit": fmt.Sprintf("syslog {\naddress = %q\nsocket_type = %q\n%s\n}\n", server.Address, server.Network, lines)},
	})
	s.Forget()
}

// metric waits until a metric of the gateway has the value.
func metric(s *stage.Stage, name, value string) {
	s.Eventually(name+" is "+value, func() error {
		if !strings.Contains(s.Gateway.Metrics(), "\n"+name+" "+value+"\n") {
			return errors.New("it is not")
		}
		return nil
	})
}

// sameLines waits until the server has all lines of the file.
func sameLines(s *stage.Stage, server *gatewaytest.Syslog) {
	s.Eventually("the server has what the file has", func() error {
		file, messages := s.Gateway.Audit(), server.Messages()
		if len(file) != len(messages) {
			return fmt.Errorf("the file has %d lines, the server %d", len(file), len(messages))
		}
		for i, m := range messages {
			var line harness.Map
			if err := json.Unmarshal([]byte(m.Text), &line); err != nil {
				return err
			}
			if m.Type != file[i]["type"] || m.Time != file[i]["time"] || !reflect.DeepEqual(line, file[i]) {
				return fmt.Errorf("line %d is %v and %v", i, file[i], m)
			}
		}
		return nil
	})
}

func requiredSyslog(t *testing.T, s *stage.Stage, token string) {
	t.Helper()
	server := gatewaytest.NewSyslog(t, "tcp", "127.0.0.1:0", nil)
	withSyslog(s, server, `facility = "LOCAL0"`)
	s.Works(t, token)
	unknown := harness.UnissuedToken(t)
	require.Equal(t, http.StatusUnauthorized, s.Add(unknown).Status)
	require.Equal(t, http.StatusForbidden, s.Call(s.URL(stage.Forbidden), token, "add", `{"a":40,"b":2}`).Status)
	s.Eventually("refusals of strangers are written", func() error {
		if !slices.ContainsFunc(server.Messages(), func(m gatewaytest.SyslogMessage) bool { return m.Type == "refusals" }) {
			return errors.New("not yet")
		}
		return nil
	})
	sameLines(s, server)
	metric(s, "mcp_gateway_audit_syslog_up", "1")

	server.Stop()
	s.Forget()
	for range 3 {
		r := s.Add(token)
		require.Equal(t, http.StatusServiceUnavailable, r.Status, r.Body)
	}
	require.Empty(t, s.Received(), "no server gets a request whose decision is not taken")
	metric(s, "mcp_gateway_audit_syslog_up", "0")
	metric(s, "mcp_gateway_audit_up", "1")
	server.Start(t)
	s.Eventually("the gateway works again", func() error {
		if r := s.Add(token); r.Status != http.StatusOK {
			return fmt.Errorf("it answers %d %s", r.Status, r.Body)
		}
		return nil
	})
	metric(s, "mcp_gateway_audit_syslog_up", "1")
	for i, m := range server.Messages() {
		require.Equal(t, i+1, m.Sequence, "none is missing")
		require.Equal(t, 16, m.Facility)
	}
	require.NoError(t, s.Gateway.Process.Signal(syscall.SIGHUP))
	s.Works(t, token)

	secrets := secretWords{"a token": token, "a token nobody issued": unknown}
	for _, m := range server.Messages() {
		require.Empty(t, secrets.in(m.Text), m.Text)
	}
	require.Empty(t, server.Faults())
}

func optionalSyslog(t *testing.T, s *stage.Stage, token string) {
	t.Helper()
	server := gatewaytest.NewSyslog(t, "unixgram", filepath.Join(t.TempDir(), "log"), nil)
	server.Stop()
	withSyslog(s, server, "required = false\n")
	for range 3 {
		s.Works(t, token)
	}
	metric(s, "mcp_gateway_audit_syslog_up", "0")
	server.Start(t)
	sameLines(s, server)
	metric(s, "mcp_gateway_audit_syslog_lines_lost_total", "0")
	require.Empty(t, server.Faults())
}
