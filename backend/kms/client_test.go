package kms_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/kms"
	double "vault-plugin-secrets-mcp/test/kms"
)

const mount = "mcp_1a2b3c4d"

func start(t *testing.T) *double.Server {
	t.Helper()
	// Nothing of the machine's own configuration.
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS", "AWS_CA_BUNDLE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	s, err := double.Start(double.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func settings(s *double.Server) kms.Config {
	id := s.Identity()
	return kms.Config{Region: s.Region(), Endpoint: s.URL(), AccessKeyID: id.AccessKeyID, SecretAccessKey: id.SecretAccessKey}
}

func client(t *testing.T, c kms.Config) *kms.Client {
	t.Helper()
	made, err := kms.New(t.Context(), c)
	require.NoError(t, err)
	return made
}

func TestADataKeyIsMadeAndUnwrapped(t *testing.T) {
	s := start(t)
	arn := s.CreateKey("alias/mcp")
	c := client(t, settings(s))
	bound := kms.DataKeyContext(mount, "gateway")
	made, err := c.GenerateDataKey(t.Context(), "alias/mcp", bound)
	require.NoError(t, err)
	require.Equal(t, arn, made.KeyARN)
	require.Len(t, made.Plaintext, kms.DataKeySize)
	again, err := c.Decrypt(t.Context(), arn, made.Wrapped, bound)
	require.NoError(t, err)
	require.Equal(t, made.Plaintext, again)

	_, err = c.Decrypt(t.Context(), arn, made.Wrapped, kms.TokenContext(mount, "gateway"))
	require.True(t, kms.Refused(err), "a data key was taken for a token")
	require.ErrorContains(t, err, "InvalidCiphertextException")
}

func TestTheDefaultChainFindsRegionAndCredentials(t *testing.T) {
	s := start(t)
	arn := s.CreateKey("alias/mcp")
	t.Setenv("AWS_REGION", s.Region())
	t.Setenv("AWS_ACCESS_KEY_ID", s.Identity().AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s.Identity().SecretAccessKey)
	t.Setenv("AWS_ENDPOINT_URL_KMS", s.URL())
	made, err := client(t, kms.Config{}).GenerateDataKey(t.Context(), "alias/mcp", nil)
	require.NoError(t, err)
	require.Equal(t, arn, made.KeyARN)
}

func TestAKeysARNNamesItsRegion(t *testing.T) {
	s := start(t)
	arn := s.CreateKey("")
	elsewhere := settings(s)
	elsewhere.Region = "eu-west-1"
	_, err := client(t, elsewhere).GenerateDataKey(t.Context(), arn, nil)
	require.NoError(t, err, "the call was signed for the client's region instead of the key's")
	nowhere := settings(s)
	nowhere.Region = ""
	_, err = client(t, nowhere).GenerateDataKey(t.Context(), arn, nil)
	require.NoError(t, err)
	_, err = client(t, nowhere).GenerateDataKey(t.Context(), "alias/mcp", nil)
	require.ErrorContains(t, err, "no region is configured: set region, or name the key by its ARN")
}

func TestEveryErrorSaysWhetherItIsANo(t *testing.T) {
	for _, tc := range []struct {
		name    string
		prepare func(s *double.Server, c *kms.Config, key *string)
		refused bool
		text    string
	}{
		{"a disabled key is a no", func(s *double.Server, _ *kms.Config, key *string) { s.Disable(*key) }, true, "DisabledException"},
		{"a key that does not exist is a no", func(_ *double.Server, _ *kms.Config, key *string) { *key = "alias/none" }, true, "check key_id and region"},
		{"a missing permission is a no", func(s *double.Server, _ *kms.Config, _ *string) { s.Fail(double.Refuse("GenerateDataKey")) }, true, "kms:GenerateDataKey"},
		{"credentials that do not exist are a no", func(_ *double.Server, c *kms.Config, _ *string) { c.AccessKeyID = "AKIANOBODY" }, true, "UnrecognizedClientException"},
		{"a wrong secret is no answer", func(_ *double.Server, c *kms.Config, _ *string) { c.SecretAccessKey = "wrong" }, false, "InvalidSignatureException"},
		{"throttling is no answer", func(s *double.Server, _ *kms.Config, _ *string) { s.Fail(double.Throttle("")) }, false, "ThrottlingException"},
		{"an outage is no answer", func(s *double.Server, _ *kms.Config, _ *string) { s.Fail(double.Outage()) }, false, "KMSInternalException"},
		{"a cut connection is no answer", func(s *double.Server, _ *kms.Config, _ *string) { s.Fail(double.Unreachable()) }, false, "EOF"},
		{"missing credentials are no answer", func(_ *double.Server, c *kms.Config, _ *string) { c.AccessKeyID, c.SecretAccessKey = "", "" }, false, "no AWS credentials were found"},
		{"an unknown error is no answer", func(s *double.Server, _ *kms.Config, _ *string) {
			s.Fail(double.Fault{Code: "NewException", Message: "new"})
		}, false, "NewException: new"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t)
			c, key := settings(s), s.CreateKey("")
			tc.prepare(s, &c, &key)
			_, err := client(t, c).GenerateDataKey(t.Context(), key, nil)
			require.Error(t, err)
			require.Equal(t, tc.refused, kms.Refused(err), err)
			require.ErrorContains(t, err, tc.text)
			require.ErrorContains(t, err, key, "the error does not name the key")
			require.NotContains(t, err.Error(), s.Identity().SecretAccessKey)
		})
	}
}

func TestAServerThatIsNotThereIsNoAnswer(t *testing.T) {
	s := start(t)
	c, key := settings(s), s.CreateKey("")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	c.Endpoint = "http://" + listener.Addr().String()
	_, err = client(t, c).Decrypt(t.Context(), key, []byte("x"), nil)
	require.False(t, kms.Refused(err))
	require.ErrorContains(t, err, "connection refused")
}

func TestNoCallTakesLongerThanItsBound(t *testing.T) {
	s := start(t)
	key := s.CreateKey("")
	s.Fail(double.Slow("", time.Hour))
	began := time.Now()
	_, err := client(t, settings(s)).GenerateDataKey(context.WithoutCancel(t.Context()), key, nil)
	require.ErrorContains(t, err, "no answer within 3s")
	require.False(t, kms.Refused(err))
	require.Less(t, time.Since(began), 3*kms.Timeout)
}

func TestThrottlingIsTriedAgain(t *testing.T) {
	s := start(t)
	key := s.CreateKey("")
	f := double.Throttle("")
	f.Times = 2
	s.Fail(f)
	_, err := client(t, settings(s)).GenerateDataKey(t.Context(), key, nil)
	require.NoError(t, err)
	require.Equal(t, 3, s.Calls("GenerateDataKey"))
}

func TestConfigCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		config kms.Config
		want   string
	}{
		"nothing is enough":                    {kms.Config{}, ""},
		"an endpoint is a URL":                 {kms.Config{Endpoint: "https://kms.example.com:8443"}, ""},
		"half of the credentials is refused":   {kms.Config{AccessKeyID: "a"}, "access_key and secret_key"},
		"the other half is refused":            {kms.Config{SecretAccessKey: "a"}, "access_key and secret_key"},
		"a session token alone is refused":     {kms.Config{SessionToken: "a"}, "session_token"},
		"an endpoint without scheme":           {kms.Config{Endpoint: "kms.example.com"}, "field endpoint"},
		"an endpoint of another scheme":        {kms.Config{Endpoint: "ftp://kms.example.com"}, "field endpoint"},
		"an endpoint with a user and password": {kms.Config{Endpoint: "https://u:p@kms.example.com"}, "field endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.config.Check()
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
			_, err = kms.New(t.Context(), tc.config)
			require.Error(t, err)
		})
	}
}
