package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"vault-plugin-secrets-mcp/gateway/config"
)

// certificates is the TLS configuration of the listener. It can change while connections
// are open: new connections get the new certificate.
type certificates struct {
	http2   bool // offered to clients
	current atomic.Pointer[tls.Config]
}

func loadCertificates(settings config.Listener) (*certificates, error) {
	c := &certificates{http2: settings.HTTP2}
	return c, c.load(settings)
}

// load reads the files. If they are not valid, the old certificates stay.
func (c *certificates) load(settings config.Listener) error {
	certificate, err := tls.LoadX509KeyPair(settings.TLSCertFile, settings.TLSKeyFile)
	if err != nil {
		return fmt.Errorf("listener: tls_cert_file and tls_key_file: %w", err)
	}
	current := &tls.Config{
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
	}
	if c.http2 {
		current.NextProtos = []string{"h2", "http/1.1"}
	}
	if settings.TLSClientCAFile != "" {
		pem, err := os.ReadFile(settings.TLSClientCAFile)
		if err != nil {
			return fmt.Errorf("listener: tls_client_ca_file: %w", err)
		}
		current.ClientCAs = x509.NewCertPool()
		if !current.ClientCAs.AppendCertsFromPEM(pem) {
			return errors.New("listener: tls_client_ca_file: the file has no PEM certificate")
		}
		current.ClientAuth = tls.RequireAndVerifyClientCert
		// A resumed session would outlive the authority that admitted it.
		current.SessionTicketsDisabled = true
	}
	c.current.Store(current)
	return nil
}

// expires is the end of the listener's certificate.
func (c *certificates) expires() time.Time {
	return c.current.Load().Certificates[0].Leaf.NotAfter
}

// wrap returns the listener with TLS.
func (c *certificates) wrap(listener net.Listener) net.Listener {
	return tls.NewListener(listener, &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current.Load(), nil },
	})
}
