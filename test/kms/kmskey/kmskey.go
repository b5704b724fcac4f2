// Package kmskey has the KMS key under which tests seal tokens.
package kmskey

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

// Key is a KMS key with its access data. It is one of the double's, unless
// MCP_TEST_KMS_KEY_ID names a real one (with AWS_REGION, AWS_ACCESS_KEY_ID and
// AWS_SECRET_ACCESS_KEY beside it, of an identity that may use, disable and enable
// it): then the tests that need no faults run against AWS.
type Key struct {
	ID, Region, Endpoint string
	Access, Secret       string         // an identity that may use the key
	API                  *sdk.Client    // of that identity
	Double               *double.Server // nil: it is AWS's

	session string
}

// New returns the key of the environment, else a new one of a new double.
func New(t *testing.T) *Key {
	t.Helper()
	id := os.Getenv("MCP_TEST_KMS_KEY_ID")
	if id == "" {
		return NewDouble(t)
	}
	k := &Key{
		ID: id, Region: os.Getenv("AWS_REGION"),
		Access: os.Getenv("AWS_ACCESS_KEY_ID"), Secret: os.Getenv("AWS_SECRET_ACCESS_KEY"), session: os.Getenv("AWS_SESSION_TOKEN"),
	}
	k.connect(t)
	t.Cleanup(func() { k.Enable(t) }) // for the next test
	return k
}

// NewDouble is New for tests in which KMS fails.
func NewDouble(t *testing.T) *Key {
	t.Helper()
	server, err := double.Start(double.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	identity := server.Identity()
	k := &Key{
		ID: server.CreateKey("alias/mcp"), Region: server.Region(), Endpoint: server.URL(),
		Access: identity.AccessKeyID, Secret: identity.SecretAccessKey, Double: server,
	}
	k.connect(t)
	return k
}

func (k *Key) connect(t *testing.T) {
	t.Helper()
	loaded, err := config.LoadDefaultConfig(t.Context(), config.WithRegion(k.Region),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(k.Access, k.Secret, k.session)))
	if err != nil {
		t.Fatal(err)
	}
	k.API = sdk.NewFromConfig(loaded, func(o *sdk.Options) {
		if k.Endpoint != "" {
			o.BaseEndpoint = aws.String(k.Endpoint)
		}
	})
}

// Settings are the fields of config/kms.
func (k *Key) Settings() harness.Map {
	settings := harness.Map{"key_id": k.ID, "region": k.Region, "endpoint": k.Endpoint, "access_key": k.Access, "secret_key": k.Secret}
	if k.session != "" {
		settings["session_token"] = k.session
	}
	return settings
}

// Environment has the variables by which a program's AWS SDK finds the key.
func (k *Key) Environment() []string {
	return []string{
		"AWS_REGION=" + k.Region, "AWS_ENDPOINT_URL_KMS=" + k.Endpoint, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_ACCESS_KEY_ID=" + k.Access, "AWS_SECRET_ACCESS_KEY=" + k.Secret, "AWS_SESSION_TOKEN=" + k.session,
	}
}

// Disable makes KMS refuse to use the key.
func (k *Key) Disable(t *testing.T) {
	t.Helper()
	if _, err := k.API.DisableKey(t.Context(), &sdk.DisableKeyInput{KeyId: &k.ID}); err != nil {
		t.Fatal(err)
	}
}

// Enable undoes Disable. It is also called when the test's own context has ended.
func (k *Key) Enable(t *testing.T) {
	t.Helper()
	if _, err := k.API.EnableKey(context.WithoutCancel(t.Context()), &sdk.EnableKeyInput{KeyId: &k.ID}); err != nil {
		t.Fatal(err)
	}
}

// Encrypt is `aws kms encrypt --output text --query CiphertextBlob`.
func (k *Key) Encrypt(t *testing.T, plaintext string, encryptionContext map[string]string) string {
	t.Helper()
	out, err := k.API.Encrypt(t.Context(), &sdk.EncryptInput{KeyId: &k.ID, Plaintext: []byte(plaintext), EncryptionContext: encryptionContext})
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(out.CiphertextBlob) + "\n"
}
