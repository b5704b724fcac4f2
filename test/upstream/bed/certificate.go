package bed

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
)

// parseCertificate reads an answer of pki/cert.
func parseCertificate(data map[string]any) (commonName string, revoked bool, err error) {
	text, _ := data["certificate"].(string)
	if commonName, err = CommonName(text); err != nil {
		return "", false, err
	}
	if number, ok := data["revocation_time"].(json.Number); ok {
		revoked = number.String() != "0"
	}
	return commonName, revoked, nil
}

// CommonName is that of a certificate in PEM.
func CommonName(text string) (string, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return "", errors.New("this is not a certificate in PEM")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("this is not a certificate: %w", err)
	}
	return certificate.Subject.CommonName, nil
}
