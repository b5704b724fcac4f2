package kms_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/kms"
)

func start(t *testing.T, opts kms.Options) *kms.Server {
	t.Helper()
	s, err := kms.Start(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// client is the official one, without retries.
func client(s *kms.Server, id kms.Identity) *sdk.Client {
	return sdk.New(sdk.Options{
		Region:       s.Region(),
		BaseEndpoint: aws.String(s.URL()),
		Retryer:      aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: id.AccessKeyID, SecretAccessKey: id.SecretAccessKey, SessionToken: id.SessionToken}, nil
		}),
	})
}

func requireCode(t *testing.T, err error, code string) {
	t.Helper()
	var api smithy.APIError
	require.ErrorAs(t, err, &api)
	require.Equal(t, code, api.ErrorCode(), api.ErrorMessage())
}

var purpose = map[string]string{"mount": "mcp_1", "client": "cursor"}

func TestWhatIsEncryptedIsDecryptedUnderTheSameContextAlone(t *testing.T) {
	s := start(t, kms.Options{})
	c, ctx := client(s, s.Identity()), t.Context()
	key, other := s.CreateKey("alias/mcp"), s.CreateKey("")

	sealed, err := c.Encrypt(ctx, &sdk.EncryptInput{KeyId: aws.String("alias/mcp"), Plaintext: []byte("secret"), EncryptionContext: purpose})
	require.NoError(t, err)
	require.Equal(t, key, *sealed.KeyId)
	require.NotContains(t, string(sealed.CiphertextBlob), "secret")

	decrypt := func(keyID string, blob []byte, context map[string]string) ([]byte, error) {
		in := &sdk.DecryptInput{CiphertextBlob: blob, EncryptionContext: context}
		if keyID != "" {
			in.KeyId = &keyID
		}
		out, err := c.Decrypt(ctx, in)
		if err != nil {
			return nil, err
		}
		return out.Plaintext, nil
	}
	for _, name := range []string{"", key, "alias/mcp", strings.TrimPrefix(key[strings.LastIndex(key, "/"):], "/")} {
		plain, err := decrypt(name, sealed.CiphertextBlob, purpose)
		require.NoError(t, err, name)
		require.Equal(t, "secret", string(plain))
	}
	altered := bytes.Clone(sealed.CiphertextBlob)
	altered[len(altered)-1] ^= 1
	for name, tc := range map[string]struct {
		key     string
		blob    []byte
		context map[string]string
		code    string
	}{
		"another context":   {key, sealed.CiphertextBlob, map[string]string{"mount": "mcp_1", "client": "other"}, "InvalidCiphertextException"},
		"no context":        {key, sealed.CiphertextBlob, nil, "InvalidCiphertextException"},
		"a part of it":      {key, sealed.CiphertextBlob, map[string]string{"mount": "mcp_1"}, "InvalidCiphertextException"},
		"an altered blob":   {key, altered, purpose, "InvalidCiphertextException"},
		"a truncated blob":  {key, sealed.CiphertextBlob[:10], purpose, "InvalidCiphertextException"},
		"another key":       {other, sealed.CiphertextBlob, purpose, "IncorrectKeyException"},
		"an unknown key":    {"alias/none", sealed.CiphertextBlob, purpose, "NotFoundException"},
		"a key of a region": {strings.Replace(key, "us-east-1", "eu-west-1", 1), sealed.CiphertextBlob, purpose, "NotFoundException"},
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			_, err := decrypt(tc.key, tc.blob, tc.context)
			requireCode(t, err, tc.code)
		})
	}
}

func TestNoTwoContextsAreTheSame(t *testing.T) {
	s := start(t, kms.Options{})
	c := client(s, s.Identity())
	key := s.CreateKey("")
	sealed, err := c.Encrypt(t.Context(), &sdk.EncryptInput{KeyId: &key, Plaintext: []byte("x"), EncryptionContext: map[string]string{"a": "bc"}})
	require.NoError(t, err)
	_, err = c.Decrypt(t.Context(), &sdk.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: map[string]string{"ab": "c"}})
	requireCode(t, err, "InvalidCiphertextException")
}

func TestADataKeyComesPlainAndWrapped(t *testing.T) {
	s := start(t, kms.Options{})
	c, ctx := client(s, s.Identity()), t.Context()
	key, next := s.CreateKey(""), s.CreateKey("")
	made, err := c.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{KeyId: &key, KeySpec: types.DataKeySpecAes256, EncryptionContext: purpose})
	require.NoError(t, err)
	require.Len(t, made.Plaintext, 32)

	moved, err := c.ReEncrypt(ctx, &sdk.ReEncryptInput{
		CiphertextBlob: made.CiphertextBlob, SourceEncryptionContext: purpose, DestinationKeyId: &next, DestinationEncryptionContext: purpose,
	})
	require.NoError(t, err)
	out, err := c.Decrypt(ctx, &sdk.DecryptInput{KeyId: &next, CiphertextBlob: moved.CiphertextBlob, EncryptionContext: purpose})
	require.NoError(t, err)
	require.Equal(t, made.Plaintext, out.Plaintext)
	require.Equal(t, 1, s.Calls("ReEncrypt"))
	require.Equal(t, 3, s.Calls(""))
}

func TestAKeyThatIsNotEnabledDoesNothing(t *testing.T) {
	s := start(t, kms.Options{})
	c, ctx := client(s, s.Identity()), t.Context()
	created, err := c.CreateKey(ctx, &sdk.CreateKeyInput{})
	require.NoError(t, err)
	key := created.KeyMetadata.Arn
	generate := func() error {
		_, err := c.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{KeyId: key, KeySpec: types.DataKeySpecAes256})
		return err
	}
	require.NoError(t, generate())
	_, err = c.DisableKey(ctx, &sdk.DisableKeyInput{KeyId: key})
	require.NoError(t, err)
	requireCode(t, generate(), "DisabledException")
	described, err := c.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: key})
	require.NoError(t, err)
	require.Equal(t, types.KeyStateDisabled, described.KeyMetadata.KeyState)
	_, err = c.EnableKey(ctx, &sdk.EnableKeyInput{KeyId: key})
	require.NoError(t, err)
	require.NoError(t, generate())
	_, err = c.ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: key})
	require.NoError(t, err)
	requireCode(t, generate(), "KMSInvalidStateException")
}

func TestOnlyARequestSignedByAKnownIdentityIsAnswered(t *testing.T) {
	known, temporary := kms.NewIdentity("engine"), kms.NewIdentity("role")
	temporary.SessionToken = "session"
	clock := time.Now()
	s := start(t, kms.Options{Identities: []kms.Identity{known, temporary}, Now: func() time.Time { return clock }})
	key := s.CreateKey("")
	ask := func(id kms.Identity, opts ...func(*sdk.Options)) error {
		_, err := client(s, id).DescribeKey(t.Context(), &sdk.DescribeKeyInput{KeyId: &key}, opts...)
		return err
	}
	require.NoError(t, ask(known))
	require.NoError(t, ask(temporary))

	wrong := known
	wrong.SecretAccessKey = "wrong"
	requireCode(t, ask(wrong), "InvalidSignatureException")
	stale := temporary
	stale.SessionToken = "expired"
	requireCode(t, ask(stale), "UnrecognizedClientException")
	requireCode(t, ask(kms.NewIdentity("nobody")), "UnrecognizedClientException")
	requireCode(t, ask(known, func(o *sdk.Options) { o.Region = "eu-west-1" }), "InvalidSignatureException")

	clock = clock.Add(6 * time.Minute)
	requireCode(t, ask(known), "InvalidSignatureException")
	clock = clock.Add(-12 * time.Minute)
	requireCode(t, ask(known), "InvalidSignatureException")
}

// An altered request has the signature of another one.
func TestAnAlteredRequestIsRefused(t *testing.T) {
	s := start(t, kms.Options{})
	key := s.CreateKey("")
	for name, alter := range map[string]func(*http.Request){
		"another body": func(r *http.Request) {
			body := []byte(`{"KeyId":"` + key + `" }`)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		},
		"another operation":   func(r *http.Request) { r.Header.Set("X-Amz-Target", "TrentService.DisableKey") },
		"an unsigned header":  func(r *http.Request) { r.Header.Set("X-Amz-Extra", "1") },
		"another path":        func(r *http.Request) { r.URL.Path = "/x" },
		"a missing signature": func(r *http.Request) { r.Header.Del("Authorization") },
		"half a signature":    func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=a/b") },
	} {
		t.Run(name+" is refused", func(t *testing.T) {
			c := client(s, s.Identity())
			_, err := c.DescribeKey(t.Context(), &sdk.DescribeKeyInput{KeyId: &key}, func(o *sdk.Options) {
				o.HTTPClient = altering(alter)
			})
			var api smithy.APIError
			require.ErrorAs(t, err, &api)
			require.Contains(t, []string{"InvalidSignatureException", "MissingAuthenticationTokenException", "IncompleteSignatureException"}, api.ErrorCode())
		})
	}
	out, err := client(s, s.Identity()).DescribeKey(t.Context(), &sdk.DescribeKeyInput{KeyId: &key})
	require.NoError(t, err)
	require.True(t, out.KeyMetadata.Enabled, "an altered request was carried out")
}

type altering func(*http.Request)

func (a altering) Do(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	a(r)
	return http.DefaultClient.Do(r)
}

func TestFaults(t *testing.T) {
	s := start(t, kms.Options{})
	c, ctx := client(s, s.Identity()), t.Context()
	key, other := s.CreateKey(""), s.CreateKey("")
	encrypt := func(key string) error {
		_, err := c.Encrypt(ctx, &sdk.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
		return err
	}
	for name, tc := range map[string]struct {
		fault kms.Fault
		code  string
	}{
		"throttling": {kms.Throttle("Encrypt"), "ThrottlingException"},
		"a refusal":  {kms.Refuse(""), "AccessDeniedException"},
		"an outage":  {kms.Outage(), "KMSInternalException"},
	} {
		t.Run(name+" is answered until it is cleared", func(t *testing.T) {
			s.Fail(tc.fault)
			requireCode(t, encrypt(key), tc.code)
			requireCode(t, encrypt(other), tc.code)
			s.Recover()
			require.NoError(t, encrypt(key))
		})
	}
	t.Run("a fault is for one key, and for so many requests", func(t *testing.T) {
		f := kms.Throttle("")
		f.Key, f.Times = key, 1
		s.Fail(f)
		require.NoError(t, encrypt(other))
		requireCode(t, encrypt(key), "ThrottlingException")
		require.NoError(t, encrypt(key))
	})
	t.Run("a connection is cut without an answer", func(t *testing.T) {
		s.Fail(kms.Unreachable())
		defer s.Recover()
		var api smithy.APIError
		err := encrypt(key)
		require.Error(t, err)
		require.NotErrorAs(t, err, &api)
	})
	t.Run("a slow answer ends with the request that waits for it", func(t *testing.T) {
		s.Fail(kms.Slow("Encrypt", time.Hour))
		defer s.Recover()
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		_, err := c.Encrypt(short, &sdk.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestTheDoubleIsToldToFailFromOutside(t *testing.T) {
	s := start(t, kms.Options{})
	key := s.CreateKey("")
	admin := func(method, path, body string, header ...string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL()+"/-/"+path, strings.NewReader(body))
		require.NoError(t, err)
		for _, h := range header {
			r.Header.Set(h, "https://example.com")
		}
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(text)
	}
	describe := func() error {
		_, err := client(s, s.Identity()).DescribeKey(t.Context(), &sdk.DescribeKeyInput{KeyId: &key})
		return err
	}
	status, _ := admin("POST", "faults", `{"operation":"DescribeKey","code":"ThrottlingException","delay":"1ms"}`)
	require.Equal(t, http.StatusNoContent, status)
	requireCode(t, describe(), "ThrottlingException")
	status, _ = admin("DELETE", "faults", "")
	require.Equal(t, http.StatusNoContent, status)
	require.NoError(t, describe())

	_, calls := admin("GET", "calls", "")
	counted := map[string]int{}
	require.NoError(t, json.Unmarshal([]byte(calls), &counted))
	require.Equal(t, map[string]int{"DescribeKey": 2}, counted)
	_, _ = admin("DELETE", "calls", "")
	require.Zero(t, s.Calls(""))

	for name, bad := range map[string]string{"an unknown field": `{"kode":"x"}`, "a bad delay": `{"delay":"soon"}`} {
		status, _ := admin("POST", "faults", bad)
		require.Equal(t, http.StatusBadRequest, status, name)
	}
	status, _ = admin("GET", "elsewhere", "")
	require.Equal(t, http.StatusNotFound, status)
	status, _ = admin("POST", "faults", `{}`, "Origin")
	require.Equal(t, http.StatusForbidden, status)
}

func TestPoliciesAllowWhatTheySay(t *testing.T) {
	identity := kms.NewIdentity("gateway")
	var err error
	identity.Policy, err = kms.ParsePolicy([]byte(`{
		"Version": "2012-10-17",
		"Statement": [{
			"Effect": "Allow",
			"Action": ["kms:Decrypt", "kms:Describe*"],
			"Resource": "*",
			"Condition": {
				"StringEquals": {"kms:EncryptionContext:mount": ["mcp_1", "mcp_2"]},
				"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["mount", "client"]}
			}
		}, {"Effect": "Deny", "Action": "kms:*", "Resource": "*", "Condition": {"StringLike": {"kms:EncryptionContext:client": "root*"}}}]
	}`))
	require.NoError(t, err)
	admin := kms.NewIdentity("admin")
	s := start(t, kms.Options{Identities: []kms.Identity{admin, identity}})
	key := s.CreateKey("")
	for _, tc := range []struct {
		name    string
		context map[string]string
		allowed bool
	}{
		{"the named context is allowed", purpose, true},
		{"another mount is not", map[string]string{"mount": "mcp_3"}, false},
		{"no mount is not", map[string]string{"client": "cursor"}, false},
		{"another key of the context is not", map[string]string{"mount": "mcp_1", "more": "x"}, false},
		{"what is denied is not", map[string]string{"mount": "mcp_1", "client": "root-2"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sealed, err := client(s, admin).Encrypt(t.Context(), &sdk.EncryptInput{KeyId: &key, Plaintext: []byte("x"), EncryptionContext: tc.context})
			require.NoError(t, err)
			_, err = client(s, identity).Decrypt(t.Context(), &sdk.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: tc.context})
			if tc.allowed {
				require.NoError(t, err)
				return
			}
			requireCode(t, err, "AccessDeniedException")
			require.Contains(t, err.Error(), "kms:Decrypt")
		})
	}
	encrypt := func() error {
		_, err := client(s, identity).Encrypt(t.Context(), &sdk.EncryptInput{KeyId: &key, Plaintext: []byte("x"), EncryptionContext: purpose})
		return err
	}
	requireCode(t, encrypt(), "AccessDeniedException")
	s.SetPolicy("gateway", nil)
	require.NoError(t, encrypt())
}

func TestAPolicyThatIsNotUnderstoodIsRefused(t *testing.T) {
	for name, document := range map[string]string{
		"an unknown element":  `{"Statement":[{"Effect":"Allow","NotAction":"x","Resource":"*"}]}`,
		"an unknown operator": `{"Statement":[{"Effect":"Allow","Action":"x","Resource":"*","Condition":{"IpAddress":{"kms:EncryptionContextKeys":"x"}}}]}`,
		"an unknown key":      `{"Statement":[{"Effect":"Allow","Action":"x","Resource":"*","Condition":{"StringEquals":{"aws:SourceIp":"x"}}}]}`,
		"no effect":           `{"Statement":[{"Action":"x","Resource":"*"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := kms.ParsePolicy([]byte(document))
			require.Error(t, err)
		})
	}
}

func TestTheDoubleListensOnTheLoopbackAlone(t *testing.T) {
	_, err := kms.Start(kms.Options{Address: "0.0.0.0:0"})
	require.ErrorContains(t, err, "loopback")
}

func TestRequestsBeyondKMSsLimitsAreRefused(t *testing.T) {
	s := start(t, kms.Options{})
	c, ctx := client(s, s.Identity()), t.Context()
	key := s.CreateKey("")
	_, err := c.Encrypt(ctx, &sdk.EncryptInput{KeyId: &key, Plaintext: make([]byte, 4097)})
	requireCode(t, err, "ValidationException")
	_, err = c.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: make([]byte, 6145)})
	requireCode(t, err, "ValidationException")
	_, err = c.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{KeyId: &key})
	requireCode(t, err, "ValidationException")
	_, err = c.GenerateMac(ctx, &sdk.GenerateMacInput{KeyId: &key, MacAlgorithm: types.MacAlgorithmSpecHmacSha256, Message: []byte("x")})
	requireCode(t, err, "UnknownOperationException")
	var notFound *types.NotFoundException
	_, err = c.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: aws.String("none")})
	require.ErrorAs(t, err, &notFound, "the SDK knows the error's type")
}
