package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/commandline"
	"vault-plugin-secrets-mcp/gateway/config"
)

const (
	publicBlock = "listener {\n public_url = \"https://MCP.example.com:443\"\n}\n"
	signInBlock = publicBlock + "sign_in {\n dynamic_registration = true\n login \"employees\" {\n  mount = \"oidc-mcp\"\n  role = \"mcp\"\n }\n}\n"

	issuerDocument = "/.well-known/oauth-authorization-server/sign-in"
)

// get asks the main listener, and follows no redirect.
func (s *stage) get(path string) (int, http.Header, string) {
	s.t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Get("http://" + s.gateway.mainListener.Addr().String() + path)
	require.NoError(s.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	return response.StatusCode, response.Header, string(body)
}

func TestAGatewayWithTheBlockSignsPeopleIn(t *testing.T) {
	s := newStage(t)
	s.start(signInBlock)
	s.ready()
	status, _, body := s.get(issuerDocument)
	require.Equal(t, http.StatusOK, status, body)
	var document map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &document))
	require.Equal(t, "https://mcp.example.com/sign-in", document["issuer"])

	status, header, _ := s.get("/sign-in/servers/files/mcp")
	require.Equal(t, http.StatusUnauthorized, status)
	require.Contains(t, header.Get("WWW-Authenticate"), `resource_metadata="https://mcp.example.com/.well-known/oauth-protected-resource/sign-in/servers/files/mcp"`,
		"the gate and the documents spell the gateway's URL in one way")

	status, _, body = s.get("/sign-in/authorize?client_id=nobody&redirect_uri=" + url.QueryEscape("https://evil.example.com"))
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, body, "not known here")
	s.works(http.DefaultClient, s.url("http")) // today's endpoints are as they were
	status, _, _ = s.get("/.well-known/oauth-protected-resource/servers/files/mcp")
	require.Equal(t, http.StatusNotFound, status)
}

func TestTheRootHasAPage(t *testing.T) {
	s := newStage(t)
	s.start("")
	s.ready()
	status, header, body := s.get("/")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "text/html; charset=utf-8", header.Get("Content-Type"))
	require.NotContains(t, body, "files", "no server of the registry is named")
}

func TestAReloadBringsSignInAndTakesItAway(t *testing.T) {
	s := newStage(t)
	s.start("")
	s.ready()
	with := func(more string) func() (*config.Config, error) {
		return func() (*config.Config, error) { return s.parse(more) }
	}
	status, _, _ := s.get(issuerDocument)
	require.Equal(t, http.StatusNotFound, status)
	s.gateway.reload(with(signInBlock))
	status, _, _ = s.get(issuerDocument)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "1", s.metric("config_last_reload_successful"))
	applications := s.gateway.signIn.applications

	s.gateway.reload(with(signInBlock))
	require.Same(t, applications, s.gateway.signIn.applications, "what is known of applications outlives a reload")

	s.gateway.reload(with(publicBlock))
	status, _, body := s.get(issuerDocument)
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, body, "There is no sign-in at this gateway")
}

// TestSignInAfterAReloadAsksTheVaultOfTheStart: the block vault counts from the next start on, for
// people as for the gateway itself.
func TestSignInAfterAReloadAsksTheVaultOfTheStart(t *testing.T) {
	s := newStage(t)
	s.start("")
	s.ready()
	settings := s.settings(signInBlock)
	settings.Vault.Mount = "elsewhere"
	s.gateway.reload(func() (*config.Config, error) { return settings, nil })
	require.NotNil(t, s.gateway.signIn.people)
	require.Equal(t, s.gateway.settings.Vault.Mount+"/creds/cursor", s.gateway.signIn.people.CredsPath("cursor"))
}

func TestAReloadWithABrokenFileOfAnApplicationLeavesTheOldSettings(t *testing.T) {
	s := newStage(t)
	s.start(signInBlock)
	s.ready()
	secret := filepath.Join(t.TempDir(), "secret")
	block := fmt.Sprintf("%ssign_in {\n login \"employees\" {\n  mount = \"oidc-mcp\"\n  role = \"mcp\"\n }\n application \"desk\" {\n  redirect_uris = [\"https://desk.example.com/callback\"]\n  secret_file = %q\n }\n}\n", publicBlock, secret)
	require.NoError(t, os.WriteFile(secret, []byte("a-secret-that-is-long-enough-for-everybody\n"), 0o600))
	settings := s.settings(block)
	require.NoError(t, checkSignIn(settings))
	require.NoError(t, os.Remove(secret))
	require.Error(t, checkSignIn(settings), "-check-config finds it, too")
	s.gateway.reload(func() (*config.Config, error) { return settings, nil })
	require.Equal(t, "0", s.metric("config_last_reload_successful"))
	require.Contains(t, s.log.String(), "sign-in cannot take the configuration: the old one stays in effect")
	_, _, body := s.get(issuerDocument)
	require.Contains(t, body, "registration_endpoint", "as before")
}

func TestCheckConfigKnowsTheBlock(t *testing.T) {
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "gateway.hcl"), filepath.Join(dir, "secret-id")
	require.NoError(t, os.WriteFile(secret, []byte("secret"), 0o600))
	write := func(more string) {
		text := fmt.Sprintf("vault {\n address = \"https://vault.example.com\"\n auth \"approle\" {\n  role_id = \"r\"\n  secret_id_file = %q\n }\n}\naudit {\n file = \"stdout\"\n}\n", secret)
		require.NoError(t, os.WriteFile(file, []byte(text+more), 0o600))
	}
	check := func() (int, string) {
		var stdout, stderr bytes.Buffer
		return run([]string{"-config", file, "-check-config"}, &stdout, &stderr), stdout.String() + stderr.String()
	}
	write(signInBlock)
	code, output := check()
	require.Equal(t, commandline.ExitOK, code, output)
	write("sign_in {\n login \"employees\" {\n  mount = \"oidc-mcp\"\n  role = \"mcp\"\n }\n}\n")
	code, output = check()
	require.Equal(t, commandline.ExitFailed, code)
	require.Contains(t, output, "public_url")
}
