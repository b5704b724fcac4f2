package measure

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

// Leasing is what gateways lease credentials for servers from: one engine of each kind, of
// those that every Vault has.
type Leasing struct {
	Tokens  time.Duration // life of a child token
	Leases  time.Duration // life of a lease
	Refresh time.Duration // of what has no lease
}

const (
	leasingMount  = "leasing"
	leasingPolicy = "bench-leasing"
	leasingRules  = `path "` + IssuePath + `" { capabilities = ["update"] }
path "` + CredsPath + `" { capabilities = ["read"] }
path "` + TextPath + `" { capabilities = ["read"] }
`
)

// Paths of the credentials in Vault. Below the first two it has leases.
const (
	IssuePath = "pki/issue/mcp"
	CredsPath = leasingMount + "/creds/agent"
	TextPath  = "kv/data/shared"
)

// SetUp prepares the Vault.
func (l Leasing) SetUp(t testing.TB, h *harness.Harness) {
	t.Helper()
	client := h.Vault.Client()
	if err := provision.Upstream(t.Context(), client, provision.AliasPrefix, []string{leasingPolicy}); err != nil {
		t.Fatal(err)
	}
	if err := provision.Policy(t.Context(), client, leasingPolicy, leasingRules); err != nil {
		t.Fatal(err)
	}
	lives := int64(l.Leases / time.Second)
	h.Write("sys/mounts/pki", harness.Map{"type": "pki"})
	h.Write("pki/root/generate/internal", harness.Map{"common_name": "Bench", "key_type": "ec", "ttl": "24h"})
	// Else each revocation would make the list of all revoked certificates anew.
	h.Write("pki/config/crl", harness.Map{"auto_rebuild": true})
	h.Write("pki/roles/mcp", harness.Map{
		"generate_lease": true, "key_type": "ec", "ttl": lives, "max_ttl": lives, "allow_any_name": true, "enforce_hostnames": false,
	})
	if err := provision.Mount(t.Context(), client, leasingMount); err != nil {
		t.Fatal(err)
	}
	h.Write(leasingMount+"/clients/agent", harness.Map{"token_ttl": lives})
	h.Write("sys/mounts/kv", harness.Map{"type": "kv", "options": harness.Map{"version": "2"}})
	h.Eventually("the text is written", func() error { // the engine prepares itself first
		_, err := h.TryWrite(TextPath, harness.Map{"data": harness.Map{"token": "a-text-of-a-usual-length-0123456789"}})
		return err
	})
}

// Block is the gateway's block upstream_credentials.
func (l Leasing) Block() string {
	return fmt.Sprintf("token_role = %q\npolicies = [%q, %q]\ntoken_ttl = \"%ds\"\nidle_timeout = \"1h\"\nmint_rate = 10000\n",
		provision.UpstreamRole, policies.UpstreamName, leasingPolicy, l.Tokens/time.Second)
}

// Certificate is a server's credential with a lease that cannot be renewed, so that it is
// replaced.
func (Leasing) Certificate(url string) harness.Map {
	return leased(url, "{{c.serial_number}}",
		harness.Map{"path": IssuePath, "method": "write", "data": harness.Map{"common_name": "{{client.alias}}"}})
}

// Token is one with a lease that is renewed: a token of another mount of the engine.
func (Leasing) Token(url string) harness.Map {
	return leased(url, "{{c.token}}", harness.Map{"path": CredsPath})
}

// Text is one without a lease, so that it is read again.
func (l Leasing) Text(url string) harness.Map {
	return leased(url, "{{c.data.token}}", harness.Map{"path": TextPath, "refresh": int64(l.Refresh / time.Second)})
}

// leased is the registration of a server whose header has the credential.
func leased(url, value string, credential harness.Map) harness.Map {
	return harness.Map{
		"transport": "http", "url": url,
		"credentials": harness.Map{"c": credential}, "headers": harness.Map{"X-Credential": value},
	}
}

// CountLeases is the number of leases that Vault has of the credentials.
func CountLeases(ctx context.Context, client *api.Client) (int, error) {
	total := 0
	for _, path := range []string{IssuePath, CredsPath} {
		listed, err := client.Logical().ListWithContext(ctx, "sys/leases/lookup/"+path)
		if err != nil {
			return 0, err
		}
		if listed != nil {
			keys, _ := listed.Data["keys"].([]any)
			total += len(keys)
		}
	}
	return total, nil
}
