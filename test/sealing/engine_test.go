package sealing

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/kms/kmskey"
)

// sealing is a Vault whose engine uses a KMS key.
type sealing struct {
	*harness.Harness
	key *kmskey.Key
}

func newSealing(t *testing.T, key *kmskey.Key, opts ...harness.Option) *sealing {
	t.Helper()
	h := harness.New(t, opts...)
	h.Secret(key.Secret)
	h.Write("mcp/config/kms", key.Settings())
	return &sealing{Harness: h, key: key}
}

// client creates a sealed client and returns its token.
func (s *sealing) client(t *testing.T, name string) string {
	t.Helper()
	token := s.CreateClient(name, harness.Map{"seal": "kms"})
	if !strings.HasPrefix(token, "mcpk_") {
		t.Fatal("the token is not sealed")
	}
	return token
}

// state is nil if the engine reports the wanted state of the token.
func (s *sealing) state(mount, token string, active bool) error {
	answer, err := s.TryWrite(mount+"/lookup", harness.Map{"token": token})
	if err != nil {
		return err
	}
	if answer["active"] != active {
		return fmt.Errorf("active is %v", answer["active"])
	}
	return nil
}

func (s *sealing) want(t *testing.T, mount, token string, active bool) {
	t.Helper()
	if err := s.state(mount, token, active); err != nil {
		t.Fatal(err)
	}
}

// reload starts the plugin again, so that nothing of it is in memory.
func (s *sealing) reload(t *testing.T) {
	t.Helper()
	if _, err := s.Vault.Client().Sys().ReloadPluginWithContext(t.Context(), &api.ReloadPluginInput{Mounts: []string{"mcp/"}}); err != nil {
		t.Fatal(err)
	}
}

// accessor is the mount's.
func (s *sealing) accessor(t *testing.T) string {
	t.Helper()
	mount, ok := s.Read("mcp/config/kms")["mount"].(string)
	if !ok || mount == "" {
		t.Fatal("config/kms does not say the mount's accessor")
	}
	mounts, err := s.Vault.Client().Sys().ListMountsWithContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if listed := mounts["mcp/"].Accessor; listed != mount {
		t.Fatalf("the mount's accessor is %s, and config/kms says %s", listed, mount)
	}
	return mount
}

func TestSealedTokensLiveLikeOthers(t *testing.T) {
	s := newSealing(t, kmskey.New(t))
	first := s.client(t, "cursor")
	s.want(t, "mcp", first, true)
	second := s.Token(s.Write("mcp/rotate-client/cursor", harness.Map{"grace_period": "1h"}))
	s.want(t, "mcp", first, true)
	s.want(t, "mcp", second, true)

	lease := s.Read("mcp/creds/cursor")
	s.want(t, "mcp", s.Token(lease), true)
	s.Write("mcp/revoke", harness.Map{"token": s.Token(lease)})
	s.want(t, "mcp", s.Token(lease), false)

	s.Write("mcp/config/kms/rotate", nil)
	s.reload(t)
	s.want(t, "mcp", first, true)
	s.want(t, "mcp", s.client(t, "claude"), true)
	s.Write("mcp/revoke-client/cursor", nil)
	s.want(t, "mcp", first, false)
	s.want(t, "mcp", second, false)
}

func TestADisabledKMSKeyEndsSealedTokensAndNoOthers(t *testing.T) {
	s := newSealing(t, kmskey.New(t))
	sealed, plain := s.client(t, "cursor"), s.CreateClient("plain", nil)
	s.key.Disable(t)
	s.Eventually("a sealed token is refused", func() error {
		s.reload(t) // a plugin that knows the data key would not ask for minutes
		return s.state("mcp", sealed, false)
	})
	s.want(t, "mcp", plain, true)
	if _, err := s.TryWrite("mcp/rotate-client/cursor", nil); err == nil || !strings.Contains(err.Error(), "DisabledException") {
		t.Fatalf("a rotation answers %v", err)
	}
	s.key.Enable(t)
	s.Eventually("it works again", func() error {
		s.reload(t)
		return s.state("mcp", sealed, true)
	})
}

func TestATokenComesEncryptedUnderTheMountsKey(t *testing.T) {
	s := newSealing(t, kmskey.New(t))
	const custom = "custom-token-that-was-made-elsewhere-0123456789"
	s.Secret(custom)
	bound := map[string]string{"mcp-mount": s.accessor(t), "mcp-client": "ci"}
	answer := s.Write("mcp/clients/ci", harness.Map{"access_token_ciphertext": s.key.Encrypt(t, custom, bound)})
	if answer["token"] != nil {
		t.Fatal("the answer has the token in clear")
	}
	s.want(t, "mcp", custom, true)
	for name, encryptionContext := range map[string]map[string]string{
		"for another client": {"mcp-mount": bound["mcp-mount"], "mcp-client": "cd"},
		"for another mount":  {"mcp-mount": "other", "mcp-client": "ci"},
		"for nobody":         nil,
	} {
		_, err := s.TryWrite("mcp/rotate-client/ci", harness.Map{"access_token_ciphertext": s.key.Encrypt(t, custom+"x", encryptionContext)})
		if err == nil || !strings.Contains(err.Error(), "mcp-client=ci") {
			t.Fatalf("a token %s answers %v", name, err)
		}
	}
}

// A sealed token belongs to the mount, at whatever path it is mounted.
func TestSealedTokensMoveWithTheirMount(t *testing.T) {
	s := newSealing(t, kmskey.New(t))
	before := s.client(t, "cursor")
	accessor := s.accessor(t)
	if err := s.Vault.Client().Sys().RemountWithContext(t.Context(), "mcp", "moved"); err != nil {
		t.Fatal(err)
	}
	s.Eventually("the mount has moved", func() error { return s.state("moved", before, true) })
	if now := s.Read("moved/config/kms")["mount"]; now != accessor {
		t.Fatalf("the accessor was %s and is %v", accessor, now)
	}
	after := s.Token(s.Write("moved/clients/claude", harness.Map{"seal": "kms"}))
	s.want(t, "moved", after, true)

	// Another mount in the old one's place is not the old one.
	if err := s.Vault.Client().Sys().MountWithContext(t.Context(), "mcp", &api.MountInput{Type: "vault-plugin-secrets-mcp"}); err != nil {
		t.Fatal(err)
	}
	s.Write("mcp/config/kms", s.key.Settings())
	s.want(t, "mcp", before, false)
}

// A snapshot brings back its own tokens and data keys, and forgets later ones.
func TestSealedTokensAreRestoredFromASnapshot(t *testing.T) {
	s := newSealing(t, kmskey.New(t), harness.WithCluster(1))
	before := s.client(t, "before")
	var snapshot bytes.Buffer
	sys := s.Vault.Client().Sys()
	if err := sys.RaftSnapshotWithContext(t.Context(), &snapshot); err != nil {
		t.Fatal(err)
	}
	s.Write("mcp/config/kms/rotate", nil)
	after := s.client(t, "after")
	s.Write("mcp/revoke-client/before", nil)
	s.want(t, "mcp", before, false)

	if err := sys.RaftSnapshotRestoreWithContext(t.Context(), &snapshot, false); err != nil {
		t.Fatal(err)
	}
	s.Eventually("the snapshot is restored", func() error { return s.state("mcp", before, true) })
	s.want(t, "mcp", after, false)
	s.want(t, "mcp", s.client(t, "after"), true)
}
