package commands

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
)

// message is a command that fails, and its message.
type message struct {
	name   string
	args   []string
	env    []string
	status int // 0 stands for 1, the status of a failure
	want   []string
}

// check runs the commands. Each prints one message, in few lines, with the remedy.
func (m message) check(t *testing.T, h *harness.Harness, env []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), h.Programs.Bootstrap, m.args...)
	cmd.Env = append(append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.Dir, "GORACE=atexit_sleep_ms=0"}, env...), m.env...)
	output, err := cmd.CombinedOutput()
	out := string(output)
	require.Error(t, err, out)
	status := m.status
	if status == 0 {
		status = 1
	}
	require.Equal(t, status, cmd.ProcessState.ExitCode(), out)
	for _, want := range m.want {
		require.Contains(t, out, want)
	}
	require.NotContains(t, out, "Error making API request", "it is not put into words")
	require.NotContains(t, out, "goroutine ")
	for _, secret := range []string{h.Vault.RootToken, "secret-that-nobody-shall-see"} {
		require.NotContains(t, out, secret)
	}
}

// TestEveryCommandSaysWhatIsWrongAndWhatToDo breaks each command on purpose, beside a
// real Vault.
func TestEveryCommandSaysWhatIsWrongAndWhatToDo(t *testing.T) {
	h := harness.New(t)
	taken := listening(t)
	noVault := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(noVault.Close)
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail on purpose
	tls.StartTLS()
	t.Cleanup(tls.Close)

	files := filepath.Join(h.Dir, "files")
	write := func(dir, name, content string) {
		require.NoError(t, os.MkdirAll(dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	write(files, "a.json", `{"name": "a", "allowed_servers": []}`)
	write(filepath.Join(h.Dir, "refs"), "a.json", `{"name": "a", "allowed_servers": [], "access_token_ref": {"env": "NOT_SET"}}`)
	write(filepath.Join(h.Dir, "two"), "a.hcl", `client "a" {
  access_token            = "secret-that-nobody-shall-see"
  access_token_ciphertext = "AAAA"
}`)
	write(filepath.Join(h.Dir, "kms"), "a.hcl", "kms {\n  key_id = \"alias/mcp\"\n}\nkms {\n  key_id = \"alias/other\"\n}\n")
	write(filepath.Join(h.Dir, "group"), "a.json", `{"name": "tools", "included_tools": ["a__b"]}`)
	write(filepath.Join(h.Dir, "plugins"), "no-plugin", "#!/bin/sh\necho hello\n")
	require.NoError(t, os.Chmod(filepath.Join(h.Dir, "plugins", "no-plugin"), 0o700))
	plugin := filepath.Join(h.Dir, "plugins", "vault-plugin-secrets-mcp")
	nobody, err := h.Vault.Client().Auth().Token().CreateWithContext(t.Context(), &api.TokenCreateRequest{Policies: []string{"none"}, NoDefaultPolicy: true})
	require.NoError(t, err)

	apply := func(more ...string) []string {
		return append([]string{"apply", "-f", files, "-plugin", plugin}, more...)
	}
	dir := func(name string) []string {
		return []string{"apply", "-f", filepath.Join(h.Dir, name), "-plugin", plugin}
	}
	vault := func(address string) []string { return []string{"VAULT_ADDR=" + address, "VAULT_MAX_RETRIES=0"} }
	export := []string{"export", "-client", "a", "-format", "cursor", "-gateway-url", "https://mcp.example.com"}

	for _, m := range []message{
		{"apply without a folder", []string{"apply"}, nil, 2, []string{"-f DIR is missing"}},
		{"apply with a flag nobody knows", apply("-dryrun"), nil, 2, []string{"-dryrun", "-dry-run"}},
		{"apply with an argument too many", apply("x"), nil, 2, []string{`takes no argument "x"`}},
		{"apply with a folder that is not there", dir("gone"), nil, 0, []string{"gone", "no such file"}},
		{"apply with a variable that is not set", dir("refs"), nil, 0, []string{"a.json", "access_token_ref.env", "NOT_SET is not set"}},
		{"apply with two tokens for a client", dir("two"), nil, 0, []string{"a.hcl", `client "a"`, "give one of them"}},
		{"apply with two keys", dir("kms"), nil, 0, []string{"a.hcl", "kms", "keep one of them"}},
		{"apply with a tool group", dir("group"), nil, 0, []string{"a.json", "tool group", "allowed_tools"}},
		{"apply without a Vault", apply(), vault("http://127.0.0.1:1"), 0, []string{"http://127.0.0.1:1", "connection refused", "point VAULT_ADDR at it"}},
		{"apply with something else for Vault", apply(), vault(noVault.URL), 0, []string{noVault.URL, "is not a Vault"}},
		{"apply with http for https", apply(), vault(strings.Replace(tls.URL, "https", "http", 1)), 0, []string{"must begin with https://"}},
		{"apply with https for http", apply(), vault(strings.Replace(h.Vault.Address(), "http", "https", 1)), 0, []string{"must begin with http://"}},
		{"apply with an unknown authority", apply(), vault(tls.URL), 0, []string{"VAULT_CACERT"}},
		{"apply without a token", apply(), []string{"VAULT_TOKEN="}, 0, []string{"set VAULT_TOKEN", "vault login"}},
		{"apply with a token that has ended", apply(), []string{"VAULT_TOKEN=hvs.secret-that-nobody-shall-see"}, 0, []string{"invalid token", "vault login"}},
		{"apply with a token that may nothing", apply(), []string{"VAULT_TOKEN=" + nobody.Auth.ClientToken}, 0, []string{"permission denied", "mcp-admin does", "bootstrap/policies/mcp-admin.hcl"}},
		{"apply with a namespace, which this Vault has none of", apply(), []string{"VAULT_NAMESPACE=team-a"}, 0, []string{`namespace "team-a"`, "unset VAULT_NAMESPACE"}},
		{"apply at the mount of another engine", apply("-mount", "secret"), nil, 0, []string{"a mount of type kv is at secret/", "-mount"}},
		{"apply with a plugin that is not here", []string{"apply", "-f", files, "-plugin", "/no/plugin"}, nil, 0, []string{"/no/plugin", "-plugin-sha256"}},
		{"apply with a plugin that is not in Vault's folder", []string{"apply", "-f", files, "-adopt", "-plugin", h.Programs.Plugin, "-plugin-command", "elsewhere", "-plugin-version", "v7.0.0"}, nil, 0, []string{"the file elsewhere must lie in the plugin_directory", "Not done:"}},
		{"apply with a program that is not a plugin", []string{"apply", "-f", files, "-adopt", "-mount", "new", "-plugin", filepath.Join(h.Dir, "plugins", "no-plugin"), "-plugin-version", "v7.0.1"}, nil, 0, []string{"Unrecognized remote plugin message: hello", "run the same command again"}},
		{"apply with a checksum alone", apply("-plugin-sha256", strings.Repeat("0", 64)), nil, 0, []string{"-plugin-version"}},
		{"apply with a folder for tokens that cannot be made", apply("-adopt", "-token-dir", "/proc/none"), nil, 0, []string{"/proc/none", "Not done:\n  create client a"}},

		{"export without a client", []string{"export", "-format", "cursor", "-gateway-url", "https://mcp.example.com"}, nil, 2, []string{"-client NAME is missing"}},
		{"export in a format nobody knows", []string{"export", "-client", "a", "-format", "emacs", "-gateway-url", "https://mcp.example.com"}, nil, 2, []string{"emacs", "claude-code"}},
		{"export of a client that is not there", export, nil, 0, []string{`no client "a"`}},
		{"export without a Vault", export, vault("http://127.0.0.1:1"), 0, []string{"connection refused", "point VAULT_ADDR at it"}},
		{"export with a token that may nothing", export, []string{"VAULT_TOKEN=" + nobody.Auth.ClientToken}, 0, []string{"permission denied", "mcp-admin does"}},

		{"doctor with a flag nobody knows", []string{"doctor", "-x"}, nil, 2, []string{"-x", "-gateway-url"}},
		{"doctor without a token", []string{"doctor"}, []string{"VAULT_TOKEN="}, 0, []string{"set VAULT_TOKEN"}},

		{"dev without a Vault", []string{"dev"}, []string{"PATH=/nowhere"}, 0, []string{"no vault on the PATH", "-vault-binary"}},
		{"dev with a port in use", []string{"dev", "-dir", filepath.Join(h.Dir, "dev"), "-vault-binary", h.Programs.Vault, "-vault-address", taken}, nil, 0, []string{taken, "in use", "-vault-address"}},
		{"a demo that is not there", []string{"demo", "x"}, nil, 2, []string{"demo calculator", "demo notes"}},
		{"a demo with a port in use", []string{"demo", "calculator", "-address", taken}, nil, 0, []string{"cannot listen", taken, "-address"}},
		{"a command that is not there", []string{"applyy"}, nil, 2, []string{`no command "applyy"`, "apply"}},
	} {
		t.Run(m.name, func(t *testing.T) {
			m.check(t, h.In(t), []string{"VAULT_ADDR=" + h.Vault.Address(), "VAULT_TOKEN=" + h.Vault.RootToken})
		})
	}

	t.Run("the namespace is sent with each request, and not with that for Vault's health", func(t *testing.T) {
		f := harness.NewFront(t, h.Vault.Address())
		f.Set(func(w http.ResponseWriter, r *http.Request, vault http.Handler) {
			if r.URL.Path == "/v1/sys/health" { // as Enterprise answers
				_, _ = w.Write([]byte(`{"initialized": true, "sealed": false, "enterprise": true, "version": "1.21.0+ent"}`))
				return
			}
			vault.ServeHTTP(w, r)
		})
		cmd := exec.CommandContext(t.Context(), h.Programs.Bootstrap, apply("-dry-run", "-adopt")...)
		cmd.Env = []string{"GORACE=atexit_sleep_ms=0", "HOME=" + h.Dir, "VAULT_ADDR=" + f.URL, "VAULT_TOKEN=" + h.Vault.RootToken, "VAULT_NAMESPACE=team-a"}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		require.Greater(t, len(f.Seen()), 8)
		for _, r := range f.Seen() {
			want := "team-a"
			if r.URL.Path == "/v1/sys/health" {
				want = ""
			}
			require.Equal(t, want, r.Header.Get("X-Vault-Namespace"), r.URL.Path)
		}
	})

	t.Run("a sealed Vault", func(t *testing.T) { // the last: nothing unseals it
		require.NoError(t, h.Vault.Client().Sys().SealWithContext(t.Context()))
		for name, args := range map[string][]string{"apply": apply(), "export": export, "doctor": {"doctor"}} {
			message{name, args, nil, 1, []string{"sealed", "vault operator unseal"}}.check(t, h.In(t), []string{
				"VAULT_ADDR=" + h.Vault.Address(), "VAULT_TOKEN=" + h.Vault.RootToken, "VAULT_MAX_RETRIES=0",
			})
		}
	})
}

// listening is an address in use.
func listening(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}
