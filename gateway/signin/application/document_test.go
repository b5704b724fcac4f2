package application

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/seal"
)

const (
	prefix = "https://vendor.example/apps/"
	one    = prefix + "one.json"
)

func withDocuments(t *testing.T) *bed {
	t.Helper()
	return newBed(t, config.SignIn{MetadataDocuments: []string{prefix}})
}

func TestADocumentSaysWhoTheApplicationIs(t *testing.T) {
	b := withDocuments(t)
	b.JSON(one, document(one, nil))
	a := b.find(t, one)
	require.Equal(t, one, a.ClientID)
	require.Equal(t, one, a.ID)
	require.Equal(t, "Test", a.Name)
	require.Equal(t, "vendor.example", a.Host)
	require.Equal(t, VouchDocument, a.Vouch)
	require.Equal(t, MethodNone, a.AuthMethod, "as one that says nothing")
	checkRedirects(t, a, []string{"https://vendor.example/cb"}, []string{"https://vendor.example/cb/"})
	b.JSON(prefix+"two", document(prefix+"two", map[string]any{"client_name": "\u202e\u200b"}))
	require.Equal(t, "vendor.example", b.find(t, prefix+"two").Name, "a name that cannot be seen is none")
}

// TestOnlyDocumentsUnderAPrefixAreFetched: nothing is sent anywhere else.
func TestOnlyDocumentsUnderAPrefixAreFetched(t *testing.T) {
	b := withDocuments(t)
	for _, id := range []string{
		"https://vendor.example/other/one.json", "https://vendor.example/apps", "https://vendor.example/apps/", "https://vendor.example/appsx/one.json",
		"https://vendor.example:8443/apps/one.json", "https://evil.example/apps/one.json", "https://vendor.example.evil.example/apps/one.json",
		"https://vendor.example/apps/../other/one.json", "https://vendor.example/apps/%2e%2e/other/one.json", "https://vendor.example/apps/..%2fother",
		"https://vendor.example/apps/..;/other", "https://vendor.example@evil.example/apps/one.json", "https://user@vendor.example/apps/one.json",
		"https://VENDOR.example/apps/one.json", "https://vendor.example./apps/one.json", "https://vendor.example/APPS/one.json",
		"https://vendor.example/apps%2fone.json", `https://vendor.example\apps\one.json`, "https://vendor.example/apps/one.json#x",
		"https://vendor.example/apps/one.json?x=y", "https://vendor.example/apps/one.json?", "http://vendor.example/apps/one.json",
		"HTTPS://vendor.example/apps/one.json", " https://vendor.example/apps/one.json", "https://vendor.example/apps/one.json\n",
		"https:/vendor.example/apps/one.json", "https://", "https://vendor.example", "//vendor.example/apps/one.json",
		"https://vendor.example/apps/" + strings.Repeat("a", 5000), "https://vendor.example/apps/" + strings.Repeat("a", 500), "https://[::1]/apps/one.json", "https://2130706433/apps/one.json",
	} {
		e := b.refused(t, id)
		require.Contains(t, []Kind{Unknown, Refused}, e.Kind, id)
		_, code := e.OAuth()
		require.Equal(t, "invalid_client", code)
	}
	require.Zero(t, b.asked.Load())
	require.Contains(t, b.refused(t, "https://evil.example/apps/one.json").Advice, "metadata_documents")
}

// TestAPortThatIsTheUsualOneIsAnotherClientID: the document may be fetched, and is not
// the document of that URL.
func TestAPortThatIsTheUsualOneIsAnotherClientID(t *testing.T) {
	b := withDocuments(t)
	other := "https://vendor.example:443/apps/one.json"
	b.JSON(one, document(one, nil))
	b.JSON(other, document(one, nil))
	require.Contains(t, b.refused(t, other).Message, "its client_id is not its URL")
}

func TestDocumentsThatAreNotTheirOwnAreRefused(t *testing.T) {
	signed := func(more map[string]any) map[string]any {
		m := map[string]any{"token_endpoint_auth_method": MethodSigned}
		for name, value := range more {
			m[name] = value
		}
		return document(one, m)
	}
	tests := map[string]struct {
		document any
		want     string
	}{
		"another client_id":             {document(prefix+"two.json", nil), "its client_id is not its URL"},
		"a client_id with a slash more": {document(one+"/", nil), "its client_id is not its URL"},
		"a client_id in another case":   {document("https://Vendor.example/apps/one.json", nil), "its client_id is not its URL"},
		"an escaped client_id":          {document(prefix+"%6fne.json", nil), "its client_id is not its URL"},
		"no client_id":                  {document(one, map[string]any{"client_id": nil}), "its client_id is not its URL"},
		"a client_id in other letters":  {document(one, map[string]any{"client_id": nil, "Client_ID": one}), "its client_id is not its URL"},
		"no redirects":                  {document(one, map[string]any{"redirect_uris": nil}), "redirect_uris is empty"},
		"redirects of another type":     {document(one, map[string]any{"redirect_uris": "https://vendor.example/cb"}), "redirect_uris has another type"},
		"only redirects that are none":  {document(one, map[string]any{"redirect_uris": []string{"javascript:alert(1)", "https://u@vendor.example/"}}), "redirect_uris is empty"},
		"more redirects than allowed":   {document(one, map[string]any{"redirect_uris": make([]string, 31)}), "at most 30"},
		"a secret":                      {document(one, map[string]any{"client_secret": "x"}), "it has a client_secret"},
		"a secret to authenticate with": {document(one, map[string]any{"token_endpoint_auth_method": MethodBasic}), "token_endpoint_auth_method is not none or private_key_jwt"},
		"another method":                {document(one, map[string]any{"token_endpoint_auth_method": "tls_client_auth"}), "token_endpoint_auth_method is not"},
		"no code grant":                 {document(one, map[string]any{"grant_types": []string{"client_credentials"}}), "does not have authorization_code"},
		"no code response":              {document(one, map[string]any{"response_types": []string{"token"}}), "does not have code"},
		"signed without keys":           {signed(nil), "needs one of jwks and jwks_uri"},
		"signed with two sets of keys":  {signed(map[string]any{"jwks": map[string]any{}, "jwks_uri": "https://vendor.example/k"}), "needs one of jwks and jwks_uri"},
		"signed with private keys":      {signed(map[string]any{"jwks": map[string]any{"keys": []any{map[string]any{"kty": "oct", "k": "AAAA"}}}}), "its jwks cannot be used: key 1 is private"},
		"a list":                        {[]string{"x"}, "it is not a JSON object"},
		"a null":                        {nil, "it is not a JSON object"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := withDocuments(t)
			b.JSON(one, test.document)
			e := b.refused(t, one)
			require.Equal(t, Unavailable, e.Kind, "another copy may be better")
			require.Contains(t, e.Message, test.want)
			require.Contains(t, e.Message, "vendor.example")
		})
	}
}

func TestKeysOfADocumentAreAtItsOwnHostOrAtOneOfTheFile(t *testing.T) {
	b := newBed(t, config.SignIn{MetadataDocuments: []string{prefix, "https://claude.ai/oauth/"}})
	for keys, want := range map[string]bool{
		"https://vendor.example/keys": true, "https://claude.ai/keys": true,
		"https://evil.example/keys": false, "https://vendor.example:8443/keys": false, "http://vendor.example/keys": false,
		"https://user@vendor.example/keys": false, "https://vendor.example/../keys": false, "http://localhost/keys": false, "https://169.254.169.254/latest": false,
	} {
		id := prefix + strings.Map(func(c rune) rune {
			if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
				return c
			}
			return '-'
		}, keys)
		b.JSON(id, document(id, map[string]any{"token_endpoint_auth_method": MethodSigned, "jwks_uri": keys}))
		if want {
			require.Equal(t, MethodSigned, b.find(t, id).AuthMethod, keys)
			continue
		}
		require.Equal(t, Refused, b.refused(t, id).Kind, keys)
	}
}

// TestAPrivateSchemeOfADocumentNeedsTheFile: any program of a machine can take one.
func TestAPrivateSchemeOfADocumentNeedsTheFile(t *testing.T) {
	b := withDocuments(t)
	b.JSON(one, document(one, map[string]any{"redirect_uris": []string{"cursor://a/b", "https://vendor.example/cb", "https://elsewhere.example/cb"}}))
	a := b.find(t, one)
	checkRedirects(t, a, []string{"https://vendor.example/cb", "https://elsewhere.example/cb"}, []string{"cursor://a/b"})
	b.settings.RedirectSchemes = []string{"cursor"}
	require.NoError(t, b.Configure(b.settings))
	require.True(t, b.find(t, one).AllowsRedirect("cursor://a/b"))
	b.JSON(prefix+"two", document(prefix+"two", map[string]any{"redirect_uris": []string{"other://a/b"}}))
	e := b.refused(t, prefix+"two")
	require.Equal(t, Refused, e.Kind)
	require.Contains(t, e.Advice, "redirect_schemes")
}

func TestAnswersThatAreNoDocumentAreRefusedWithWords(t *testing.T) {
	tests := map[string]struct {
		page http.HandlerFunc
		want string
	}{
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, prefix+"two.json", http.StatusFound)
		}, "redirects (status 302), which is not followed"},
		"a redirect to a metadata service": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusPermanentRedirect)
		}, "redirects (status 308)"},
		"not found":  {http.NotFound, "answers with status 404"},
		"forbidden":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "answers with status 403"},
		"no content": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, "answers with status 204"},
		"HTML": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<!doctype html>")
		}, "does not say that it is JSON"},
		"JSON that is called text": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(w, "{}")
		}, "does not say that it is JSON"},
		"HTML that is called JSON": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, "<!doctype html>")
		}, "it is not a JSON object"},
		"more than 64 KB": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"client_id":"`+one+`","x":"`+strings.Repeat("x", 64<<10)+`"}`)
		}, "it is larger than 64 KB"},
		"trailing data": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"client_id":"`+one+`"}{}`)
		}, "it is not a JSON object"},
		"a header that is too large": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Large", strings.Repeat("x", 40<<10))
			w.WriteHeader(http.StatusOK)
		}, "it could not be fetched"},
		"an end in the middle": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, "{")
		}, "it could not be read"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := withDocuments(t)
			b.put(one, test.page)
			b.JSON(prefix+"two.json", document(one, nil))
			e := b.refused(t, one)
			require.Equal(t, Unavailable, e.Kind)
			require.Contains(t, e.Message, test.want)
			status, code := e.OAuth()
			require.Equal(t, http.StatusServiceUnavailable, status)
			require.Equal(t, "temporarily_unavailable", code)
			require.EqualValues(t, 1, b.asked.Load(), "nothing else is fetched")
		})
	}
}

// TestAServerThatDoesNotEndIsNotWaitedFor: neither for its headers nor for its body.
func TestAServerThatDoesNotEndIsNotWaitedFor(t *testing.T) {
	for name, begin := range map[string]func(http.ResponseWriter){
		"its headers": func(http.ResponseWriter) {},
		"its body": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, "{")
			w.(http.Flusher).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := withDocuments(t)
			require.Equal(t, 3*time.Second, b.documents.fetcher.timeout)
			b.documents.fetcher.timeout = 50 * time.Millisecond
			// Not until the request ends: the server would then end the answer, and the
			// connection may still carry that.
			ended := make(chan struct{})
			t.Cleanup(func() { close(ended) })
			b.put(one, func(w http.ResponseWriter, _ *http.Request) {
				begin(w)
				<-ended
			})
			e := b.refused(t, one)
			require.Equal(t, Unavailable, e.Kind)
			require.ErrorIs(t, e.Unwrap(), context.DeadlineExceeded)
		})
	}
}

// TestFewFetchesGoOnAtOnce: more wait, and give up in time.
func TestFewFetchesGoOnAtOnce(t *testing.T) {
	b := withDocuments(t)
	b.documents.fetcher.timeout = 50 * time.Millisecond
	for range maxFetches {
		b.documents.fetcher.slots <- struct{}{}
	}
	require.Contains(t, b.refused(t, one).Message, "too many documents are being fetched")
	require.Zero(t, b.asked.Load())
}

func TestDocumentsAreAskedForWithoutCookiesOrCredentials(t *testing.T) {
	b := withDocuments(t)
	var got atomic.Pointer[http.Request]
	b.put(one, func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Clone(context.Background()))
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"client_id":%q,"redirect_uris":["https://vendor.example/cb"]}`, one)
	})
	b.find(t, one)
	require.Equal(t, http.Header{"Accept": {"application/json"}, "User-Agent": {"mcp-gateway"}, "Connection": {"close"}}, got.Load().Header)
}

// TestTheUsualDialerGuardsFetches: a host of the file that stands for a metadata service, and
// a certificate that is not the host's.
func TestTheUsualDialerGuardsFetches(t *testing.T) {
	v := newVendors(t)
	registry, err := New(Options{
		Settings: &config.SignIn{MetadataDocuments: []string{"https://169.254.169.254/apps/", "https://[fd00:ec2::254]/apps/", "https://vendor.example/apps/"}},
		Sealer:   seal.New(nil), Roots: v.roots,
	})
	require.NoError(t, err)
	for _, id := range []string{"https://169.254.169.254/apps/one.json", "https://[fd00:ec2::254]/apps/one.json"} {
		_, err := registry.Find(t.Context(), id)
		require.ErrorContains(t, asError(t, err).Unwrap(), "address is not allowed", id)
		require.NotContains(t, asError(t, err).Message+asError(t, err).Advice, "link-local", "strangers read it")
	}
	other := newVendors(t)
	registry, err = New(Options{Settings: &config.SignIn{MetadataDocuments: []string{prefix}}, Sealer: seal.New(nil), Roots: other.roots, Dial: v.Dial})
	require.NoError(t, err)
	_, err = registry.Find(t.Context(), one)
	require.ErrorContains(t, asError(t, err).Unwrap(), "certificate")
}
