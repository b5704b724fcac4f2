package commands

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/kms/kmskey"
	"vault-plugin-secrets-mcp/test/stage"
)

// unregister takes the plugin out of Vault's catalog, in every version.
func unregister(t *testing.T, h *harness.Harness) {
	t.Helper()
	for _, entry := range h.Read("sys/plugins/catalog")["detailed"].([]any) {
		plugin := entry.(harness.Map)
		if plugin["name"] != provision.PluginName {
			continue
		}
		_, err := h.Vault.Client().Logical().DeleteWithDataWithContext(t.Context(), "sys/plugins/catalog/secret/"+provision.PluginName,
			map[string][]string{"version": {plugin["version"].(string)}})
		require.NoError(t, err)
	}
}

// ward is a broker to be examined, with everything in order, and an administrator
// of it who is not root.
type ward struct {
	*stage.Stage
	kms   *kmskey.Key
	admin string // the administrator's token
	env   []string
}

func newWard(t *testing.T) *ward {
	t.Helper()
	k := kmskey.NewDouble(t)
	s := stage.New(t, harness.GatewayOptions{Env: k.Environment(), Top: "kms {\n  refresh = \"1s\"\n}\n"})
	s.Write("mcp/config/kms", k.Settings())
	s.Client("cursor", harness.Map{"token_ttl": "720h"})
	s.Client("beside-an-agent", harness.Map{"token_ttl": "1h"}) // its own token is nobody's
	s.Read("mcp/creds/beside-an-agent")
	w := &ward{Stage: s, kms: k, admin: stage.Holder(t, s.Harness, policies.AdminName, policies.Admin).Token()}
	w.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir, "GORACE=atexit_sleep_ms=0", "VAULT_ADDR=" + s.Vault.Address(),
		"VAULT_TOKEN=" + w.admin, "MCP_GATEWAY_URL=" + s.Gateway.URL, "MCP_GATEWAY_ADMIN_URL=" + s.Gateway.Admin,
	}
	return w
}

// doctor runs mcp-bootstrap doctor and returns what it printed and its status.
func (w *ward) doctor(t *testing.T, env, args []string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), w.Programs.Bootstrap, append([]string{"doctor"}, args...)...)
	cmd.Env = append(append([]string{}, w.env...), env...)
	out, _ := cmd.CombinedOutput()
	require.NotContains(t, string(out), w.admin)
	return string(out), cmd.ProcessState.ExitCode()
}

// healthy fails the test where the doctor finds something.
func (w *ward) healthy(t *testing.T) {
	t.Helper()
	w.Eventually("nothing is wrong", func() error { // a gateway may be a moment behind
		out, status := w.doctor(t, nil, nil)
		if status != 0 || !strings.Contains(out, "Nothing is wrong.") {
			return errFindings{out}
		}
		return nil
	})
}

// unwrapped waits until the gateway has every data key that there is.
func (w *ward) unwrapped(t *testing.T) {
	t.Helper()
	keys, _ := w.Read("mcp/gateway/data-keys")["data_keys"].(harness.Map)
	require.NotEmpty(t, keys)
	w.Eventually("the gateway has the data keys", func() error {
		log, err := os.ReadFile(w.Gateway.Process.Log())
		if err != nil {
			return err
		}
		for id := range keys {
			if !regexp.MustCompile(`has unwrapped a data key"[^\n]*"` + regexp.QuoteMeta(id) + `"`).Match(log) {
				return errFindings{id + " is missing"}
			}
		}
		return nil
	})
}

type errFindings struct{ out string }

func (e errFindings) Error() string { return e.out }

// gatewayFile is the gateway's file with a command that is allowed.
func (w *ward) gatewayFile(t *testing.T, command string) string {
	t.Helper()
	content, err := os.ReadFile(w.Gateway.Config)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "gateway.hcl")
	require.NoError(t, os.WriteFile(path, append(content, "\nstdio {\n  allowed_commands = ["+strconv.Quote(command)+"]\n}\n"...), 0o600))
	return path
}

// token makes a token of Vault.
func (w *ward) token(t *testing.T, request *api.TokenCreateRequest) string {
	t.Helper()
	secret, err := w.Vault.Client().Auth().Token().CreateWithContext(t.Context(), request)
	require.NoError(t, err)
	w.Secret(secret.Auth.ClientToken)
	return secret.Auth.ClientToken
}

// register registers another program as the version that runs.
func (w *ward) register(t *testing.T, name string, change func([]byte) []byte, running harness.Map) {
	t.Helper()
	program, err := os.ReadFile(filepath.Join(w.Dir, "plugins", provision.PluginName))
	require.NoError(t, err)
	path := filepath.Join(w.Dir, "plugins", name)
	require.NoError(t, os.WriteFile(path, change(program), 0o700))
	sum, err := provision.Checksum(path)
	require.NoError(t, err)
	w.Write("sys/plugins/catalog/secret/"+provision.PluginName, harness.Map{"version": running["version"], "sha256": sum, "command": name})
}

// wrongHealth answers for a Vault whose clock is a minute slow.
func wrongHealth(rw http.ResponseWriter, r *http.Request, behind http.Handler) {
	if r.URL.Path != "/v1/sys/health" {
		behind.ServeHTTP(rw, r)
		return
	}
	answer := httptest.NewRecorder()
	behind.ServeHTTP(answer, r)
	var health harness.Map
	if json.NewDecoder(bytes.NewReader(answer.Body.Bytes())).Decode(&health) == nil {
		health["server_time_utc"] = time.Now().Add(-time.Minute).Unix()
	}
	_ = json.NewEncoder(rw).Encode(health)
}

// wrongVersion answers for a Vault whose mounts were tuned, and not reloaded.
func wrongVersion(rw http.ResponseWriter, r *http.Request, behind http.Handler) {
	answer := httptest.NewRecorder()
	behind.ServeHTTP(answer, r)
	rw.WriteHeader(answer.Code)
	_, _ = rw.Write(pluginVersion.ReplaceAll(answer.Body.Bytes(), []byte(`"plugin_version":"v9.9.9"`)))
}

var pluginVersion = regexp.MustCompile(`"plugin_version":"[^"]*"`)

// wrongDate answers for a gateway whose clock is two minutes fast.
func wrongDate(rw http.ResponseWriter, r *http.Request, behind http.Handler) {
	answer := httptest.NewRecorder()
	behind.ServeHTTP(answer, r)
	rw.Header().Set("Date", time.Now().Add(2*time.Minute).UTC().Format(http.TimeFormat))
	rw.WriteHeader(answer.Code)
	_, _ = rw.Write(answer.Body.Bytes())
}
