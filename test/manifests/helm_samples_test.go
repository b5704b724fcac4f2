package manifests

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Values of the chart that are too long for a row of a table.
const (
	agentValues = `
auth: {method: token_file, path: /run/vault-agent/token}
extraContainers:
  - name: vault-agent
    image: hashicorp/vault:1.21
    args: [agent, -config=/etc/vault-agent/agent.hcl]
    securityContext:
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
    volumeMounts:
      - {name: agent-token, mountPath: /run/vault-agent}
extraVolumes:
  - {name: agent-token, emptyDir: {medium: Memory}}
extraVolumeMounts:
  - {name: agent-token, mountPath: /run/vault-agent, readOnly: true}
`
	signInValues = `
files: {secrets: [intranet]}
config:
  sign_in:
    session_max: 8h
    metadata_documents: ["https://claude.ai/oauth/"]
    login:
      employees: {mount: oidc-mcp, role: mcp, title: Example Inc.}
    machine:
      ci: {mount: jwt-ci, role: mcp, issuer: "https://token.example.com", single_use: true}
    application:
      intranet:
        redirect_uris: ["https://intranet.example.com/oauth/callback"]
        secret_file: /etc/mcp-gateway-files/intranet/secret
`
	upstreamValues = `
files: {secrets: [github-client], configMaps: [github-ca]}
config:
  upstream_proxy: {url: "http://proxy.example.com:3128", no_proxy: [.example.com]}
  upstream:
    github:
      timeout: 60s
      max_concurrent: 10
      ca_cert_file: /etc/mcp-gateway-files/github-ca/ca.crt
      client_cert_file: /etc/mcp-gateway-files/github-client/tls.crt
      client_key_file: /etc/mcp-gateway-files/github-client/tls.key
      proxy: {url: "http://other.example.com:3128"}
`
	networkValues = `
networkPolicy:
  clients: [{namespaceSelector: {matchLabels: {mcp: clients}}}]
  monitoring: []
  egress:
    - to: [{ipBlock: {cidr: 192.0.2.10/32}}]
      ports: [{protocol: TCP, port: 8200}]
`
	placeValues = `
podAnnotations: {example.com/team: platform}
podLabels: {team: platform}
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{key: mcp, operator: Exists}]
affinity: {nodeAffinity: {}}
priorityClassName: high
env: [{name: OTEL_EXPORTER_OTLP_ENDPOINT, value: "http://collector:4318"}]
service: {type: LoadBalancer, port: 8443, sessionAffinity: None, annotations: {example.com/lb: internal}}
`
)

// sample is a certificate and its key, in PEM.
var sample = sync.OnceValues(func() (certificate, key []byte) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"mcp.example.com"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		panic(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
})

// fileFor returns the content of a file of that name.
func fileFor(t *testing.T, path string) []byte {
	t.Helper()
	certificate, key := sample()
	require.NotEmpty(t, key)
	switch {
	case strings.HasSuffix(path, ".crt"):
		return certificate
	case strings.HasSuffix(path, ".key"):
		return key
	}
	return []byte(strings.Repeat("0123456789", 4) + "\n")
}
