package connect

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMistakeInTheEnvironmentIsToldByItsName: in one line each, whichever variable it is.
func TestMistakeInTheEnvironmentIsToldByItsName(t *testing.T) {
	for name, value := range map[string]string{
		"VAULT_ADDR":           "127.0.0.1:8200",
		"VAULT_AGENT_ADDR":     "localhost:8100",
		"VAULT_CACERT":         "/nowhere",
		"VAULT_CACERT_BYTES":   "x",
		"VAULT_CAPATH":         "/nowhere",
		"VAULT_CLIENT_CERT":    "/nowhere",
		"VAULT_SKIP_VERIFY":    "yes",
		"VAULT_CLIENT_TIMEOUT": "soon",
		"VAULT_MAX_RETRIES":    "-1",
		"VAULT_RATE_LIMIT":     "fast",
		"VAULT_SRV_LOOKUP":     "x",
		"VAULT_PROXY_ADDR":     "proxy:3128",
		"VAULT_HEADERS":        "x",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("VAULT_TOKEN", "a-token")
			t.Setenv(name, value)
			_, err := FromEnvironment(&strings.Builder{})
			require.ErrorContains(t, err, name+": ")
			require.NotContains(t, err.Error(), "\n")
			require.NotContains(t, err.Error(), "parse ", "Go's own words")
		})
	}
}

func TestAnAddressWithoutASchemeSaysHowToWriteIt(t *testing.T) {
	for _, address := range []string{"127.0.0.1:8200", "localhost:8200", "vault.example.com", "vault.example.com:8200"} {
		t.Setenv("VAULT_ADDR", address)
		_, err := FromEnvironment(&strings.Builder{})
		require.EqualError(t, err, `VAULT_ADDR: "`+address+`" is not a valid URL: write it as "https://host:port"`)
	}
}

// TestVaultsAnswersAreReadWhateverTheEnvironmentHas: VAULT_WRAP_TTL would have each of
// them wrapped.
func TestVaultsAnswersAreReadWhateverTheEnvironmentHas(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Wrap-Ttl") != "" || r.Header.Get("X-Vault-Token") != "a-token" {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = w.Write([]byte(`{"data":{"x":"y"}}`))
	}))
	t.Cleanup(server.Close)
	t.Setenv("VAULT_ADDR", server.URL)
	t.Setenv("VAULT_TOKEN", "a-token")
	t.Setenv("VAULT_WRAP_TTL", "60s")
	t.Setenv("VAULT_MFA", "method:123456")
	var stderr strings.Builder
	client, err := FromEnvironment(&stderr)
	require.NoError(t, err)
	require.Contains(t, stderr.String(), "warning: VAULT_WRAP_TTL has no effect")
	secret, err := client.Logical().ReadWithContext(context.Background(), "x")
	require.NoError(t, err)
	require.Equal(t, "y", secret.Data["x"])
}

func TestWhatTravelsInClearIsWarnedOf(t *testing.T) {
	t.Setenv("VAULT_ADDR", "http://vault.example.com:8200")
	t.Setenv("VAULT_TOKEN", "a-token")
	t.Setenv("VAULT_SKIP_VERIFY", "true")
	var stderr strings.Builder
	_, err := FromEnvironment(&stderr)
	require.NoError(t, err)
	require.Contains(t, stderr.String(), "plain HTTP to another machine")
	require.Contains(t, stderr.String(), "VAULT_SKIP_VERIFY")
}
