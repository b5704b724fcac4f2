package apply

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// loadSignIn loads a file with a block sign_in, its first line, of these lines, and a client
// that people may act as.
func loadSignIn(t *testing.T, lines string) *desired {
	t.Helper()
	dir := t.TempDir()
	content := "sign_in {\n" + lines + "\n}\n" + `client "ops" {
  sign_in = true
}
client "closed" {
}
`
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.hcl"), []byte(content), 0o600))
	d, err := load(dir)
	require.NoError(t, err)
	return d
}

const goodLogin = `public_url = "https://mcp.example.com"
login "employees" {
  discovery_url = "https://idp.example.com"
  client_id     = "vault"
  client_secret = "s3cret"
  clients       = ["ops"]
}`

func TestALoginHasWhatTheFileDoesNotSay(t *testing.T) {
	d := loadSignIn(t, goodLogin)
	require.Empty(t, d.mistakes)
	l := d.signIn.logins[0]
	assert.Equal(t, "oidc-mcp", l.mount)
	assert.Equal(t, "mcp", l.roleName)
	settings := l.role.Settings()
	assert.Equal(t, []string{"https://mcp.example.com/sign-in/callback"}, settings["allowed_redirect_uris"])
	assert.Equal(t, []string{"mcp-person", "mcp-person-ops"}, settings["token_policies"])
	assert.Equal(t, int64(12*60*60), settings["token_max_ttl"])
	assert.Equal(t, "sub", settings["user_claim"])
	assert.Equal(t, "service", settings["token_type"], "only service tokens have a cubbyhole")
	assert.Equal(t, false, settings["verbose_oidc_logging"])
	assert.Equal(t, true, settings["token_no_default_policy"])
	assert.Equal(t, 0, settings["token_period"])
}

func TestASignInThatCannotBeIsRefusedWithItsPlace(t *testing.T) {
	login := func(changes string) string {
		kept := goodLogin
		for line := range strings.Lines(changes) {
			field, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			before, after, found := strings.Cut(kept, "\n  "+field+" ")
			if found {
				_, rest, _ := strings.Cut(after, "\n")
				kept = before + "\n" + rest
			}
		}
		return strings.Replace(kept, `login "employees" {`, `login "employees" {`+"\n"+changes, 1)
	}
	for name, test := range map[string]struct {
		lines string
		want  []string
	}{
		"no login":                        {``, []string{`b.hcl:1: sign_in: a block login "NAME" or machine "NAME" is needed`}},
		"a URL of the inner network":      {strings.Replace(goodLogin, "https://mcp", "http://mcp", 1), []string{`b.hcl:2: sign_in: field public_url: "http://mcp.example.com" is not a URL for sign-in`}},
		"a URL with a path":               {strings.Replace(goodLogin, "example.com", "example.com/mcp", 1), []string{"field public_url", "have no path"}},
		"a life that is too short":        {"session_max = \"5m\"\n" + goodLogin, []string{"b.hcl:2: sign_in: field session_max: 5m0s is not between"}},
		"a life that is too long":         {"session_max = \"721h\"\n" + goodLogin, []string{"field session_max"}},
		"a life that is none":             {"session_max = \"long\"\n" + goodLogin, []string{"field session_max", "is not a valid duration"}},
		"a name that is not valid":        {strings.Replace(goodLogin, `"employees"`, `"Em:ployees"`, 1), []string{`b.hcl:3: login "Em:ployees": "Em:ployees" is not a valid login name`}},
		"two logins of a name":            {goodLogin + "\n" + strings.TrimPrefix(goodLogin, "public_url = \"https://mcp.example.com\"\n"), []string{`b.hcl:9: login "employees": the name "employees" stands before`}},
		"two logins at a mount":           {goodLogin + "\n" + strings.Replace(strings.TrimPrefix(goodLogin, "public_url = \"https://mcp.example.com\"\n"), "employees", "partners", 1), []string{`login "partners": field mount: oidc-mcp is that of "employees", too`}},
		"no way back":                     {strings.TrimPrefix(goodLogin, "public_url = \"https://mcp.example.com\"\n"), []string{`b.hcl:2: login "employees": field public_url of sign_in, or redirect_uris here, is needed`}},
		"a mount that is not valid":       {login(`mount = "auth oidc"`), []string{`b.hcl:4: login "employees": field mount: "auth oidc" is not a valid path`}},
		"an empty secret":                 {login(`client_secret = ""`), []string{`b.hcl:4: login "employees": field client_secret: it is empty`}},
		"the administrators' policy":      {login(`policies = ["mcp-admin"]`), []string{`b.hcl:4: login "employees": field policies: no token of a person who signs in may have the policy mcp-admin`}},
		"the policy root":                 {login(`policies = ["root"]`), []string{"the policy root: it may do everything"}},
		"groups without a claim":          {login(`groups = { sre = ["ops"] }`), []string{`b.hcl:4: login "employees": field groups_claim is needed`}},
		"groups of one spelling":          {login("groups_claim = \"g\"\ngroups = { sre = [\"ops\"], SRE = [\"ops\"] }"), []string{`"SRE" and "sre": names that differ in case alone are one name`}},
		"nobody may":                      {login(`clients = []`), []string{`no client is named in clients or groups`}},
		"a client that nobody acts as":    {login(`clients = ["closed"]`), []string{`b.hcl:4: login "employees": field clients: no file has a client "closed" with sign_in = true`}},
		"a client that is in no file":     {login("groups_claim = \"g\"\ngroups = { sre = [\"gone\"] }"), []string{`field groups: no file has a client "gone"`}},
		"a field that nobody knows":       {login(`verbose_oidc_logging = true`), []string{"b.hcl:4", "verbose_oidc_logging"}},
		"a machine at a login's mount":    {goodLogin + "\nmachine \"ci\" {\n mount = \"oidc-mcp\"\n}", []string{`machine "ci": field mount: oidc-mcp is that of "employees", too`}},
		"a secret that is not set":        {strings.Replace(goodLogin, `"s3cret"`, `env("UNSET_SECRET")`, 1), []string{"b.hcl:6", "the environment variable UNSET_SECRET is not set"}},
		"a second block":                  {goodLogin + "\n}\nsign_in {", []string{"b.hcl:10: a block sign_in is in ", "keep one of them"}},
		"an oidc secret is never printed": {strings.Replace(goodLogin, `"vault"`, `""`, 1), []string{"field client_id: it is empty"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := ""
			for _, mistake := range loadSignIn(t, test.lines).mistakes {
				text += mistake.Error() + "\n"
			}
			for _, want := range test.want {
				assert.Contains(t, text, want)
			}
			assert.NotContains(t, text, "s3cret")
		})
	}
}

func TestAClientThatNobodyMaySignInAsIsNoted(t *testing.T) {
	d := loadSignIn(t, "machine \"ci\" {\n mount = \"jwt-ci\"\n}")
	require.Empty(t, d.mistakes)
	require.Len(t, d.notes, 1)
	assert.Contains(t, d.notes[0], `nobody may sign in as the client "ops"`)
}
