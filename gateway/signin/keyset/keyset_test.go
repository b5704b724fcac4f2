package keyset

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, _ := rsa.GenerateKey(rand.Reader, 2048)
	return key
})

// jwk is a key as JSON.
func jwk(t testing.TB, key any, id, use, algorithm string) string {
	t.Helper()
	text, err := (&jose.JSONWebKey{Key: key, KeyID: id, Use: use, Algorithm: algorithm}).MarshalJSON()
	require.NoError(t, err)
	return string(text)
}

func setOf(keys ...string) []byte { return []byte(`{"keys":[` + strings.Join(keys, ",") + `]}`) }

func TestKeysOfFourAlgorithmsAreTaken(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	set, err := Parse(setOf(
		jwk(t, p256.Public(), "ec", "sig", ""),
		jwk(t, p384.Public(), "p384", "", ""),
		jwk(t, rsaKey().Public(), "rsa", "", ""),
		jwk(t, rsaKey().Public(), "ps", "sig", "PS256"),
		jwk(t, rsaKey().Public(), "encryption", "enc", ""),
		jwk(t, rsaKey().Public(), "rs512", "sig", "RS512"),
		jwk(t, ed, "ed", "", "EdDSA"),
		`{"kty":"unheard-of","kid":"x"}`,
	))
	require.NoError(t, err)
	got := map[string][]string{}
	for _, algorithm := range []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.PS256, jose.EdDSA, jose.ES384, jose.RS512, jose.HS256, "none", ""} {
		for _, key := range set.Candidates(algorithm, "") {
			got[string(algorithm)] = append(got[string(algorithm)], key.KeyID)
		}
	}
	require.Equal(t, map[string][]string{"ES256": {"ec"}, "RS256": {"rsa"}, "PS256": {"rsa", "ps"}, "EdDSA": {"ed"}}, got)
	require.Len(t, set.Candidates(jose.PS256, "ps"), 1)
	require.Empty(t, set.Candidates(jose.RS256, "ps"), "a key is for its algorithm")
	require.Empty(t, set.Candidates(jose.RS256, "nobody"))
	require.Empty(t, set.Candidates(jose.ES256, "rsa"))
}

func TestSetsThatGiveAKeyAwayOrHoldNoneAreRefused(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	good := jwk(t, p256.Public(), "ec", "sig", "")
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	many := make([]string, maxKeys+1)
	for i := range many {
		many[i] = good
	}
	tests := map[string]struct{ text, want string }{
		"no JSON":                  {"x", "is not a JWK set"},
		"a list":                   {"[]", "is not a JWK set"},
		"a string among keys":      {`{"keys":["x"]}`, "key 1 is not a JWK"},
		"a null among keys":        {`{"keys":[null]}`, "key 1 is not a JWK"},
		"no keys":                  {`{"keys":[]}`, "has no key for"},
		"one key and no set":       {good, "has no key for"},
		"a private key":            {string(setOf(good, jwk(t, p256, "x", "", ""))), "key 2 is private"},
		"a private RSA key":        {string(setOf(jwk(t, rsaKey(), "x", "", ""))), "key 1 is private"},
		"a symmetric key":          {`{"keys":[{"kty":"oct","k":"AAAA"}]}`, "key 1 is private or symmetric"},
		"a half of a private key":  {`{"keys":[{"kty":"OKP","crv":"X25519","d":"AAAA"}]}`, "key 1 is private"},
		"an RSA key that is short": {string(setOf(jwk(t, short.Public(), "x", "", ""))), "has no key for"},
		"another curve":            {`{"keys":[{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}]}`, "has no key for"},
		"a point that is not on the curve": {
			`{"keys":[{"kty":"EC","crv":"P-256","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","y":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`,
			"has no key for",
		},
		"more than the bound": {string(setOf(many...)), "at most 20"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			set, err := Parse([]byte(test.text))
			require.ErrorContains(t, err, test.want)
			require.Nil(t, set)
		})
	}
}

// FuzzParse: no key that is taken is private, symmetric or of another algorithm.
func FuzzParse(f *testing.F) {
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(f, err)
	f.Add(setOf(jwk(f, ed, "ed", "sig", "")))
	f.Add(setOf(jwk(f, rsaKey().Public(), "rsa", "", "RS256")))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"oct","k":""}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := Parse(text)
		if err != nil {
			return
		}
		total := 0
		for _, algorithm := range Algorithms() {
			for _, key := range set.Candidates(algorithm, "") {
				if total++; !key.IsPublic() {
					t.Fatal("a key that is not public")
				}
			}
		}
		if total == 0 {
			t.Fatal("a set without keys")
		}
		if _, err := json.Marshal(set.keys); err != nil {
			t.Fatal(fmt.Sprint(err))
		}
	})
}
