package dial

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// Certificates are files in PEM for connections with TLS; "" for none.
type Certificates struct {
	Authorities string // to trust instead of the system's
	Cert, Key   string // the certificate that the gateway presents; both or none
}

// TLS returns a client's settings. The error names the setting that is wrong.
func TLS(files Certificates) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if files.Authorities != "" {
		pem, err := os.ReadFile(files.Authorities)
		if err != nil {
			return nil, fmt.Errorf("ca_cert_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_cert_file: %s holds no certificate", files.Authorities)
		}
	}
	if files.Cert == "" {
		return c, nil
	}
	// Read at each handshake, so that a renewed certificate is used at once.
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
		if err != nil {
			return nil, fmt.Errorf("client_cert_file: %w", err)
		}
		return &pair, nil
	}
	_, err := c.GetClientCertificate(nil)
	return c, err
}
