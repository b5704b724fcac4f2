package docs

import (
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

	"vault-plugin-secrets-mcp/bootstrap/demo/idp"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/signin/page"
	"vault-plugin-secrets-mcp/test/docrun"
	"vault-plugin-secrets-mcp/test/harness"
)

const (
	signInPage   = "sign-in.md"
	signInSecret = "the-secret-of-vault-at-the-identity-provider"
	callback     = "https://mcp.example.com/sign-in/callback" // as the page has it
	signInOrigin = "https://mcp.example.com"
)

// provider is an identity provider with alice, who has these groups and claims.
func provider(t *testing.T, h *harness.Harness, clientID string, groups []string, claims map[string]any) *idp.IdP {
	t.Helper()
	h.Secret(signInSecret)
	found, err := idp.Start(t.Context(), "127.0.0.1:0", idp.Options{
		ClientID: clientID, ClientSecret: signInSecret, RedirectURIs: []string{callback},
		People: []idp.Person{{Name: "alice", Password: "of-alice", Groups: groups, Claims: claims}},
	})
	require.NoError(t, err)
	return found
}

// logIn logs alice in, and returns her Vault token.
func logIn(t *testing.T, h *harness.Harness) *api.Client {
	t.Helper()
	person, err := tryLogIn(t, h)
	require.NoError(t, err)
	return person
}

// tryLogIn logs alice in by Vault's oidc method, as a gateway does. The error is Vault's, of
// the end of the login.
func tryLogIn(t *testing.T, h *harness.Harness) (*api.Client, error) {
	t.Helper()
	stranger := h.Vault.ClientWithToken("")
	begun, err := stranger.Logical().WriteWithContext(t.Context(), "auth/oidc-mcp/oidc/auth_url", harness.Map{"role": "mcp", "redirect_uri": callback, "client_nonce": "n"})
	require.NoError(t, err)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := &http.Client{Jar: jar, Timeout: 10 * time.Second, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), callback) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	shown, err := browser.Get(begun.Data["auth_url"].(string))
	require.NoError(t, err)
	content, err := io.ReadAll(shown.Body)
	require.NoError(t, err)
	require.NoError(t, shown.Body.Close())
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(string(content))
	require.Len(t, id, 2, string(content))
	answer, err := browser.PostForm(shown.Request.URL.Scheme+"://"+shown.Request.URL.Host+"/login", url.Values{"id": {id[1]}, "name": {"alice"}, "password": {"of-alice"}})
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	back, err := answer.Location()
	require.NoError(t, err)
	token, err := stranger.Logical().ReadWithDataWithContext(t.Context(), "auth/oidc-mcp/oidc/callback", map[string][]string{
		"state": back.Query()["state"], "code": back.Query()["code"], "client_nonce": {"n"},
	})
	if err != nil {
		return nil, err
	}
	require.NotNil(t, token)
	h.Secret(token.Auth.ClientToken)
	return h.Vault.ClientWithToken(token.Auth.ClientToken), nil
}

// may are the capabilities of a person's token on a client.
func may(t *testing.T, person *api.Client, client string) []string {
	t.Helper()
	found, err := person.Sys().CapabilitiesSelfWithContext(t.Context(), "mcp/creds/"+client)
	require.NoError(t, err)
	return found
}

// TestDocsSignIn runs the commands of docs/sign-in.md. With that set-up alice can log in and
// act as the one identity, and is in the list of sign-ins; doctor finds no problem.
func TestDocsSignIn(t *testing.T) {
	h := harness.New(t)
	company := provider(t, h, "vault", []string{"engineering"}, nil)
	dir := t.TempDir()
	root, err := filepath.Abs("../../bootstrap")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(root, filepath.Join(dir, "bootstrap")))
	commands := docrun.Read(t, signInPage).Commands()
	listing := -1
	for i, c := range commands {
		if c.Text == "vault list mcp/sign-ins" {
			listing = i
		}
	}
	require.Positive(t, listing)
	run := func(commands []docrun.Command) {
		outputs := docrun.Run(t, dir, commands, []string{
			"PATH=" + filepath.Dir(docrun.VaultBinary(t, t.TempDir())) + ":" + os.Getenv("PATH"),
			"VAULT_ADDR=" + h.Vault.Address(), "VAULT_TOKEN=" + h.Vault.RootToken,
			"IDP=" + company.Issuer(), "CI=" + company.Issuer(), "OIDC_SECRET=" + signInSecret,
		})
		docrun.WantOutputs(t, commands, outputs)
	}
	run(commands[:listing])

	t.Run("the policies are those that apply writes", func(t *testing.T) {
		for name, want := range map[string]string{
			policies.PersonName:                      policies.Person,
			policies.PersonClientName("engineering"): policies.PersonClient("engineering"),
			policies.PersonClientName("agent-ci"):    policies.PersonClient("agent-ci"),
		} {
			have, err := h.Vault.Client().Sys().GetPolicyWithContext(t.Context(), name)
			require.NoError(t, err)
			require.Equal(t, strings.TrimSpace(want), strings.TrimSpace(have))
		}
	})
	t.Run("the role is the one that apply writes", func(t *testing.T) {
		have := h.Read("auth/oidc-mcp/role/mcp")
		for field, want := range (provision.PersonRole{UserClaim: "sub", GroupsClaim: "groups", RedirectURIs: []string{callback}, SessionMax: provision.SessionMax}).Settings() {
			if have[field] == nil { // as what is not set reads
				require.Empty(t, want, field)
				continue
			}
			require.Equal(t, asJSON(t, want), asJSON(t, have[field]), field)
		}
	})
	person := logIn(t, h)
	require.Equal(t, []string{"update"}, may(t, person, "engineering"))
	require.Equal(t, []string{"deny"}, may(t, person, "agent-ci"))
	token, err := person.Logical().WriteWithContext(t.Context(), "mcp/creds/engineering", harness.Map{
		"resource": signInOrigin + "/sign-in/mcp", "application": "editor", "login": "employees", "sign_in_ends": time.Now().Add(time.Hour).Format(time.RFC3339),
	})
	require.NoError(t, err)
	h.Secret(token.Data["token"].(string))
	require.Equal(t, "alice", token.Data["person"])

	isWell(t, h)
	run(commands[listing:])
	_, err = person.Auth().Token().LookupSelfWithContext(t.Context())
	require.ErrorContains(t, err, "permission denied", "the command of the page ends the sign-in")
}

// asJSON makes values of Go and of Vault comparable.
func asJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return string(text)
}

// isWell has doctor compare the gateway's block on the page with Vault.
func isWell(t *testing.T, h *harness.Harness) {
	t.Helper()
	_, after, found := strings.Cut(pageText(t), "### The gateway\n\n```hcl\n")
	require.True(t, found)
	block, _, _ := strings.Cut(after, "```")
	_, machine, found := strings.Cut(blocksOf(t, "Machines")["A CI job"], "}\n}\n")
	require.True(t, found)
	machine, found = strings.CutPrefix(machine, "sign_in {\n")
	require.True(t, found)
	block = strings.TrimSuffix(strings.TrimSpace(block), "}") + machine
	file := filepath.Join(t.TempDir(), "gateway.hcl")
	require.NoError(t, os.WriteFile(file, []byte(gatewayFile+block), 0o600))
	cmd := exec.CommandContext(t.Context(), h.Programs.Bootstrap, "doctor", "-gateway-config="+file)
	cmd.Env = append(harness.RaceEnv(), "PATH="+os.Getenv("PATH"), "HOME="+t.TempDir(), "VAULT_ADDR="+h.Vault.Address(), "VAULT_TOKEN="+h.Vault.RootToken)
	out, _ := cmd.CombinedOutput() // the rest of this stage is not as doctor wants it
	require.Contains(t, string(out), "ok    people can sign in: logins: 2, clients that they may act as: 2")
}

const gatewayFile = `vault {
  address = "http://127.0.0.1:8200"
  auth "token_file" {
    path = "token"
  }
}
`

func pageText(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", signInPage))
	require.NoError(t, err)
	return string(content)
}

// blocksOf are the HCL blocks of the page's section, by the heading before each.
func blocksOf(t *testing.T, section string) map[string]string {
	t.Helper()
	_, after, found := strings.Cut(pageText(t), "\n## "+section+"\n")
	require.True(t, found, section)
	text, _, _ := strings.Cut(after, "\n## ")
	blocks := map[string]string{}
	for _, part := range strings.Split(text, "\n### ")[1:] {
		heading, _, _ := strings.Cut(part, "\n")
		for _, block := range regexp.MustCompile("(?s)```hcl\n(.*?)```").FindAllStringSubmatch(part, -1) {
			blocks[heading] += block[1]
		}
	}
	require.NotEmpty(t, blocks, section)
	return blocks
}

// TestDocsSignInAtEachIdentityProvider applies the block of each identity provider's section,
// and logs alice in, with the claims that the provider is said to give. Its URL, and the id and
// the secret of the client, are those of the demo provider.
func TestDocsSignInAtEachIdentityProvider(t *testing.T) {
	claims := map[string]struct {
		groups []string
		claims map[string]any
		wrong  map[string]any // claims that must not let anybody in
	}{
		"Okta":               {groups: []string{"Everyone", "mcp-engineering"}},
		"Microsoft Entra ID": {groups: []string{"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"}, claims: map[string]any{"oid": "0b1f2c3d-alice"}},
		"Keycloak":           {groups: []string{"/engineering"}},
		"Google":             {claims: map[string]any{"hd": "example.com"}, wrong: map[string]any{"hd": "elsewhere.example"}},
	}
	blocks := blocksOf(t, "Identity providers")
	require.Len(t, blocks, len(claims))
	for name, of := range claims {
		t.Run(name, func(t *testing.T) {
			h := harness.New(t, harness.WithoutEngine())
			block := blocks[name]
			clientID := regexp.MustCompile(`client_id\s+= "([^"]+)"`).FindStringSubmatch(block)
			require.Len(t, clientID, 2)
			company := provider(t, h, clientID[1], of.groups, of.claims)
			block = regexp.MustCompile(`(discovery_url\s+=) "[^"]+"`).ReplaceAllString(block, `$1 "`+company.Issuer()+`"`)
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "broker.hcl"), []byte("sign_in {\n  public_url = \""+signInOrigin+"\"\n"+block+"}\n"+
				"client \"engineering\" {\n  sign_in = true\n}\nclient \"oncall\" {\n  sign_in = true\n}\n"), 0o600))
			apply := func() string {
				cmd := exec.CommandContext(t.Context(), h.Programs.Bootstrap, "apply", "-f", dir, "-plugin", filepath.Join(h.Dir, "plugins", provision.PluginName))
				cmd.Env = append(harness.RaceEnv(), "PATH="+os.Getenv("PATH"), "HOME="+dir, "VAULT_ADDR="+h.Vault.Address(), "VAULT_TOKEN="+h.Vault.RootToken, "OIDC_SECRET="+signInSecret)
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, string(out))
				return string(out)
			}
			apply()
			require.Contains(t, apply(), "Nothing to do")

			person := logIn(t, h)
			require.Equal(t, []string{"update"}, may(t, person, "engineering"))
			require.Equal(t, []string{"deny"}, may(t, person, "oncall"))
			if of.wrong == nil {
				return
			}
			require.NoError(t, company.Add(idp.Person{Name: "alice", Password: "of-alice", Claims: of.wrong}))
			_, err := tryLogIn(t, h)
			require.ErrorContains(t, err, "does not match any associated bound claim values")
		})
	}
}

// TestDocsSignInHasBlocksThatGatewaysTake loads each block of a gateway's file.
func TestDocsSignInHasBlocksThatGatewaysTake(t *testing.T) {
	const login = "login \"x\" {\n mount = \"oidc-mcp\"\n role = \"mcp\"\n}\n"
	load := func(t *testing.T, block string) *config.SignIn {
		t.Helper()
		file := filepath.Join(t.TempDir(), "gateway.hcl")
		content := gatewayFile + "listener {\n  public_url = \"" + signInOrigin + "\"\n}\n" + block
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		loaded, err := config.Load(file, func(string) string { return "" })
		require.NoError(t, err, content)
		require.NotNil(t, loaded.SignIn)
		return loaded.SignIn
	}
	for name, block := range blocksOf(t, "Applications") {
		t.Run(name, func(t *testing.T) {
			load(t, strings.Replace(block, "sign_in {", "sign_in {\n"+login, 1))
			// The other way, in the comment.
			if _, other, found := strings.Cut(block, "# or: "); found {
				other, _, _ = strings.Cut(other, "\n")
				load(t, "sign_in {\n"+login+strings.Replace(other, ", ", "\n", 1)+"\n}\n")
			}
		})
	}
	machines := blocksOf(t, "Machines")
	for _, name := range []string{"Kubernetes", "An enterprise's grant for a person (ID-JAG)"} {
		t.Run(name, func(t *testing.T) { require.Len(t, load(t, machines[name]).Machines, 1) })
	}
	t.Run("A CI job", func(t *testing.T) {
		_, block, found := strings.Cut(machines["A CI job"], "}\n}\n") // the first is for apply
		require.True(t, found)
		require.True(t, load(t, block).Machines[0].SingleUse)
	})
}

// TestDocsSignInQuotesThePagesThatPeopleSee compares the titles in the table of causes.
func TestDocsSignInQuotesThePagesThatPeopleSee(t *testing.T) {
	text := pageText(t)
	for _, seen := range []page.ErrorData{
		page.BeginAgain(), page.MissingCookie(), page.LoginFailed(""), page.Administrator(nil), page.TokenKind(""), page.RedirectNotAllowed("", "", callback),
	} {
		require.Contains(t, text, `"`+strings.ReplaceAll(seen.Title, "’", "'")+`"`)
	}
}
