package reach

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vault-plugin-secrets-mcp/test/harness"
)

// stage is a Vault with two more listeners: one with TLS of a private authority that
// asks for a client's certificate, and one at a socket.
type stage struct {
	*harness.Harness

	url, socket   string
	ca, cert, key string
}

const serverName = "vault.internal"

func newStage(t *testing.T) *stage {
	t.Helper()
	dir := t.TempDir()
	s := &stage{
		socket: filepath.Join(dir, "vault.sock"),
		ca:     filepath.Join(dir, "ca.pem"), cert: filepath.Join(dir, "client.crt"), key: filepath.Join(dir, "client.key"),
	}
	authority := harness.NewAuthority(t)
	serverCert, serverKey := authority.Issue(t, serverName)
	clientCert, clientKey := authority.Issue(t, "gateway.internal")
	for path, content := range map[string][]byte{
		s.ca: authority.PEM, s.cert: clientCert, s.key: clientKey,
		filepath.Join(dir, "server.crt"): serverCert, filepath.Join(dir, "server.key"): serverKey,
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := harness.FreeAddress(t)
	s.url = "https://" + address
	s.Harness = harness.New(t, harness.WithLines(fmt.Sprintf(`
listener "tcp" {
  address                            = %q
  tls_cert_file                      = %q
  tls_key_file                       = %q
  tls_client_ca_file                 = %q
  tls_require_and_verify_client_cert = true
}
listener "unix" {
  address     = %q
  tls_disable = true
}
`, address, filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"), s.ca, s.socket)))
	return s
}

// TestVaultWithAPrivateAuthorityIsReached: by the gateway, by its file and by the
// environment, and by mcp-bootstrap; and not by who shows no certificate.
func TestVaultWithAPrivateAuthorityIsReached(t *testing.T) {
	s := newStage(t)
	upstream := s.StartUpstream(nil)
	s.Write(harness.Mount+"/servers/files", harness.Map{"transport": "http", "url": upstream.URL})
	bearer := s.CreateClient("cursor", harness.Map{"allowed_servers": "files"})
	authority, err := os.ReadFile(s.ca)
	if err != nil {
		t.Fatal(err)
	}
	environment := []string{
		"VAULT_CACERT_BYTES=" + string(authority), "VAULT_CLIENT_CERT=" + s.cert, "VAULT_CLIENT_KEY=" + s.key,
		"VAULT_TLS_SERVER_NAME=" + serverName, "VAULT_CLIENT_TIMEOUT=20", "VAULT_MAX_RETRIES=2", "VAULT_RATE_LIMIT=500:500",
		"VAULT_WRAP_TTL=60s", `VAULT_HEADERS={"X-Team":"mcp"}`,
	}
	for name, options := range map[string]harness.GatewayOptions{
		"by the file": {Vault: s.url, Blocks: map[string]string{"vault": fmt.Sprintf(
			"ca_cert_file = %q\nclient_cert_file = %q\nclient_key_file = %q\ntls_server_name = %q\n", s.ca, s.cert, s.key, serverName)}},
		"by the environment": {Vault: "https://127.0.0.1:1", Env: append(environment, "VAULT_ADDR="+s.url, "VAULT_TOKEN=hvs.not-the-gateways-own")},
		"at a socket":        {Vault: "unix://" + s.socket},
	} {
		t.Run(name, func(t *testing.T) {
			h := s.In(t)
			gateway := h.StartGateway(options)
			if answer := h.Call(gateway.ServerURL("files"), bearer, "add", `{"a":1,"b":2}`); answer.Status != http.StatusOK {
				t.Fatalf("the gateway answers %d: %s", answer.Status, answer.Body)
			}
		})
	}
	t.Run("not without a certificate", func(t *testing.T) {
		h := s.In(t)
		gateway := h.StartGateway(harness.GatewayOptions{Vault: s.url, NotReady: true, Blocks: map[string]string{
			"vault": fmt.Sprintf("ca_cert_file = %q\ntls_server_name = %q\n", s.ca, serverName),
		}})
		h.Eventually("the gateway says why it cannot log in", func() error {
			log, err := os.ReadFile(filepath.Join(h.Dir, "gateway-4.log"))
			if err == nil && (!strings.Contains(string(log), "cannot log in to Vault") || !strings.Contains(string(log), "certificate required")) {
				return errors.New("not yet")
			}
			return err
		})
		if answer := h.DoOnce(http.MethodGet, gateway.Admin+"/readyz", "", nil, ""); answer.Status != http.StatusServiceUnavailable {
			t.Fatalf("/readyz answers %d", answer.Status)
		}
	})
	t.Run("by mcp-bootstrap", func(t *testing.T) {
		for _, address := range []string{s.url, "unix://" + s.socket} {
			cmd := exec.CommandContext(context.WithoutCancel(t.Context()), s.Programs.Bootstrap, "doctor")
			cmd.Env = append(append(os.Environ(), environment...), "VAULT_ADDR="+address, "VAULT_TOKEN="+s.Vault.RootToken)
			out, _ := cmd.CombinedOutput() // other checks find something in this small Vault
			for _, want := range []string{"is unsealed", "Vault accepts VAULT_TOKEN", "VAULT_WRAP_TTL has no effect"} {
				if !strings.Contains(strings.Join(strings.Fields(string(out)), " "), want) {
					t.Errorf("doctor at %s does not say %q:\n%s", address, want, out)
				}
			}
		}
	})
}

// TestTheFeedHasAQuotaOfItsOwn: with the quotas that docs/operations.md shows, though
// lower, a flood of unknown tokens uses up the lookups' and leaves the feed alone.
func TestTheFeedHasAQuotaOfItsOwn(t *testing.T) {
	h := harness.New(t)
	h.Write(harness.Mount+"/servers/files", harness.Map{"transport": "http", "url": h.StartUpstream(nil).URL})
	known := h.CreateClient("cursor", harness.Map{"allowed_servers": "files"})
	gateway := h.StartGateway(harness.GatewayOptions{})
	call := func(token string) int {
		return h.DoOnce(http.MethodPost, gateway.ServerURL("files"), token, nil, "{}").Status
	}
	if status := h.Call(gateway.ServerURL("files"), known, "add", `{"a":1,"b":2}`).Status; status != http.StatusOK {
		t.Fatalf("before the flood: %d", status)
	}
	h.Write("sys/quotas/rate-limit/mcp", harness.Map{"path": "mcp/", "rate": 2})
	h.Write("sys/quotas/rate-limit/mcp-changes", harness.Map{"path": "mcp/changes", "rate": 200})

	refused := 0
	h.Eventually("the quota to be used up", func() error {
		if call(harness.UnissuedToken(t)) == http.StatusServiceUnavailable {
			refused++
		}
		if refused < 5 {
			return fmt.Errorf("%d lookups were refused", refused)
		}
		return nil
	})
	h.Write("sys/quotas/rate-limit/mcp", harness.Map{"path": "mcp/", "rate": 1000})
	h.Write(harness.Mount+"/revoke-client/cursor", nil)
	h.Within(20*time.Second, "the revocation to arrive by the feed", func() error {
		if status := call(known); status != http.StatusUnauthorized {
			return fmt.Errorf("the answer is %d", status)
		}
		return nil
	})
	log, err := os.ReadFile(gateway.Process.Log())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), "the change feed does not answer") {
		t.Error("the feed was down meanwhile")
	}
}
