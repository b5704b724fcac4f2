package test

import (
	"context"
	"encoding/base64"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"

	"vault-plugin-secrets-mcp/test/harness"
	double "vault-plugin-secrets-mcp/test/kms"
)

// kmsKey is a KMS key and how to reach it. It is one of the double's, unless
// MCP_TEST_KMS_KEY_ID names a real one (with AWS_REGION, AWS_ACCESS_KEY_ID and
// AWS_SECRET_ACCESS_KEY beside it, of an identity that may use, disable and enable
// it): then the tests that need no faults run against AWS.
type kmsKey struct {
	id, region, endpoint string
	access, secret       string
	session              string
	api                  *sdk.Client
	double               *double.Server // nil: it is AWS's
}

// newKMSKey returns the key of the environment, else a new one of a new double.
func newKMSKey(t *testing.T) *kmsKey {
	t.Helper()
	id := os.Getenv("MCP_TEST_KMS_KEY_ID")
	if id == "" {
		return newDoubleKey(t)
	}
	k := &kmsKey{
		id: id, region: os.Getenv("AWS_REGION"),
		access: os.Getenv("AWS_ACCESS_KEY_ID"), secret: os.Getenv("AWS_SECRET_ACCESS_KEY"), session: os.Getenv("AWS_SESSION_TOKEN"),
	}
	k.connect(t)
	t.Cleanup(func() { k.enable(t) }) // for the next test
	return k
}

// newDoubleKey is newKMSKey for tests in which KMS fails.
func newDoubleKey(t *testing.T) *kmsKey {
	t.Helper()
	server, err := double.Start(double.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	identity := server.Identity()
	k := &kmsKey{
		id: server.CreateKey("alias/mcp"), region: server.Region(), endpoint: server.URL(),
		access: identity.AccessKeyID, secret: identity.SecretAccessKey, double: server,
	}
	k.connect(t)
	return k
}

func (k *kmsKey) connect(t *testing.T) {
	t.Helper()
	loaded, err := config.LoadDefaultConfig(t.Context(), config.WithRegion(k.region),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(k.access, k.secret, k.session)))
	if err != nil {
		t.Fatal(err)
	}
	k.api = sdk.NewFromConfig(loaded, func(o *sdk.Options) {
		if k.endpoint != "" {
			o.BaseEndpoint = aws.String(k.endpoint)
		}
	})
}

// settings are what config/kms takes.
func (k *kmsKey) settings() harness.Map {
	settings := harness.Map{"key_id": k.id, "region": k.region, "endpoint": k.endpoint, "access_key": k.access, "secret_key": k.secret}
	if k.session != "" {
		settings["session_token"] = k.session
	}
	return settings
}

func (k *kmsKey) disable(t *testing.T) {
	t.Helper()
	if _, err := k.api.DisableKey(t.Context(), &sdk.DisableKeyInput{KeyId: &k.id}); err != nil {
		t.Fatal(err)
	}
}

// enable is also called when the test's own context has ended.
func (k *kmsKey) enable(t *testing.T) {
	t.Helper()
	if _, err := k.api.EnableKey(context.WithoutCancel(t.Context()), &sdk.EnableKeyInput{KeyId: &k.id}); err != nil {
		t.Fatal(err)
	}
}

// encrypt is `aws kms encrypt --output text --query CiphertextBlob`.
func (k *kmsKey) encrypt(t *testing.T, plaintext string, encryptionContext map[string]string) string {
	t.Helper()
	out, err := k.api.Encrypt(t.Context(), &sdk.EncryptInput{KeyId: &k.id, Plaintext: []byte(plaintext), EncryptionContext: encryptionContext})
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(out.CiphertextBlob) + "\n"
}
