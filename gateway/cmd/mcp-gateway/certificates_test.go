package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/test/harness/authority"
)

// issue writes a certificate for 127.0.0.1 by an authority of its own.
func issue(t *testing.T, dir, name string) *authority.Authority {
	t.Helper()
	a := authority.New(t)
	a.Write(t, dir, name)
	return a
}

func tlsClient(settings *tls.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: settings, DisableKeepAlives: true}}
}

func TestCertificatesAreReadAgainOnReload(t *testing.T) {
	s := newStage(t)
	first := issue(t, s.dir, "server").Pool()
	tlsFile := fmt.Sprintf("listener {\n tls_cert_file = %q\n tls_key_file = %q\n}\n", s.dir+"/server.crt", s.dir+"/server.key")
	s.start(tlsFile)
	s.ready()
	s.works(tlsClient(&tls.Config{RootCAs: first}), s.url("https"))
	second := issue(t, s.dir, "server").Pool()
	s.gateway.reload(func() (*config.Config, error) { return s.settings(tlsFile), nil })
	s.works(tlsClient(&tls.Config{RootCAs: second}), s.url("https"))
	require.Equal(t, "1", s.metric("config_last_reload_successful"))
	expires, err := strconv.ParseFloat(s.metric("tls_certificate_expiry_timestamp_seconds"), 64)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Hour), time.Unix(int64(expires), 0), time.Minute)
	require.NoError(t, os.WriteFile(s.dir+"/server.crt", []byte("broken"), 0o600))
	s.gateway.reload(func() (*config.Config, error) { return s.parse(tlsFile) })
	s.works(tlsClient(&tls.Config{RootCAs: second}), s.url("https"))
	require.Contains(t, s.log.String(), "the old one stays in effect")
	require.Equal(t, "0", s.metric("config_last_reload_successful"))
}

func TestClientCertificateIsNeededWhereAuthoritiesAreListed(t *testing.T) {
	s := newStage(t)
	server := issue(t, s.dir, "server").Pool()
	clients := filepath.Join(s.dir, "clients.crt")
	require.NoError(t, os.WriteFile(clients, issue(t, s.dir, "client").PEM, 0o600))
	issue(t, s.dir, "stranger")
	s.start(fmt.Sprintf("listener {\n tls_cert_file = %q\n tls_key_file = %q\n tls_client_ca_file = %q\n}\n", s.dir+"/server.crt", s.dir+"/server.key", clients))
	s.ready()
	with := func(name string) *http.Client {
		certificate, err := tls.LoadX509KeyPair(filepath.Join(s.dir, name+".crt"), filepath.Join(s.dir, name+".key"))
		require.NoError(t, err)
		return tlsClient(&tls.Config{RootCAs: server, Certificates: []tls.Certificate{certificate}})
	}
	s.works(with("client"), s.url("https"))
	_, err := s.post(with("stranger"), s.url("https"))
	require.Error(t, err)
	_, err = s.post(tlsClient(&tls.Config{RootCAs: server}), s.url("https"))
	require.Error(t, err)
}
