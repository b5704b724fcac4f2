package sealing

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"

	tokens "vault-plugin-secrets-mcp/backend/token"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/kms/kmskey"
	"vault-plugin-secrets-mcp/test/stage"
)

// sealedStage is a stage whose gateway opens sealed tokens.
type sealedStage struct {
	*stage.Stage
	key *kmskey.Key
}

func newSealedStage(t *testing.T, key *kmskey.Key, kms string) *sealedStage {
	t.Helper()
	s := &sealedStage{key: key, Stage: stage.New(t, harness.GatewayOptions{
		Env: key.Environment(), Blocks: map[string]string{"kms": kms},
	})}
	s.Secret(key.Secret)
	s.Write("mcp/config/kms", key.Settings())
	return s
}

// sealed creates a client with a sealed token that the gateway has opened once.
func (s *sealedStage) sealed(t *testing.T, name string) string {
	t.Helper()
	token := s.Client(name, harness.Map{"seal": "kms"})
	s.becomes(t, token, http.StatusOK)
	return token
}

// becomes waits until a call with the token is answered with the status.
func (s *sealedStage) becomes(t *testing.T, token string, status int) {
	t.Helper()
	s.Eventually(fmt.Sprintf("the answer is %d", status), func() error {
		got, err := s.TryAdd(t, token)
		if err == nil && got != status {
			err = fmt.Errorf("it is %d", got)
		}
		return err
	})
}

// inner opens a sealed token by hand.
func (s *sealedStage) inner(t *testing.T, sealed string) string {
	t.Helper()
	id, err := tokens.SealedUnder(sealed)
	if err != nil {
		t.Fatal(err)
	}
	keys, _ := s.Read("mcp/gateway/data-keys")["data_keys"].(harness.Map)
	entry, _ := keys[id].(harness.Map)
	text := func(name string) string {
		value, _ := entry[name].(string)
		return value
	}
	wrapped, err := base64.StdEncoding.DecodeString(text("wrapped"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.key.API.Decrypt(t.Context(), &sdk.DecryptInput{
		KeyId: aws.String(text("key_arn")), CiphertextBlob: wrapped,
		EncryptionContext: map[string]string{"mcp-mount": text("mount"), "mcp-audience": text("audience")},
	})
	if err != nil {
		t.Fatal(err)
	}
	key, err := tokens.NewSealingKey(id, out.Plaintext, text("mount"), text("audience"))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := key.Open(sealed)
	if err != nil {
		t.Fatal(err)
	}
	s.Secret(opened)
	return opened
}

func TestSealedAndUnsealedClientsPassSideBySide(t *testing.T) {
	s := newSealedStage(t, kmskey.New(t), "refresh = \"1s\"")
	sealed, plain := s.sealed(t, "cursor"), s.Client("plain", nil)
	s.Works(t, sealed)
	s.Works(t, plain)
	s.Works(t, s.Token(s.Write("mcp/rotate-client/cursor", harness.Map{"grace_period": "1h"})))
	s.Works(t, sealed)
	s.Works(t, s.Token(s.Read("mcp/creds/cursor")))

	s.Forget()
	for name, refused := range map[string]string{
		"the token inside, bare": s.inner(t, sealed),
		"a truncated token":      sealed[:len(sealed)-4],
		"an altered token":       sealed[:60] + map[bool]string{true: "A", false: "B"}[sealed[60] != 'A'] + sealed[61:],
		"a prefix alone":         "mcpk_",
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			stage.WantRefusal(t, s.In(t).Add(refused), http.StatusUnauthorized)
		})
	}
	s.Untouched(t)
	s.Write("mcp/revoke-client/cursor", nil)
	s.becomes(t, sealed, http.StatusUnauthorized)
	s.Works(t, plain)
}

func TestSealedTokensEndWithTheKMSKeyAndComeBack(t *testing.T) {
	s := newSealedStage(t, kmskey.New(t), "refresh = \"1s\"")
	sealed, plain := s.sealed(t, "cursor"), s.Client("plain", nil)
	s.key.Disable(t)
	disabled := time.Now()
	s.becomes(t, sealed, http.StatusUnauthorized)
	if took := time.Since(disabled); s.key.Double != nil && took > 3*time.Second {
		t.Errorf("a sealed token was accepted for %s after its KMS key was disabled", took)
	}
	s.Works(t, plain)
	s.key.Enable(t)
	s.becomes(t, sealed, http.StatusOK)
	s.Works(t, plain)
}

func TestSealedTokensWorkAcrossARotationOfTheDataKey(t *testing.T) {
	s := newSealedStage(t, kmskey.New(t), "refresh = \"1s\"")
	first := s.sealed(t, "first")
	s.Write("mcp/config/kms/rotate", nil)
	old := s.Write("mcp/lookup", harness.Map{"token": first})["data_key"]
	second := s.Client("second", harness.Map{"seal": "kms"})
	s.Eventually("the new data key seals", func() error {
		second = s.Token(s.Write("mcp/rotate-client/second", harness.Map{"grace_period": 0}))
		if now := s.Write("mcp/lookup", harness.Map{"token": second})["data_key"]; now == old {
			return fmt.Errorf("%v still seals", now)
		}
		return nil
	})
	s.Works(t, second) // at once
	s.Works(t, first)
}

func TestAGatewayForAnotherAudienceRefusesSealedTokens(t *testing.T) {
	s := newSealedStage(t, kmskey.New(t), "refresh = \"1s\"")
	sealed := s.sealed(t, "cursor")
	other := *s.Stage
	other.Gateway = s.StartGateway(harness.GatewayOptions{
		Env: s.key.Environment(), Blocks: map[string]string{"kms": "audience = \"https://other.example.com\"\nrequired = true\n"},
	})
	// A gateway that is ready may not have heard yet which data keys there are.
	(&sealedStage{Stage: &other, key: s.key}).becomes(t, sealed, http.StatusUnauthorized)
	stage.WantRefusal(t, other.Add(sealed), http.StatusUnauthorized)
	stage.WantRefusal(t, other.Add(s.Client("plain", nil)), http.StatusUnauthorized)
	without := *s.Stage
	without.Gateway = s.StartGateway(harness.GatewayOptions{})
	stage.WantRefusal(t, without.Add(sealed), http.StatusUnauthorized)
	if strings.Contains(s.Gateway.Metrics(), "mcp_gateway_kms_data_keys_usable 0") {
		t.Error("the first gateway has no usable data key")
	}
}
