package application

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
)

func TestANewKeyIsFetchedAndAStrangersIsNotAskedForEachTime(t *testing.T) {
	old, fresh, stranger := ecPair(t, "old"), ecPair(t, "fresh"), ecPair(t, "stranger")
	b := withAssertions(t, old)
	_, err := b.show(t, signer{old, jose.ES256, "", false}.sign(t, b.claims(nil)))
	require.NoError(t, err)
	asked := b.asked.Load()
	for range 5 {
		_, err = b.show(t, signer{stranger, jose.ES256, "", false}.sign(t, b.claims(nil)))
		require.Equal(t, NotAuthentic, asError(t, err).Kind)
	}
	require.Equal(t, asked, b.asked.Load(), "the copy is less than a minute old")
	b.JSON(keysURL, jwks(fresh))
	b.clock.Add(2 * time.Minute)
	_, err = b.show(t, signer{fresh, jose.ES256, "", false}.sign(t, b.claims(nil)))
	require.NoError(t, err)
	_, err = b.show(t, signer{old, jose.ES256, "", false}.sign(t, b.claims(nil)))
	require.Equal(t, NotAuthentic, asError(t, err).Kind, "a key that was taken away")
	require.Equal(t, asked+1, b.asked.Load())
}

// TestANewKeyWhileTheKeysCannotBeHad: the copy does not say that the application has no such key.
func TestANewKeyWhileTheKeysCannotBeHad(t *testing.T) {
	old, fresh := ecPair(t, "old"), ecPair(t, "fresh")
	b := withAssertions(t, old)
	_, err := b.show(t, signer{old, jose.ES256, "", false}.sign(t, b.claims(nil)))
	require.NoError(t, err)
	b.put(keysURL, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	b.clock.Add(2 * time.Minute)
	for range 2 { // the second one within the pause after a failure
		_, err = b.show(t, signer{fresh, jose.ES256, "", false}.sign(t, b.claims(nil)))
		require.Equal(t, Unavailable, asError(t, err).Kind)
	}
	_, err = b.show(t, signer{old, jose.ES256, "", false}.sign(t, b.claims(nil)))
	require.NoError(t, err, "the last good copy")
	b.JSON(keysURL, jwks(fresh))
	b.clock.Add(failurePause)
	_, err = b.show(t, signer{fresh, jose.ES256, "", false}.sign(t, b.claims(nil)))
	require.NoError(t, err)
}

// TestKeysThatCannotBeHadAreNoWordAgainstTheApplication: 503, so that it does not drop its tokens.
func TestKeysThatCannotBeHadAreNoWordAgainstTheApplication(t *testing.T) {
	ec := ecPair(t, "ec")
	b := withAssertions(t, ec)
	b.put(keysURL, http.NotFound)
	_, err := b.show(t, signer{ec, jose.ES256, "", false}.sign(t, b.claims(nil)))
	e := asError(t, err)
	require.Equal(t, Unavailable, e.Kind)
	require.Contains(t, e.Message, "status 404")
	for name, set := range map[string]any{"private keys": jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: ec.private, KeyID: "ec"}}}, "none": map[string]any{}} {
		b.clock.Add(time.Minute)
		b.JSON(keysURL, set)
		_, err = b.show(t, signer{ec, jose.ES256, "", false}.sign(t, b.claims(nil)))
		require.Equal(t, Unavailable, asError(t, err).Kind, name)
	}
}

func TestKeysMayStandInTheDocumentOrInTheFile(t *testing.T) {
	ec := ecPair(t, "ec")
	b := withAssertions(t)
	b.JSON(client, document(client, map[string]any{"token_endpoint_auth_method": MethodSigned, "jwks": jwks(ec)}))
	_, err := b.show(t, signer{ec, jose.ES256, "", false}.sign(t, b.claims(nil)))
	require.NoError(t, err)

	path := filepath.Join(t.TempDir(), "keys.json")
	text, err := json.Marshal(jwks(ec))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, text, 0o600))
	b.JSON("https://vendor.example/keys", jwks(ec))
	require.NoError(t, b.Configure(&config.SignIn{Applications: []config.SignInApplication{
		{ID: "file", JWKSFile: path}, {ID: "remote", JWKSURI: "https://vendor.example/keys"},
	}}))
	for _, id := range []string{"file", "remote"} {
		a, err := b.show(t, signer{ec, jose.ES256, "", false}.sign(t, b.claims(map[string]any{"iss": id, "sub": id})))
		require.NoError(t, err)
		require.Equal(t, id, a.ID)
		require.Equal(t, MethodSigned, a.AuthMethod)
	}
}
