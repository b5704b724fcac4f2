package demo_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/demo"
)

// certificate is one in PEM, for these names.
func certificate(t *testing.T, names ...string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{SerialNumber: big.NewInt(0xabc), NotAfter: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	for _, name := range names {
		uri, err := url.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		of.URIs = append(of.URIs, uri)
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

const whoamiCall = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"whoami",` +
	`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},` +
	`"io.modelcontextprotocol/clientCapabilities":{}}}}`

// basic is the value of Authorization for an account and its key.
func basic(account, key string) string {
	request := &http.Request{Header: http.Header{}}
	request.SetBasicAuth(account, key)
	return request.Header.Get("Authorization")
}

func TestWhoamiTellsByTheHeadersOfEachCallAsWhomItWasCalled(t *testing.T) {
	const key = "the-key"
	named, nameless := url.PathEscape(certificate(t, "urn:mcp-demo:mcp:ann")), url.PathEscape(certificate(t))
	server := httptest.NewServer(demo.Handler(demo.Whoami()))
	defer server.Close()
	for name, test := range map[string]struct {
		authorization, certificate string
		want                       []string
	}{
		"with both":                 {basic("ann", key), named, []string{`"name":"urn:mcp-demo:mcp:ann"`, `"serial":"abc"`, `"expires":"2030-01-02T03:04:05Z"`, `"account":"ann"`}},
		"with nothing":              {"", "", []string{`"isError":true`, "as nobody"}},
		"without an account":        {"", named, []string{`"isError":true`, "as nobody"}},
		"with an account alone":     {basic("ann", key), "", []string{`"isError":true`, "X-Client-Cert: there is no certificate"}},
		"without a key":             {basic("ann", ""), named, []string{`"isError":true`, "as nobody"}},
		"with half an escape":       {basic("ann", key), "%2", []string{`"isError":true`, "not percent-encoded"}},
		"with something else":       {basic("ann", key), url.PathEscape("-----BEGIN X-----\nAAAA\n-----END X-----\n"), []string{`"isError":true`, "there is no certificate"}},
		"with a nameless one of it": {basic("ann", key), nameless, []string{`"isError":true`, "has no name"}},
	} {
		t.Run(name, func(t *testing.T) {
			header := map[string]string{"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "whoami"}
			if test.authorization != "" {
				header["Authorization"] = test.authorization
			}
			if test.certificate != "" {
				header[demo.CertificateHeader] = test.certificate
			}
			status, answer := post(t, server.URL+demo.Path, whoamiCall, header)
			if status != http.StatusOK {
				t.Errorf("status %d: %s", status, answer)
			}
			for _, want := range test.want {
				if !strings.Contains(answer, want) {
					t.Errorf("%s is missing in %s", want, answer)
				}
			}
			if strings.Contains(answer, key) {
				t.Errorf("the key is told: %s", answer)
			}
		})
	}
}

func TestWhoamiTellsByItsEnvironmentAsWhomItWasCalled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "client.pem")
	if err := os.WriteFile(file, []byte(certificate(t, "urn:mcp-demo:mcp:bob")), 0o600); err != nil {
		t.Fatal(err)
	}
	session := connect(t, demo.Whoami())
	if answer, failed := call(t, session, "whoami", nil); !failed || !strings.Contains(answer, "as nobody") {
		t.Errorf("without credentials: %s", answer)
	}
	t.Setenv(demo.AccountVariable, "bob")
	t.Setenv(demo.KeyVariable, "the-key")
	t.Setenv(demo.CertificateVariable, "/nowhere/client.pem")
	if answer, failed := call(t, session, "whoami", nil); !failed || !strings.Contains(answer, "/nowhere/client.pem") {
		t.Errorf("without its file: %s", answer)
	}
	t.Setenv(demo.CertificateVariable, file)
	if answer, failed := call(t, session, "whoami", nil); failed || answer != "urn:mcp-demo:mcp:bob, with the account bob" {
		t.Errorf("with credentials: %s", answer)
	}
}
