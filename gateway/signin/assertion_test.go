package signin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

// issuer makes assertions.
type issuer struct {
	t   testing.TB
	key *ecdsa.PrivateKey
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return &issuer{t, key}
}

// sign signs a payload, with that typ.
func (i *issuer) sign(kind, payload string) string {
	i.t.Helper()
	options := &jose.SignerOptions{}
	if kind != "" {
		options = options.WithType(jose.ContentType(kind))
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: i.key}, options)
	require.NoError(i.t, err)
	signed, err := signer.Sign([]byte(payload))
	require.NoError(i.t, err)
	text, err := signed.CompactSerialize()
	require.NoError(i.t, err)
	return text
}

func TestAssertionsThatCannotBeRead(t *testing.T) {
	i := newIssuer(t)
	good := i.sign("JWT", `{"iss":"a","sub":"b"}`)
	head, rest, _ := strings.Cut(good, ".")
	none := "eyJhbGciOiJub25lIn0"
	for name, text := range map[string]string{
		"nothing":                       "",
		"no JWT":                        "mcpt_x",
		"two parts":                     head + "." + strings.Split(rest, ".")[0],
		"the algorithm none":            none + "." + rest,
		"no signature":                  none + "." + strings.Split(rest, ".")[0] + ".",
		"too long":                      i.sign("JWT", `{"iss":"`+strings.Repeat("a", maxAssertion)+`"}`),
		"no JSON":                       i.sign("JWT", `iss`),
		"a list":                        i.sign("JWT", `[]`),
		"a member twice":                i.sign("JWT", `{"iss":"a","sub":"b","iss":"c"}`),
		"an audience of another form":   i.sign("JWT", `{"aud":{"a":1}}`),
		"an expiry of another form":     i.sign("JWT", `{"exp":"tomorrow"}`),
		"a client_id of another form":   i.sign("JWT", `{"client_id":["a","b"]}`),
		"two in one":                    good + "." + good,
		"in JSON in place of its parts": `{"payload":"e30","signatures":[]}`,
	} {
		_, err := readAssertion(text)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "mcpt_", name)
	}
}

func TestTheNamesOfClaimsCountLetterByLetter(t *testing.T) {
	a, err := readAssertion(newIssuer(t).sign("JWT", `{"ISS":"a","Sub":"b","iss":"c","AUD":"d"}`))
	require.NoError(t, err)
	require.Equal(t, "c", a.Issuer)
	require.Empty(t, a.Subject)
	require.Empty(t, a.Audience)
}

func TestTheTypSaysTheProfile(t *testing.T) {
	for kind, profile := range map[string]string{
		"": config.ProfilePlain, "JWT": config.ProfilePlain, "at+jwt": config.ProfilePlain,
		"oauth-id-jag+jwt": config.ProfileIDJAG, "OAuth-ID-JAG+JWT": config.ProfileIDJAG, "application/oauth-id-jag+jwt": config.ProfileIDJAG,
	} {
		a, err := readAssertion(newIssuer(t).sign(kind, `{"iss":"a"}`))
		require.NoError(t, err)
		require.Equal(t, profile, a.profile, kind)
	}
}

func TestIdentitiesInScopes(t *testing.T) {
	for scopes, names := range map[string][]string{
		"": nil, "mcp offline_access": nil, "client:a": {"a"}, "mcp client:a  client:b client:a": {"a", "b"}, "Client:a": nil, "client:": {""},
	} {
		require.Equal(t, names, identitiesIn(scopes), scopes)
	}
}

func FuzzAssertions(f *testing.F) {
	i := newIssuer(f)
	for _, payload := range []string{`{}`, `{"iss":"a","sub":"b","aud":"c","exp":1}`, `{"aud":["a","b"],"resource":"r","act":{"sub":"x"}}`} {
		f.Add(i.sign("JWT", payload))
		f.Add(i.sign(typeIDJAG, payload))
	}
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := readAssertion(text)
		if err != nil {
			return
		}
		now := time.Unix(1796042434, 0)
		if a.check(publicURL+"/sign-in", now) != nil {
			return
		}
		require.NotEmpty(t, a.Issuer)
		require.NotEmpty(t, a.Subject)
		require.Contains(t, a.Audience, publicURL+"/sign-in")
		_, _, _ = a.spent(now)
		_ = a.checkIDJAG("x")
		_ = a.Actor.compact()
	})
}
