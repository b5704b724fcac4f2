package application

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

const (
	client  = "https://chatgpt.com/oauth/client.json"
	keysURL = "https://chatgpt.com/oauth/jwks.json"
)

// pair is a key with its name.
type pair struct {
	private crypto.Signer
	id      string
}

func ecPair(t testing.TB, id string) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return pair{key, id}
}

var rsaPair = sync.OnceValue(func() pair {
	key, _ := rsa.GenerateKey(rand.Reader, 2048)
	return pair{key, "rsa"}
})

func edPair(t testing.TB) pair {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return pair{key, "ed"}
}

// jwks is a set of public keys.
func jwks(pairs ...pair) jose.JSONWebKeySet {
	var set jose.JSONWebKeySet
	for _, p := range pairs {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: p.private.Public(), KeyID: p.id, Use: "sig"})
	}
	return set
}

// signer signs assertions.
type signer struct {
	pair
	algorithm jose.SignatureAlgorithm
	typ       string
	noID      bool
}

func (s signer) sign(t testing.TB, claims any) string {
	t.Helper()
	options := &jose.SignerOptions{}
	if s.typ != "" {
		options.WithType(jose.ContentType(s.typ))
	}
	key := jose.SigningKey{Algorithm: s.algorithm, Key: jose.JSONWebKey{Key: s.private, KeyID: s.id}}
	if s.noID {
		key.Key = s.private
	}
	made, err := jose.NewSigner(key, options)
	require.NoError(t, err)
	text, err := jwt.Signed(made).Claims(claims).Serialize()
	require.NoError(t, err)
	return text
}

var lastID atomic.Int64

// claims are good ones, with some of them changed; nil leaves one out.
func (b *bed) claims(more map[string]any) map[string]any {
	now := b.clock.Now().Unix()
	c := map[string]any{
		"iss": client, "sub": client, "aud": endpoint, "exp": now + 300, "iat": now, "jti": fmt.Sprint(lastID.Add(1)),
	}
	for name, value := range more {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

// withAssertions is a registry with ChatGPT's document, whose keys these are.
func withAssertions(t *testing.T, pairs ...pair) *bed {
	t.Helper()
	b := newBed(t, config.SignIn{MetadataDocuments: []string{"https://chatgpt.com/oauth/"}})
	b.JSON(client, document(client, map[string]any{
		"client_name": "ChatGPT", "redirect_uris": []string{"https://chatgpt.com/connector_platform_oauth_redirect"},
		"token_endpoint_auth_method": MethodSigned, "token_endpoint_auth_methods_supported": []string{"none", MethodSigned},
		"token_endpoint_auth_signing_alg": "RS256", "jwks_uri": keysURL,
	}))
	b.JSON(keysURL, jwks(pairs...))
	return b
}

// show authenticates by an assertion.
func (b *bed) show(t testing.TB, assertion string, more ...string) (*Application, error) {
	t.Helper()
	return b.Authenticate(t.Context(), nil, form(append(more, "client_assertion", assertion, "client_assertion_type", assertionType)...))
}

func TestChatGPTsAssertionIsTaken(t *testing.T) {
	b := withAssertions(t, rsaPair())
	s := signer{rsaPair(), jose.RS256, "JWT", false}
	a, err := b.show(t, s.sign(t, b.claims(nil)), "client_id", client)
	require.NoError(t, err)
	require.Equal(t, client, a.ID)
	require.Equal(t, "ChatGPT", a.Name)
	a, err = b.show(t, s.sign(t, b.claims(nil)))
	require.NoError(t, err, "without the parameter client_id")
	require.Equal(t, client, a.ID)
}

func TestAssertionsThatAreTaken(t *testing.T) {
	ec, ed := ecPair(t, "ec"), edPair(t)
	b := withAssertions(t, rsaPair(), ec, ed)
	now := b.clock.Now().Unix()
	es := signer{ec, jose.ES256, "", false}
	tests := map[string]struct {
		signer signer
		more   map[string]any
	}{
		"RS256":                         {signer{rsaPair(), jose.RS256, "", false}, nil},
		"PS256":                         {signer{rsaPair(), jose.PS256, "", false}, nil},
		"ES256":                         {es, nil},
		"EdDSA":                         {signer{ed, jose.EdDSA, "", false}, nil},
		"a key that is not named":       {signer{ec, jose.ES256, "", true}, nil},
		"the type of RFC 7523bis":       {signer{ec, jose.ES256, "client-authentication+jwt", false}, nil},
		"the type with its prefix":      {signer{ec, jose.ES256, "application/client-authentication+jwt", false}, nil},
		"the issuer as audience":        {es, map[string]any{"aud": issuer}},
		"the audience in a list":        {es, map[string]any{"aud": []string{endpoint}}},
		"an audience with two slashes":  {es, map[string]any{"aud": "https://mcp.example.com//sign-in/token"}},
		"two slashes behind the issuer": {es, map[string]any{"aud": issuer + "//token"}},
		"a slash behind the issuer":     {es, map[string]any{"aud": issuer + "/"}},
		"ten minutes":                   {es, map[string]any{"exp": now + 600}},
		"a clock that is 50 s ahead":    {es, map[string]any{"iat": now + 50, "nbf": now + 50, "exp": now + 650}},
		"one that ended 50 s ago":       {es, map[string]any{"exp": now - 50}},
		"without iat":                   {es, map[string]any{"iat": nil}},
		"a claim of its own":            {es, map[string]any{"scope": "x"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := b.show(t, test.signer.sign(t, b.claims(test.more)))
			require.NoError(t, err)
		})
	}
}

func TestAssertionsThatAreNotTaken(t *testing.T) {
	ec, stranger := ecPair(t, "ec"), ecPair(t, "ec")
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	b := withAssertions(t, rsaPair(), ec, pair{p384, "p384"})
	now := b.clock.Now().Unix()
	es := signer{ec, jose.ES256, "", false}
	tests := map[string]struct {
		signer signer
		more   map[string]any
		want   string
	}{
		"a stranger's key under that name":   {signer{stranger, jose.ES256, "", false}, nil, "not signed with a key of the application"},
		"a stranger's key without a name":    {signer{stranger, jose.ES256, "", true}, nil, "not signed with a key of the application"},
		"a name that no key has":             {signer{pair{ec.private, "other"}, jose.ES256, "", false}, nil, "not signed with a key of the application"},
		"RS512":                              {signer{rsaPair(), jose.RS512, "", false}, nil, "signed with ES256, RS256, PS256 or EdDSA"},
		"ES384":                              {signer{pair{p384, "p384"}, jose.ES384, "", false}, nil, "signed with ES256, RS256, PS256 or EdDSA"},
		"an access token":                    {signer{ec, jose.ES256, "at+jwt", false}, nil, "another kind of token"},
		"an ID-JAG":                          {signer{ec, jose.ES256, "oauth-id-jag+jwt", false}, nil, "another kind of token"},
		"another iss":                        {es, map[string]any{"iss": "https://chatgpt.com"}, "iss and the sub"},
		"another sub":                        {es, map[string]any{"sub": "somebody"}, "iss and the sub"},
		"no iss":                             {es, map[string]any{"iss": nil}, "iss and the sub"},
		"no sub":                             {es, map[string]any{"sub": nil}, "iss and the sub"},
		"neither":                            {es, map[string]any{"sub": nil, "iss": nil}, "iss and the sub"},
		"a client_id with a slash":           {es, map[string]any{"sub": client + "/", "iss": client + "/"}, "cannot be used"},
		"no aud":                             {es, map[string]any{"aud": nil}, "aud"},
		"an empty aud":                       {es, map[string]any{"aud": ""}, "aud"},
		"no audiences":                       {es, map[string]any{"aud": []string{}}, "aud"},
		"another server's":                   {es, map[string]any{"aud": "https://other.example.com/sign-in/token"}, "aud"},
		"ours and another server's":          {es, map[string]any{"aud": []string{endpoint, "https://other.example.com/token"}}, "aud"},
		"both of ours":                       {es, map[string]any{"aud": []string{endpoint, issuer}}, "aud"},
		"the origin":                         {es, map[string]any{"aud": "https://mcp.example.com"}, "aud"},
		"the resource":                       {es, map[string]any{"aud": "https://mcp.example.com/sign-in/mcp"}, "aud"},
		"our host in clear":                  {es, map[string]any{"aud": "http://mcp.example.com/sign-in/token"}, "aud"},
		"our endpoint with a query":          {es, map[string]any{"aud": endpoint + "?x=y"}, "aud"},
		"our endpoint with a user":           {es, map[string]any{"aud": "https://x@mcp.example.com/sign-in/token"}, "aud"},
		"our endpoint in other case":         {es, map[string]any{"aud": strings.ToUpper(endpoint)}, "aud"},
		"our endpoint with dots":             {es, map[string]any{"aud": "https://mcp.example.com/x/../sign-in/token"}, "aud"},
		"no exp":                             {es, map[string]any{"exp": nil}, "no exp"},
		"an end more than ten minutes ahead": {es, map[string]any{"exp": now + 662}, "more than 10 minutes ahead"},
		"an end in a thousand years":         {es, map[string]any{"exp": now + 31_536_000_000}, "more than 10 minutes ahead"},
		"an end that overflows":              {es, map[string]any{"exp": json.Number("9223372036854775807")}, "not a JWT"},
		"an end that is a text":              {es, map[string]any{"exp": "2030"}, "not a JWT"},
		"one that has ended":                 {es, map[string]any{"exp": now - 61}, "has expired"},
		"one for later":                      {es, map[string]any{"nbf": now + 62}, "nbf"},
		"one from the future":                {es, map[string]any{"iat": now + 62}, "iat"},
		"no jti":                             {es, map[string]any{"jti": nil}, "no jti"},
		"an empty jti":                       {es, map[string]any{"jti": ""}, "no jti"},
		"a jti that is a number":             {es, map[string]any{"jti": 5}, "not a JWT"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a, err := b.show(t, test.signer.sign(t, b.claims(test.more)))
			require.Nil(t, a)
			e := asError(t, err)
			require.Contains(t, e.Message, test.want)
			require.NotContains(t, e.Message+e.Advice, "eyJ")
			if e.Kind != Unavailable {
				status, code := e.OAuth()
				require.Equal(t, http.StatusUnauthorized, status)
				require.Equal(t, "invalid_client", code)
			}
		})
	}
}

// TestHeadersThatNameAnotherKeyOrNoneAtAllAreNotBelieved: headers that an attacker writes
// by hand.
func TestHeadersThatNameAnotherKeyOrNoneAtAllAreNotBelieved(t *testing.T) {
	ec := ecPair(t, "ec")
	b := withAssertions(t, rsaPair(), ec)
	stranger := ecPair(t, "ec")
	public, err := json.Marshal(jose.JSONWebKey{Key: stranger.private.Public(), KeyID: "ec"})
	require.NoError(t, err)
	payload, err := json.Marshal(b.claims(nil))
	require.NoError(t, err)
	pem, err := json.Marshal(jwks(rsaPair()).Keys[0])
	require.NoError(t, err)
	encode := base64.RawURLEncoding.EncodeToString
	byHand := func(header string) string {
		signing := encode([]byte(header)) + "." + encode(payload)
		digest := crypto.SHA256.New()
		digest.Write([]byte(signing))
		r, s, err := ecdsa.Sign(rand.Reader, stranger.private.(*ecdsa.PrivateKey), digest.Sum(nil))
		require.NoError(t, err)
		signature := make([]byte, 64)
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
		return signing + "." + encode(signature)
	}
	symmetric, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: pem}, nil)
	require.NoError(t, err)
	forged, err := jwt.Signed(symmetric).Claims(b.claims(nil)).Serialize()
	require.NoError(t, err)
	good := signer{ec, jose.ES256, "", false}.sign(t, b.claims(nil))
	parts := strings.Split(good, ".")
	for name, assertion := range map[string]string{
		"alg none":                      encode([]byte(`{"alg":"none"}`)) + "." + encode(payload) + ".",
		"alg None":                      encode([]byte(`{"alg":"None"}`)) + "." + encode(payload) + ".",
		"no alg":                        byHand(`{"kid":"ec"}`),
		"HS256 with the public key":     forged,
		"a key in the header":           byHand(`{"alg":"ES256","jwk":` + string(public) + `}`),
		"a key at a URL":                byHand(`{"alg":"ES256","kid":"ec","jku":"https://evil.example/keys"}`),
		"a certificate at a URL":        byHand(`{"alg":"ES256","kid":"ec","x5u":"https://evil.example/cert"}`),
		"an extension that must count":  byHand(`{"alg":"ES256","kid":"ec","crit":["exp"],"exp":1}`),
		"a payload outside":             byHand(`{"alg":"ES256","kid":"ec","b64":false,"crit":["b64"]}`),
		"alg twice":                     byHand(`{"alg":"ES256","alg":"none","kid":"ec"}`),
		"no signature":                  parts[0] + "." + parts[1] + ".",
		"a signature of zeros":          parts[0] + "." + parts[1] + "." + encode(make([]byte, 64)),
		"an empty payload":              parts[0] + ".." + parts[2],
		"two parts":                     parts[0] + "." + parts[1],
		"five parts":                    good + "." + parts[0] + "." + parts[1],
		"the JSON form":                 `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"another application's payload": parts[0] + "." + encode([]byte(`{"iss":"`+client+`","sub":"`+client+`"}`)) + "." + parts[2],
		"an absurd length":              good + strings.Repeat("A", 10_000),
		"a line break":                  good + "\n",
		"a space":                       " " + good,
	} {
		a, err := b.show(t, assertion, "client_id", client)
		require.Nil(t, a, name)
		require.Contains(t, []Kind{NotAuthentic, Malformed}, asError(t, err).Kind, name)
	}
	_, err = b.show(t, good)
	require.NoError(t, err, "what failed has not spent anything")
}

func TestAnAssertionCountsOnce(t *testing.T) {
	ec := ecPair(t, "ec")
	b := withAssertions(t, ec)
	s := signer{ec, jose.ES256, "", false}
	assertion := s.sign(t, b.claims(map[string]any{"jti": "one"}))
	_, err := b.show(t, assertion)
	require.NoError(t, err)
	for name, again := range map[string]string{"itself": assertion, "another with its jti": s.sign(t, b.claims(map[string]any{"jti": "one", "exp": b.clock.Now().Unix() + 600}))} {
		_, err = b.show(t, again)
		require.Contains(t, asError(t, err).Message, "was used before", name)
	}
	// At every moment at which it could still count.
	for range 12 {
		b.clock.Add(30 * time.Second)
		_, err = b.show(t, assertion)
		require.Equal(t, NotAuthentic, asError(t, err).Kind)
	}
	_, err = b.show(t, s.sign(t, b.claims(map[string]any{"jti": "one"})))
	require.NoError(t, err, "an id that has expired is forgotten")
}

func TestManyWhoShowOneAssertionAtOnce(t *testing.T) {
	ec := ecPair(t, "ec")
	b := withAssertions(t, ec)
	assertion := signer{ec, jose.ES256, "", false}.sign(t, b.claims(nil))
	var taken atomic.Int64
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := b.show(t, assertion); err == nil {
				taken.Add(1)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 1, taken.Load())
}

func TestSpentIDsAreBoundedAndNoneIsForgottenEarly(t *testing.T) {
	s := newSpentIDs()
	s.most = 3
	now := newClock().Now()
	for _, id := range []string{"a", "b", "c"} {
		require.NoError(t, s.spend("one", id, now, now.Add(time.Minute)))
	}
	require.Error(t, s.spend("one", "a", now, now.Add(time.Minute)))
	e := asError(t, s.spend("one", "d", now, now.Add(time.Minute)))
	require.Equal(t, Unavailable, e.Kind, "rather than forget one")
	require.NoError(t, s.spend("one", "d", now.Add(2*time.Minute), now.Add(3*time.Minute)))
	require.Len(t, s.ends, 1)
	require.NoError(t, s.spend("two", "d", now.Add(2*time.Minute), now.Add(3*time.Minute)), "ids belong to applications")
}

func TestAnApplicationThatSignsAuthenticatesInNoOtherWay(t *testing.T) {
	ec := ecPair(t, "ec")
	b := withAssertions(t, ec)
	for name, r := range map[string]request{
		"none":              {nil, form("client_id", client)},
		"a secret":          {nil, form("client_id", client, "client_secret", "x")},
		"an empty password": {basic("https%3A%2F%2Fchatgpt.com%2Foauth%2Fclient.json", ""), nil},
		"both": {
			basic("https%3A%2F%2Fchatgpt.com%2Foauth%2Fclient.json", "x"),
			form("client_assertion", signer{ec, jose.ES256, "", false}.sign(t, b.claims(nil)), "client_assertion_type", assertionType),
		},
		"another id": {nil, form("client_id", "https://chatgpt.com/oauth/other.json", "client_assertion", signer{ec, jose.ES256, "", false}.sign(t, b.claims(nil)), "client_assertion_type", assertionType)},
	} {
		a, err := b.Authenticate(t.Context(), r.header, r.form)
		require.Nil(t, a, name)
		require.Contains(t, []Kind{NotAuthentic, Malformed}, asError(t, err).Kind, name)
	}
	_, err := b.show(t, signer{ec, jose.ES256, "", false}.sign(t, b.claims(nil)))
	require.NoError(t, err)
}
