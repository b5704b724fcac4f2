package terraform

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// recorder stands before a Vault, and records the requests to it, and the tokens in its
// answers.
type recorder struct {
	t      *testing.T
	server *httptest.Server
	mu     sync.Mutex
	asked  []string
	tokens []string
}

func record(t *testing.T, h *harness.Harness) *recorder {
	t.Helper()
	target, err := url.Parse(h.Vault.Address())
	require.NoError(t, err)
	r := &recorder{t: t}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) { request.SetURL(target) },
		ModifyResponse: func(answer *http.Response) error {
			content, err := io.ReadAll(answer.Body)
			answer.Body = io.NopCloser(bytes.NewReader(content))
			var body struct{ Data harness.Map }
			if json.Unmarshal(content, &body) == nil && body.Data["token"] != nil {
				r.mu.Lock()
				defer r.mu.Unlock()
				token := h.Token(body.Data)
				h.Secret(token)
				r.tokens = append(r.tokens, token)
			}
			return err
		},
	}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		request.Body = io.NopCloser(bytes.NewReader(body))
		r.mu.Lock()
		r.asked = append(r.asked, request.Method+" "+request.URL.RequestURI()+" "+canonical(body))
		r.mu.Unlock()
		proxy.ServeHTTP(w, request)
	}))
	t.Cleanup(r.server.Close)
	return r
}

// canonical is JSON with its names in order.
func canonical(body []byte) string {
	var value any
	if len(body) == 0 || json.Unmarshal(body, &value) != nil {
		return string(body)
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return string(body)
	}
	return string(encoded)
}

// client is one of Vault through the recorder.
func (r *recorder) client(token string) *api.Client {
	r.t.Helper()
	config := api.DefaultConfig()
	config.Address = r.server.URL
	client, err := api.NewClient(config)
	require.NoError(r.t, err)
	client.SetToken(token)
	client.ClearNamespace()
	return client
}

func (r *recorder) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = nil
}

// writes are the requests that may change something, in order of their text: Terraform sends many
// at once.
func (r *recorder) writes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var writes []string
	for _, request := range r.asked {
		if request[:4] != "GET " && request[:5] != "LIST " {
			writes = append(writes, request)
		}
	}
	slices.Sort(writes)
	return writes
}
