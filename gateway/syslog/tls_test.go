package syslog

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/test/harness/authority"
)

// TestTLSProvesBothSides: a server whose certificate does not fit the settings gets nothing,
// and no message counts as sent to a server that does not want the gateway's.
func TestTLSProvesBothSides(t *testing.T) {
	ours, others := authority.New(t), authority.New(t)
	write := func(a *authority.Authority) string {
		path := filepath.Join(t.TempDir(), "ca.pem")
		require.NoError(t, os.WriteFile(path, a.PEM, 0o600))
		return path
	}
	certFile, keyFile := ours.Write(t, t.TempDir(), "gateway", "gateway")
	strangeCert, strangeKey := others.Write(t, t.TempDir(), "stranger", "stranger")
	for name, test := range map[string]struct {
		names   []string // in the server's certificate
		demands *x509.CertPool
		change  func(*config.Syslog)
		want    string // in the log; "": it works
	}{
		"all as it should be":            {names: []string{"127.0.0.1"}},
		"by another name":                {names: []string{"syslog.test"}, change: func(c *config.Syslog) { c.TLSServerName = "syslog.test" }},
		"a wrong name":                   {names: []string{"other.test"}, want: "certificate"},
		"a wrong name that was asked":    {names: []string{"127.0.0.1"}, change: func(c *config.Syslog) { c.TLSServerName = "syslog.test" }, want: "certificate"},
		"another authority":              {names: []string{"127.0.0.1"}, change: func(c *config.Syslog) { c.CACertFile = write(others) }, want: "certificate"},
		"a certificate of the gateway":   {names: []string{"127.0.0.1"}, demands: ours.Pool(), change: func(c *config.Syslog) { c.ClientCertFile, c.ClientKeyFile = certFile, keyFile }},
		"none of the gateway":            {names: []string{"127.0.0.1"}, demands: ours.Pool(), want: "the server has refused the connection"},
		"a strange one of the gateway":   {names: []string{"127.0.0.1"}, demands: ours.Pool(), change: func(c *config.Syslog) { c.ClientCertFile, c.ClientKeyFile = strangeCert, strangeKey }, want: "the server has refused the connection"},
		"a server without TLS behind it": {want: "tls:"},
	} {
		t.Run(name, func(t *testing.T) {
			var secured *tls.Config
			if test.names != nil {
				secured = &tls.Config{Certificates: []tls.Certificate{ours.Pair(t, test.names...)}, MinVersion: tls.VersionTLS13}
				if test.demands != nil {
					secured.ClientCAs, secured.ClientAuth = test.demands, tls.RequireAndVerifyClientCert
				}
			}
			server := gatewaytest.NewSyslog(t, "tcp", "127.0.0.1:0", secured)
			settings := &config.Syslog{Address: server.Address, SocketType: config.SocketTLS, Facility: "AUTH", Tag: "x", CACertFile: write(ours)}
			if test.change != nil {
				test.change(settings)
			}
			s := open(t, server, settings)
			if test.want == "" {
				s.send(t, 10, 100)
				s.arrives(t, false)
				return
			}
			if test.names == nil {
				server.Say("hello\n")
			}
			sent := make(chan struct{})
			s.add(1, 100)
			go func() {
				defer close(sent)
				_, _ = s.Flush()
			}()
			gatewaytest.Eventually(t, "the log tells", func() bool {
				if test.names == nil {
					server.Say("hello\n")
				}
				return strings.Contains(s.log.String(), test.want)
			})
			select {
			case <-sent:
				t.Fatal("the message counts as sent")
			default:
			}
			require.Empty(t, server.Messages())
		})
	}
}

func TestARenewedCertificateIsUsedByTheNextConnection(t *testing.T) {
	old, next := authority.New(t), authority.New(t)
	dir := t.TempDir()
	pool := old.Pool()
	server := gatewaytest.NewSyslog(t, "tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{old.Pair(t, "127.0.0.1")}, MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, nil },
		ClientCAs:          pool,
	})
	settings := &config.Syslog{Address: server.Address, SocketType: config.SocketTLS, Facility: "AUTH", Tag: "x", CACertFile: filepath.Join(dir, "ca.pem")}
	require.NoError(t, os.WriteFile(settings.CACertFile, old.PEM, 0o600))
	settings.ClientCertFile, settings.ClientKeyFile = next.Write(t, dir, "gateway", "gateway")
	s := open(t, server, settings)
	gatewaytest.Eventually(t, "it is refused", func() bool { return strings.Contains(s.log.String(), "the server has refused the connection") })
	certificate, key := old.Issue(t, "gateway")
	require.NoError(t, os.WriteFile(settings.ClientKeyFile, key, 0o600))
	require.NoError(t, os.WriteFile(settings.ClientCertFile, certificate, 0o600))
	s.send(t, 3, 100)
	s.arrives(t, false)
}
