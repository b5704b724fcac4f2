package dev

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/docrun"
	"vault-plugin-secrets-mcp/test/harness"
)

const (
	applicationRedirect = "http://127.0.0.1:1/callback" // nobody listens there
	pkceVerifier        = "a-verifier-of-forty-three-characters-or-more-"
)

// TestDevLetsTwoPeopleSignIn runs what dev prints with -sign-in, signs alice and bob in as a
// browser and an application would, runs the section of docs/quickstart.md, and ends alice's
// sign-in by the command that Vault names.
func TestDevLetsTwoPeopleSignIn(t *testing.T) {
	d := startDev(t, filepath.Join(t.TempDir(), "it's a dev"), freeAddresses(t), "-sign-in")
	d.awaitReady(t)
	root, _ := d.tokens(t)
	d.isFoundWellForSignIn(t, root)

	alice := d.signIn(t, "alice", "oncall", []string{"engineering", "oncall"})
	bob := d.signIn(t, "bob", "engineering", []string{"engineering"})
	for who, token := range map[string]string{"alice": alice, "bob": bob} {
		status, answer := d.add(t, token)
		require.Equal(t, http.StatusOK, status, "%s: %s", who, answer)
		require.Contains(t, answer, `"result":5`)
	}

	section, _ := docrun.Read(t, "quickstart.md").Section(signInSection)
	d.runCommands(t, section)
	vault := d.vault(t, root)
	list, err := vault.Logical().List("mcp/sign-ins")
	require.NoError(t, err)
	require.Len(t, list.Data["keys"], 2)
	command := ""
	for _, row := range list.Data["key_info"].(harness.Map) {
		if row := row.(harness.Map); row["person"] == "alice" {
			require.Equal(t, "oncall", row["client"])
			command, _ = row["end_with"].(string)
		}
	}
	require.NotEmpty(t, command)
	end := exec.CommandContext(t.Context(), harness.FindPrograms(t).Vault, strings.Fields(command)[1:]...)
	end.Env = []string{"HOME=" + d.dir, "VAULT_ADDR=http://" + d.addresses[0], "VAULT_TOKEN=" + root}
	out, err := end.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Eventually(t, func() bool { status, _ := d.add(t, alice); return status == http.StatusUnauthorized }, 5*time.Second, 20*time.Millisecond)
	status, answer := d.add(t, bob)
	require.Equal(t, http.StatusOK, status, answer)

	statuses, out2 := d.runPrinted(t)
	require.Equal(t, "200 403 401 401", statuses, out2)
	require.Contains(t, out2, "bob")

	d.isFoundWrong(t, root, vault)
	d.interrupt(t)
	d.assertNothingLeft(t)
	logs, err := filepath.Glob(filepath.Join(d.dir, "logs", "*"))
	require.NoError(t, err)
	for _, path := range logs {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, secret := range []string{d.passwordOf(t, "alice"), d.passwordOf(t, "bob"), alice, bob, "hvs."} {
			require.NotContains(t, string(content), secret, path)
		}
	}
}

// isFoundWellForSignIn has the doctor compare the gateway's file with Vault, and look at
// sign-in from outside.
func (d *devSystem) isFoundWellForSignIn(t *testing.T, root string) {
	t.Helper()
	d.warm(t)
	out, err := d.doctor(t, root)
	require.NoError(t, err, out)
	for _, want := range []string{
		"people can sign in: logins: 1, clients that they may act as: 2",
		"applications find sign-in at http://" + d.addresses[1] + "/sign-in/mcp",
		"Nothing is wrong.",
	} {
		require.Contains(t, out, want)
	}
	require.NotContains(t, out, "was not looked at")
}

// isFoundWrong has the doctor look at a role that nobody can sign in by.
func (d *devSystem) isFoundWrong(t *testing.T, root string, vault *api.Client) {
	t.Helper()
	const role = "auth/oidc-mcp/role/mcp"
	_, err := vault.Logical().Write(role, harness.Map{
		"user_claim": "sub", "allowed_redirect_uris": d.gateway() + "/sign-in/callback/", "token_policies": "mcp-person,mcp-admin",
		"token_type": "batch", "token_max_ttl": "1h", "verbose_oidc_logging": true,
	})
	require.NoError(t, err)
	out, err := d.doctor(t, root)
	require.Error(t, err)
	for _, want := range []string{
		"gives the policy mcp-admin, which is not in person_policies (default, mcp-person*)",
		"gives batch tokens",
		"gives tokens that end after 1h0m0s, before session_max of the gateway (12h0m0s)",
		"has verbose_oidc_logging",
		"does not list the redirect " + d.gateway() + "/sign-in/callback: no login begins",
		`no sign-in begins as an application that registers itself: the gateway answers 503, "This login is not set up yet"`,
	} {
		require.Contains(t, out, want)
	}
}

// doctor runs doctor with the gateway's file.
func (d *devSystem) doctor(t *testing.T, root string) (string, error) {
	t.Helper()
	doctor := exec.CommandContext(t.Context(), harness.FindPrograms(t).Bootstrap, "doctor", "-gateway-config="+filepath.Join(d.dir, "gateway.hcl"))
	doctor.Env = append(harness.RaceEnv(), "HOME="+d.dir, "PATH="+os.Getenv("PATH"),
		"VAULT_ADDR=http://"+d.addresses[0], "VAULT_TOKEN="+root, "MCP_GATEWAY_URL="+d.gateway(), "MCP_GATEWAY_ADMIN_URL=http://"+d.addresses[2])
	out, err := doctor.CombinedOutput()
	return string(out), err
}

// passwordOf is the one that dev has printed.
func (d *devSystem) passwordOf(t *testing.T, person string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^  ` + person + ` +([a-z2-7]{12})$`).FindStringSubmatch(d.output(t))
	require.Len(t, found, 2, d.output(t))
	return found[1]
}

// add calls calculator__add at /sign-in/mcp.
func (d *devSystem) add(t *testing.T, token string) (status int, answer string) {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(d.dir, "add.json"))
	require.NoError(t, err)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.signInURL(), bytes.NewReader(body))
	require.NoError(t, err)
	for name, value := range map[string]string{
		"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "calculator__add",
	} {
		request.Header.Set(name, value)
	}
	return sent(t, http.DefaultClient, request)
}

func (d *devSystem) gateway() string   { return "http://" + d.addresses[1] }
func (d *devSystem) signInURL() string { return d.gateway() + "/sign-in/mcp" }

func sent(t *testing.T, client *http.Client, request *http.Request) (status int, body string) {
	t.Helper()
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(content)
}

// browser stops where the application's redirect begins.
type browser struct {
	*http.Client
	stopped *url.URL // where it stopped
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	b := &browser{}
	b.Client = &http.Client{Jar: jar, Timeout: 30 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), applicationRedirect) {
			b.stopped = r.URL
			return http.ErrUseLastResponse
		}
		return nil
	}}
	return b
}

// open gets or, with a form, posts; it returns the page and its address.
func (b *browser) open(t *testing.T, address string, form url.Values) (page string, at *url.URL) {
	t.Helper()
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if form != nil {
		method, body = http.MethodPost, strings.NewReader(form.Encode())
	}
	request, err := http.NewRequestWithContext(t.Context(), method, address, body)
	require.NoError(t, err)
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Origin", request.URL.Scheme+"://"+request.URL.Host)
	}
	response, err := b.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(content), response.Request.URL
}

// hidden is the value of a field of a page.
func hidden(t *testing.T, page, name string) string {
	t.Helper()
	found := regexp.MustCompile(`name="` + name + `" value="([^"]+)"`).FindStringSubmatch(page)
	require.Len(t, found, 2, page)
	return found[1]
}

// signIn signs a person in with an application that registers itself, and returns the access
// token. The page must offer these identities.
func (d *devSystem) signIn(t *testing.T, person, identity string, offered []string) string {
	t.Helper()
	registration, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.gateway()+"/sign-in/register",
		strings.NewReader(`{"redirect_uris": ["`+applicationRedirect+`"], "client_name": "Test", "token_endpoint_auth_method": "none"}`))
	require.NoError(t, err)
	registration.Header.Set("Content-Type", "application/json")
	status, answer := sent(t, http.DefaultClient, registration)
	require.Equal(t, http.StatusCreated, status, answer)
	var application struct {
		ClientID string `json:"client_id"`
	}
	require.NoError(t, json.Unmarshal([]byte(answer), &application))

	sum := sha256.Sum256([]byte(pkceVerifier))
	b := newBrowser(t)
	login, at := b.open(t, d.gateway()+"/sign-in/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {application.ClientID}, "redirect_uri": {applicationRedirect}, "state": {"s"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}, "resource": {d.signInURL()},
	}.Encode(), nil)
	consent, _ := b.open(t, at.Scheme+"://"+at.Host+"/login", url.Values{"id": {hidden(t, login, "id")}, "name": {person}, "password": {d.passwordOf(t, person)}})
	var identities []string
	for _, found := range regexp.MustCompile(`name="identity" [^>]*value="([^"]+)"`).FindAllStringSubmatch(consent, -1) {
		identities = append(identities, found[1])
	}
	require.Equal(t, offered, identities, consent)
	b.open(t, d.gateway()+"/sign-in/consent", url.Values{"form": {hidden(t, consent, "form")}, "identity": {identity}, "decision": {"allow"}})
	require.NotNil(t, b.stopped, "the browser does not come back to the application")

	status, answer = sent(t, http.DefaultClient, tokenRequest(t, d.gateway()+"/sign-in/token", url.Values{
		"grant_type": {"authorization_code"}, "code": b.stopped.Query()["code"], "client_id": {application.ClientID},
		"redirect_uri": {applicationRedirect}, "code_verifier": {pkceVerifier},
	}))
	require.Equal(t, http.StatusOK, status, answer)
	var tokens struct {
		Access string `json:"access_token"`
	}
	require.NoError(t, json.Unmarshal([]byte(answer), &tokens))
	return tokens.Access
}

func tokenRequest(t *testing.T, address string, form url.Values) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(form.Encode()))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return request
}
