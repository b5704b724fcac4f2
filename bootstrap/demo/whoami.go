package demo

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// How Whoami is given its credentials: over HTTP in headers, as a server behind a proxy with
// TLS is; over standard input and output in the environment.
const (
	// CertificateHeader holds a certificate in PEM, percent-encoded. The account and its key
	// are in Authorization, of the scheme Basic.
	CertificateHeader = "X-Client-Cert"
	// CertificateVariable names a file with a certificate and its private key, in PEM.
	CertificateVariable = "WHOAMI_CERT_FILE"
	// AccountVariable and KeyVariable hold an account and its key.
	AccountVariable = "WHOAMI_ACCOUNT"
	KeyVariable     = "WHOAMI_KEY"
)

// caller is whom the credentials of a call are for. The key is not among it, nor is any
// part of it.
type caller struct {
	Name    string `json:"name" jsonschema:"the name in the certificate"`
	Serial  string `json:"serial" jsonschema:"the certificate's serial number"`
	Expires string `json:"expires" jsonschema:"when the certificate expires"`
	Account string `json:"account" jsonschema:"the account that the server was given a key of"`
}

// Whoami is a server with one tool, which tells as whom it was called: by the credentials
// of each call over HTTP, by those of the process over standard input and output.
func Whoami() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "whoami", Version: "1.0.0"}, nil)
	mcp.AddTool(server, &mcp.Tool{
		Name: "whoami", Description: "Tells as whom the server was called",
		Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true},
	}, func(_ context.Context, r *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, caller, error) {
		of := ofProcess
		if extra := r.GetExtra(); extra != nil && extra.Header != nil {
			of = func() (caller, error) { return ofHeader(extra.Header) }
		}
		c, err := of()
		if err != nil {
			return nil, caller{}, err
		}
		return text("%s, with the account %s", c.Name, c.Account), c, nil
	})
	return server
}

// Errors of Whoami do not repeat the credentials that it was given.
var (
	errNobody        = errors.New("called without credentials, as nobody")
	errNoCertificate = errors.New("there is no certificate in it")
	errNoName        = errors.New("the certificate has no name")
)

func ofHeader(header http.Header) (caller, error) {
	account, key, found := (&http.Request{Header: header}).BasicAuth()
	if !found || account == "" || key == "" {
		return caller{}, errNobody
	}
	certificate, err := url.PathUnescape(header.Get(CertificateHeader))
	if err != nil {
		return caller{}, fmt.Errorf("cannot read the header %s: it is not percent-encoded", CertificateHeader)
	}
	c, err := certified([]byte(certificate))
	if err != nil {
		return caller{}, fmt.Errorf("cannot read the header %s: %w", CertificateHeader, err)
	}
	c.Account = account
	return c, nil
}

func ofProcess() (caller, error) {
	account, path := os.Getenv(AccountVariable), os.Getenv(CertificateVariable)
	if account == "" || path == "" || os.Getenv(KeyVariable) == "" {
		return caller{}, errNobody
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return caller{}, fmt.Errorf("cannot read the certificate: %w", err)
	}
	c, err := certified(content)
	if err != nil {
		return caller{}, fmt.Errorf("cannot read the file of %s: %w", CertificateVariable, err)
	}
	c.Account = account
	return c, nil
}

// certified returns the subject of a certificate. It does not verify the signature: this
// server has nothing to protect.
func certified(content []byte) (caller, error) {
	block, _ := pem.Decode(content)
	if block == nil {
		return caller{}, errNoCertificate
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return caller{}, errNoCertificate
	}
	if len(certificate.URIs) == 0 {
		return caller{}, errNoName
	}
	return caller{
		Name: certificate.URIs[0].String(), Serial: fmt.Sprintf("%x", certificate.SerialNumber),
		Expires: certificate.NotAfter.UTC().Format(time.RFC3339),
	}, nil
}
