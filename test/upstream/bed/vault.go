package bed

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
)

// The names of the recipes in Vault.
const (
	// TokenRole is the token role under which gateways mint child tokens.
	TokenRole = provision.UpstreamRole
	// SelfPolicy has the rights of every child token on itself and its leases.
	SelfPolicy = policies.UpstreamName
	// SecretsPolicy has the secrets that an administrator lets clients lease.
	SecretsPolicy = "mcp-upstream-secrets"
	// ServerPolicy is that of {{vault.token}}.
	ServerPolicy = "mcp-vault"
)

// secretsPolicy is SecretsPolicy's rules. ALIAS stands for the template of the client's
// alias.
const secretsPolicy = `path "kv/data/mcp/ALIAS/*" { capabilities = ["read"] }
path "pki/issue/mcp" { capabilities = ["update"] }
path "ssh/creds/otp" { capabilities = ["update"] }
path "database/creds/*" { capabilities = ["read"] }
path "ldap/creds/*" { capabilities = ["read"] }
`

// serverPolicy is ServerPolicy's rules: a server may read the client's notes. The gateway
// renews and revokes the token.
const serverPolicy = `path "kv/data/notes/ALIAS" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
`

// SetUp gives Vault the token role and the policies with which gateways lease, and the
// engines that every Vault has: kv, pki and ssh. Certificates live for certificateTTL.
func SetUp(t testing.TB, h *harness.Harness, certificateTTL string) {
	t.Helper()
	if err := provision.Upstream(t.Context(), h.Vault.Client(), provision.AliasPrefix, []string{SecretsPolicy, ServerPolicy}); err != nil {
		t.Fatal(err)
	}
	WritePolicies(h, AliasTemplate(t, h))
	h.Write("sys/mounts/kv", harness.Map{"type": "kv", "options": harness.Map{"version": "2"}})
	h.Write("sys/mounts/pki", harness.Map{"type": "pki"})
	h.Write("pki/root/generate/internal", harness.Map{"common_name": "Test", "key_type": "ec", "ttl": "24h"})
	WriteCertificateRole(t, h, certificateTTL)
	MountSSH(h)
}

// WritePolicies writes the policies of child tokens, as an administrator would.
func WritePolicies(h *harness.Harness, aliasTemplate string) {
	for name, rules := range map[string]string{SecretsPolicy: secretsPolicy, ServerPolicy: serverPolicy} {
		h.Write("sys/policies/acl/"+name, harness.Map{"policy": strings.ReplaceAll(rules, "ALIAS", aliasTemplate)})
	}
}

// MountSSH mounts the engine ssh, with a role for one-time passwords.
func MountSSH(h *harness.Harness) {
	h.Write("sys/mounts/ssh", harness.Map{"type": "ssh"})
	h.Write("ssh/roles/otp", harness.Map{"key_type": "otp", "default_user": "deploy", "cidr_list": "127.0.0.0/8"})
}

// AliasTemplate is the alias of a client in a templated policy of Vault.
func AliasTemplate(t testing.TB, h *harness.Harness) string {
	t.Helper()
	return "{{identity.entity.aliases." + tokenAccessor(t, h) + ".name}}"
}

// tokenAccessor is the accessor of Vault's token method.
func tokenAccessor(t testing.TB, h *harness.Harness) string {
	t.Helper()
	accessor, err := provision.TokenAccessor(t.Context(), h.Vault.Client())
	if err != nil {
		t.Fatal(err)
	}
	return accessor
}

// WriteTokenRole writes the token role, with changes.
func WriteTokenRole(h *harness.Harness, changes harness.Map) {
	role := provision.UpstreamRoleSettings(provision.AliasPrefix, []string{SecretsPolicy, ServerPolicy})
	for name, value := range changes {
		role[name] = value
	}
	h.Write("auth/token/roles/"+TokenRole, role)
}

// WriteCertificateRole writes the role of pki/issue/mcp. Vault issues a certificate to a
// client for its own alias only.
func WriteCertificateRole(t testing.TB, h *harness.Harness, ttl string) {
	t.Helper()
	h.Write("pki/roles/mcp", harness.Map{
		"generate_lease": true, "key_type": "ec", "ttl": ttl, "max_ttl": ttl,
		"allowed_domains": AliasTemplate(t, h), "allowed_domains_template": true, "allow_bare_domains": true,
		"enforce_hostnames": false, "require_cn": true,
	})
}

// Block is the gateway's block for all that, with more lines.
func Block(lines string) string {
	return fmt.Sprintf("upstream_credentials {\n  token_role = %q\n  policies = [%q, %q]\n%s\n}\n",
		TokenRole, SelfPolicy, SecretsPolicy, lines)
}

// Leases are the ids of all leases in Vault below a prefix, such as "pki/issue/mcp".
func Leases(h *harness.Harness, prefix string) []string {
	var leases []string
	for _, name := range h.List("sys/leases/lookup/" + prefix + "/") {
		leases = append(leases, prefix+"/"+name)
	}
	return leases
}

// Child is a child token of a gateway's.
type Child struct {
	Accessor, Entity string
	Policies         []string
}

// Children are the child tokens that live, those of {{vault.token}} included.
func Children(t testing.TB, h *harness.Harness) []Child {
	t.Helper()
	var children []Child
	for _, accessor := range h.List("auth/token/accessors") {
		found, err := h.TryWrite("auth/token/lookup-accessor", harness.Map{"accessor": accessor})
		if err != nil || found["role"] != TokenRole {
			continue // it has ended since, or is another
		}
		child := Child{Accessor: accessor}
		child.Entity, _ = found["entity_id"].(string)
		for _, policy := range found["policies"].([]any) {
			child.Policies = append(child.Policies, fmt.Sprint(policy))
		}
		children = append(children, child)
	}
	return children
}

// Entity is the id of the entity with an alias, empty where there is none.
func Entity(t testing.TB, h *harness.Harness, alias string) string {
	t.Helper()
	found, err := h.TryWrite("identity/lookup/entity", harness.Map{"alias_name": alias, "alias_mount_accessor": tokenAccessor(t, h)})
	if err != nil {
		t.Fatal(err)
	}
	id, _ := found["id"].(string)
	return id
}

// Certificate returns Vault's data about a leased certificate, by its serial number.
func Certificate(ctx context.Context, h *harness.Harness, serial string) (commonName string, revoked bool, err error) {
	found, err := h.Vault.Client().Logical().ReadWithContext(ctx, "pki/cert/"+serial)
	if err != nil || found == nil {
		return "", false, fmt.Errorf("no certificate %q: %w", serial, err)
	}
	return parseCertificate(found.Data)
}

// AllLeases are the leases of every engine of the bed.
func AllLeases(h *harness.Harness) []string {
	var all []string
	for _, prefix := range []string{"pki/issue/mcp", "ssh/creds/otp", "database/creds/" + DatabaseRole, "ldap/creds/" + LDAPRole} {
		all = append(all, Leases(h, prefix)...)
	}
	slices.Sort(all)
	return all
}
