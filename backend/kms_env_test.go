package backend

import (
	"context"
	"encoding/base64"
	"path/filepath"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/kms"
	"vault-plugin-secrets-mcp/backend/token"
	double "vault-plugin-secrets-mcp/test/kms"
)

// kmsEnv is a mount beside a double of KMS with one key.
type kmsEnv struct {
	*env
	kms *double.Server
	arn string
}

const testAudience = "https://mcp.example.com"

// newKMSEnv configures the mount to use the key.
func newKMSEnv(t testing.TB) *kmsEnv {
	t.Helper()
	e := newBareKMSEnv(t)
	e.write("config/kms", e.settings())
	return e
}

// newBareKMSEnv leaves the mount as it is.
func newBareKMSEnv(t testing.TB) *kmsEnv {
	t.Helper()
	s := startDouble(t, double.Options{})
	return &kmsEnv{env: newEnv(t), kms: s, arn: s.CreateKey("alias/mcp")}
}

func startDouble(t testing.TB, opts double.Options) *double.Server {
	t.Helper()
	// Nothing of the machine's own configuration.
	for _, name := range []string{"AWS_CA_BUNDLE", "AWS_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_KMS"} {
		t.Setenv(name, "")
	}
	for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		t.Setenv(name, filepath.Join(t.TempDir(), "none"))
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	s, err := double.Start(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// settings are those of a working config/kms.
func (e *kmsEnv) settings() data {
	id := e.kms.Identity()
	return data{
		"key_id": "alias/mcp", "region": e.kms.Region(), "endpoint": e.kms.URL(), "audience": testAudience,
		"access_key": id.AccessKeyID, "secret_key": id.SecretAccessKey,
	}
}

// with returns the settings with some of them replaced.
func (e *kmsEnv) with(changes data) data { return with(e.settings(), changes) }

func (e *kmsEnv) restart() *kmsEnv {
	e.t.Helper()
	return &kmsEnv{env: e.env.restart(), kms: e.kms, arn: e.arn}
}

// sdk is a client for the double.
func (e *kmsEnv) sdk() *kms.Client {
	e.t.Helper()
	id := e.kms.Identity()
	c, err := kms.New(context.Background(), kms.Config{
		Region: e.kms.Region(), Endpoint: e.kms.URL(), AccessKeyID: id.AccessKeyID, SecretAccessKey: id.SecretAccessKey,
	})
	require.NoError(e.t, err)
	return c
}

// open opens a sealed token as a gateway does, with its rights in Vault and in KMS.
func (e *kmsEnv) open(sealed string) (tok, dataKey string) {
	e.t.Helper()
	id, err := token.SealedUnder(sealed)
	require.NoError(e.t, err)
	answer := e.read("gateway/data-keys")
	require.Equal(e.t, testAccessor, answer["mount"])
	held, ok := answer["data_keys"].(map[string]any)[id].(map[string]any)
	require.True(e.t, ok, "no data key %s", id)
	wrapped, err := base64.StdEncoding.DecodeString(held["wrapped"].(string))
	require.NoError(e.t, err)
	mount, audience := held["mount"].(string), held["audience"].(string)
	plaintext, err := e.sdk().Decrypt(context.Background(), held["key_arn"].(string), wrapped, kms.DataKeyContext(mount, audience))
	require.NoError(e.t, err)
	key, err := token.NewSealingKey(id, plaintext, mount, audience)
	require.NoError(e.t, err)
	tok, err = key.Open(sealed)
	require.NoError(e.t, err)
	return tok, id
}

// encrypt is `aws kms encrypt`.
func (e *kmsEnv) encrypt(plaintext string, encryptionContext map[string]string) string {
	e.t.Helper()
	return e.encryptUnder(e.arn, plaintext, encryptionContext)
}

func (e *kmsEnv) encryptUnder(arn, plaintext string, encryptionContext map[string]string) string {
	e.t.Helper()
	return base64.StdEncoding.EncodeToString(e.kms.Encrypt(arn, []byte(plaintext), encryptionContext)) + "\n"
}

// currentKey is the id of the data key that seals now.
func (e *kmsEnv) currentKey() string {
	e.t.Helper()
	return e.read("config/kms")["current_data_key"].(string)
}

// unanswered sends a write that must fail because KMS does not answer.
func (e *kmsEnv) unanswered(path string, d data) string {
	e.t.Helper()
	_, err := e.request(context.Background(), logical.UpdateOperation, path, d)
	require.Error(e.t, err)
	coded, ok := err.(logical.HTTPCodedError) //nolint:errorlint // only the outermost type reaches Vault
	require.True(e.t, ok, err)
	require.Equal(e.t, 502, coded.Code())
	return err.Error()
}
