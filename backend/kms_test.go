package backend

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/kms"
	double "vault-plugin-secrets-mcp/test/kms"
)

func TestConfiguringKMSIsCheckedByUsingTheKey(t *testing.T) {
	e := newBareKMSEnv(t)
	require.Contains(t, e.refused(logical.UpdateOperation, "config/kms/rotate", nil), "AWS KMS is not configured")
	resp, err := e.request(context.Background(), logical.ReadOperation, "config/kms", nil)
	require.NoError(t, err)
	require.Nil(t, resp)
	require.Empty(t, e.read("gateway/data-keys")["data_keys"])

	e.write("config/kms", e.settings())
	require.Equal(t, 1, e.kms.Calls("GenerateDataKey"))
	require.Equal(t, 1, e.kms.Calls("Decrypt"))
	got := e.read("config/kms")
	require.Len(t, got["data_keys"], 1)
	require.Equal(t, data{
		"key_id": "alias/mcp", "key_arn": e.arn, "region": e.kms.Region(), "endpoint": e.kms.URL(), "audience": testAudience,
		"credentials": "configured", "mount": testAccessor,
		"current_data_key": got["data_keys"].([]string)[0], "data_keys": got["data_keys"],
	}, got)
}

func TestAConfigurationThatDoesNotWorkIsRefusedWithWhatIsMissing(t *testing.T) {
	for _, tc := range []struct {
		name    string
		change  data
		prepare func(*kmsEnv)
		want    string
	}{
		{"no key", data{"key_id": ""}, nil, "field key_id is missing"},
		{"a key that does not exist", data{"key_id": "alias/none"}, nil, "check key_id and region"},
		{"another region", data{"key_id": "arn:aws:kms:eu-west-1:111122223333:key/x", "region": ""}, nil, "InvalidSignatureException"},
		{"a disabled key", nil, func(e *kmsEnv) { e.kms.Disable(e.arn) }, "DisabledException"},
		{"no permission to make data keys", nil, func(e *kmsEnv) { e.kms.Fail(double.Refuse("GenerateDataKey")) }, "kms:GenerateDataKey"},
		{"no permission to decrypt", nil, func(e *kmsEnv) { e.kms.Fail(double.Refuse("Decrypt")) }, "kms:Decrypt"},
		{"unknown credentials", data{"access_key": "AKIANOBODY"}, nil, "these AWS credentials do not exist"},
		{"half of the credentials", data{"secret_key": nil}, nil, "write them together"},
		{"an endpoint that is no URL", data{"endpoint": "kms"}, nil, "field endpoint"},
		{"an audience with a space", data{"audience": "a b"}, nil, "field audience"},
		{"an audience without end", data{"audience": strings.Repeat("a", 513)}, nil, "field audience"},
		{"a force that is for a delete", data{"force": true}, nil, "field force"},
		{"an unknown field", data{"kms_key_id": "x"}, nil, `unknown field "kms_key_id"`},
	} {
		t.Run(tc.name+" is refused", func(t *testing.T) {
			e := newBareKMSEnv(t)
			if tc.prepare != nil {
				tc.prepare(e)
			}
			settings := e.with(tc.change)
			for name, value := range settings {
				if value == nil {
					delete(settings, name)
				}
			}
			resp, err := e.request(context.Background(), logical.UpdateOperation, "config/kms", settings)
			if err == nil {
				err = resp.Error()
			}
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), e.kms.Identity().SecretAccessKey)
			resp, err = e.request(context.Background(), logical.ReadOperation, "config/kms", nil)
			require.NoError(t, err)
			require.Nil(t, resp, "a configuration that does not work was stored")
		})
	}
}

func TestCredentialsAreNeverReadBack(t *testing.T) {
	e := newBareKMSEnv(t)
	e.write("config/kms", e.settings())
	secret := e.kms.Identity().SecretAccessKey
	require.NotContains(t, fmt.Sprint(e.read("config/kms")), secret)
	require.NotContains(t, fmt.Sprint(e.read("config/kms")), e.kms.Identity().AccessKeyID)
	require.NotContains(t, fmt.Sprint(e.read("gateway/data-keys")), secret)

	t.Setenv("AWS_ACCESS_KEY_ID", e.kms.Identity().AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	e.write("config/kms", data{"access_key": "", "secret_key": ""})
	require.Equal(t, "default chain", e.read("config/kms")["credentials"])
	require.NotContains(t, string(e.stored("kms/config")), secret, "credentials that were taken back are still stored")
}

func (e *env) stored(key string) []byte {
	e.t.Helper()
	entry, err := e.storage.Get(context.Background(), key)
	require.NoError(e.t, err)
	require.NotNil(e.t, entry)
	return entry.Value
}

func TestAWriteKeepsWhatItDoesNotName(t *testing.T) {
	e := newKMSEnv(t)
	key := e.currentKey()
	e.write("config/kms", data{"region": e.kms.Region()})
	require.Equal(t, key, e.currentKey(), "a write that changed no key and no audience made a data key")
	require.Equal(t, testAudience, e.read("config/kms")["audience"])

	e.write("config/kms", data{"audience": ""})
	require.Equal(t, testAccessor, e.read("config/kms")["audience"], "without an audience it is the mount's accessor")
	require.NotEqual(t, key, e.currentKey(), "another audience needs another data key")
	require.Len(t, e.read("config/kms")["data_keys"], 2)
}

func TestASealedClientIsHandedSealedTokens(t *testing.T) {
	e := newKMSEnv(t)
	resp := e.write("clients/c", data{"seal": "kms", "allowed_servers": "a", "token_ttl": "1h"})
	first := resp.Data["token"].(string)
	require.Regexp(t, `^mcpk_[A-Za-z0-9_-]{122}$`, first)
	inner, key := e.open(first)
	require.Regexp(t, `^mcpt_`, inner)
	require.Equal(t, e.currentKey(), key)

	answer := e.write("lookup", data{"token": inner, "data_key": key}).Data
	require.Equal(t, true, answer["active"])
	require.Equal(t, key, answer["data_key"])
	require.True(t, e.active(first), "the engine opens a sealed token, too")

	second := e.rotate("c", data{"grace_period": "10m"})
	require.Regexp(t, `^mcpk_`, second)
	require.True(t, e.active(first), "a sealed token has a grace period like any other")
	leased := e.lease("c", data{"ttl": "5m"})
	require.Regexp(t, `^mcpk_`, leased.token)
	require.True(t, e.active(leased.token))
	require.Equal(t, key, e.read("clients/c/tokens/" + e.lookup(leased.token)["accessor"].(string))["data_key"])
	require.Equal(t, key, e.read("clients/c/tokens/" + e.lookup(second)["accessor"].(string))["data_key"])

	_, err := e.renewLease(leased)
	require.NoError(t, err)
	e.clock.Advance(time.Minute)
	require.True(t, e.active(leased.token), "a renewed lease's token is no longer sealed")
	require.NoError(t, e.revokeLease(leased))
	require.False(t, e.active(leased.token))
	e.write("renew", data{"token": second, "increment": "2h"})
	require.EqualValues(t, 7200, e.lookup(second)["ttl"])
	e.write("revoke", data{"token": second})
	require.False(t, e.active(second))
}

func TestTheTokenInASealedOneIsNotActiveByItself(t *testing.T) {
	e := newKMSEnv(t)
	inner, key := e.open(e.client("c", data{"seal": "kms"}))
	plain := e.client("d", data{"seal": "none"})
	for name, d := range map[string]data{
		"bare":                                     {"token": inner},
		"with no data key":                         {"token": inner, "data_key": ""},
		"out of another data key's seal":           {"token": inner, "data_key": "0123456789abcdef"},
		"an unsealed one out of a seal":            {"token": plain, "data_key": key},
		"a sealed one within a seal":               {"token": e.client("f", data{"seal": "kms"}), "data_key": key},
		"a sealed one that no data key has sealed": {"token": "mcpk_AQ" + strings.Repeat("A", 120)},
		"a truncated one":                          {"token": e.client("g", data{"seal": "kms"})[:100]},
	} {
		t.Run(name, func(t *testing.T) {
			answer := e.write("lookup", d).Data
			require.Equal(t, false, answer["active"])
			require.NotContains(t, answer, "client")
		})
	}
	require.True(t, e.active(plain), "a client beside sealed ones is not touched")
	require.False(t, e.introspected(inner))
	require.True(t, e.introspected(plain))
}

func (e *env) introspected(tok string) bool {
	e.t.Helper()
	body := e.write("introspect", data{"token": tok}).Data[logical.HTTPRawBody].([]byte)
	return strings.Contains(string(body), `"active":true`)
}

func TestTheMountsSealIsTheDefault(t *testing.T) {
	e := newBareKMSEnv(t)
	require.Contains(t, e.refused(logical.UpdateOperation, "config", data{"seal": "kms"}), "AWS KMS is not configured")
	require.Contains(t, e.refused(logical.UpdateOperation, "config", data{"seal": "hsm"}), "field seal")
	require.Contains(t, e.refused(logical.UpdateOperation, "clients/c", data{"seal": "hsm"}), "field seal")
	require.Contains(t, e.refused(logical.UpdateOperation, "clients/c", data{"seal": "kms"}), "AWS KMS is not configured")

	e.write("config/kms", e.settings())
	before := e.client("before", data{"allowed_servers": "*"})
	e.write("config", data{"seal": "kms"})
	require.Regexp(t, `^mcpk_`, e.client("sealed", data{}))
	require.Regexp(t, `^mcpt_`, e.client("plain", data{"seal": "none"}))
	require.True(t, e.active(before), "tokens from before stay as they are")
	require.Contains(t, strings.Join(e.write("clients/before", data{"token_ttl": "1h"}).Warnings, "\n"), "seal is for tokens issued from now on")
	require.Regexp(t, `^mcpk_`, e.rotate("before", nil))
	require.NotContains(t, strings.Join(e.write("clients/before", data{"token_ttl": "2h"}).Warnings, "\n"), "seal is")

	e.patch("clients/plain", data{"seal": nil})
	require.Empty(t, e.read("clients/plain")["seal"])
	require.Regexp(t, `^mcpk_`, e.rotate("plain", nil))
}

func TestACustomTokenIsSealedToo(t *testing.T) {
	e := newKMSEnv(t)
	const custom = "my_custom_token_of_forty_characters_1234"
	resp := e.write("clients/c", data{"seal": "kms", "access_token": custom})
	sealed := resp.Data["token"].(string)
	require.Contains(t, strings.Join(resp.Warnings, "\n"), "is not accepted as it is")
	inner, _ := e.open(sealed)
	require.Equal(t, custom, inner)
	require.True(t, e.active(sealed))
	require.False(t, e.active(custom))

	e.write("clients/c", data{"access_token": custom}) // the next apply changes nothing
	require.True(t, e.active(sealed))
	require.Contains(t, e.refused(logical.UpdateOperation, "clients/c", data{"access_token": custom + "5"}), "rotate-client/c")
	next := e.rotate("c", data{"access_token": custom + "5"})
	require.True(t, e.active(next))
	require.Contains(t, e.refused(logical.UpdateOperation, "clients/d", data{"seal": "kms", "access_token": strings.Repeat("a", 4000)}), "cannot be sealed")
}

func TestAnEncryptedTokenIsTakenLikeOneInClear(t *testing.T) {
	e := newKMSEnv(t)
	const custom = "my_custom_token_of_forty_characters_1234"
	bound := func(client string) map[string]string { return kms.TokenContext(testAccessor, client) }

	resp := e.write("clients/c", data{"access_token_ciphertext": e.encrypt(custom, bound("c"))})
	require.NotContains(t, resp.Data, "token", "the answer decrypts what the caller may be unable to")
	require.Equal(t, "custom", resp.Data["kind"])
	require.True(t, e.active(custom))
	version := e.read("clients/c")["version"]
	e.write("clients/c", data{"access_token_ciphertext": e.encrypt(custom, bound("c"))})
	require.Equal(t, version, e.read("clients/c")["version"], "the same token again is a change")

	resp = e.write("rotate-client/c", data{"access_token_ciphertext": e.encrypt(custom+"5", bound("c")), "grace_period": 0})
	require.NotContains(t, resp.Data, "token")
	require.True(t, e.active(custom+"5"))
	require.False(t, e.active(custom))

	sealed := e.write("rotate-client/c", data{"access_token_ciphertext": e.encrypt(custom+"6", bound("c"))})
	require.NotContains(t, sealed.Data, "token")
	e.write("clients/c", data{"seal": "kms"})
	sealed = e.write("rotate-client/c", data{"access_token_ciphertext": e.encrypt(custom+"7", bound("c"))})
	require.True(t, e.active(sealed.Data["token"].(string)), "the sealed form is answered: it is what its holder needs")
}

func TestAWriteOfTheKMSConfigurationThatChangesNothingWakesNobody(t *testing.T) {
	e := newKMSEnv(t)
	held := e.read("config/kms")
	require.Empty(t, e.watch(func() { e.write("config/kms", data{"key_id": held["key_id"]}) }))
	require.Equal(t, held, e.read("config/kms"))
}

func TestAnEncryptedTokenKeepsTheRulesOfOneInClear(t *testing.T) {
	e := newKMSEnv(t)
	const custom = "my_custom_token_of_forty_characters_1234"
	e.client("other", data{"access_token": custom})
	e.client("revoked", data{"access_token": custom + "-revoked"})
	e.write("revoke-client/revoked", nil)
	other := e.kms.CreateKey("")
	bound := kms.TokenContext(testAccessor, "c")
	more := kms.TokenContext(testAccessor, "c")
	more["team"] = "a"
	wrapped := e.read("gateway/data-keys")["data_keys"].(map[string]any)[e.currentKey()].(map[string]any)["wrapped"].(string)

	for _, tc := range []struct {
		name string
		data data
		want string
	}{
		{"a short one", data{"access_token_ciphertext": e.encrypt("short", bound)}, "too short"},
		{"one with a line feed in it", data{"access_token_ciphertext": e.encrypt(custom[:9]+"\n"+custom[9:], bound)}, "a character that RFC 6750 does not allow"},
		{"one of the engine's form", data{"access_token_ciphertext": e.encrypt("mcpt_abcdefghijklmnop", bound)}, "reserved"},
		{"one in use elsewhere", data{"access_token_ciphertext": e.encrypt(custom, bound)}, "field access_token_ciphertext: this token is in use"},
		{"one that was revoked", data{"access_token_ciphertext": e.encrypt(custom+"-revoked", bound)}, "must not come back"},
		{"one for another client", data{"access_token_ciphertext": e.encrypt(custom+"x", kms.TokenContext(testAccessor, "d"))}, "mcp-client=c"},
		{"one for another mount", data{"access_token_ciphertext": e.encrypt(custom+"x", kms.TokenContext("other", "c"))}, "mcp-mount=" + testAccessor},
		{"one without a context", data{"access_token_ciphertext": e.encrypt(custom+"x", nil)}, "InvalidCiphertextException"},
		{"one with more in its context", data{"access_token_ciphertext": e.encrypt(custom+"x", more)}, "InvalidCiphertextException"},
		{"one under another key", data{"access_token_ciphertext": e.encryptUnder(other, custom+"x", bound)}, "IncorrectKeyException"},
		{"a data key", data{"access_token_ciphertext": wrapped}, "InvalidCiphertextException"},
		{"what is no base64", data{"access_token_ciphertext": "not base64!"}, "aws kms encrypt"},
		{"nothing", data{"access_token_ciphertext": ""}, "aws kms encrypt"},
		{"too much", data{"access_token_ciphertext": strings.Repeat("AAAA", 2049)}, "aws kms encrypt"},
		{"one beside one in clear", data{"access_token_ciphertext": e.encrypt(custom+"x", bound), "access_token": custom + "x"}, "give one of them"},
	} {
		t.Run(tc.name+" is refused", func(t *testing.T) {
			message := e.refused(logical.UpdateOperation, "clients/c", tc.data)
			require.Contains(t, message, tc.want)
			require.NotContains(t, message, custom)
		})
	}
	bare := newBareKMSEnv(t)
	require.Contains(t, bare.refused(logical.UpdateOperation, "clients/c", data{"access_token_ciphertext": "AAAA"}), "AWS KMS is not configured")
}
