package signin

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/signin/bed"
)

// abandonedLife is the longest life of a token that nobody has finished a sign-in with.
const abandonedLife = 10 * time.Minute

// TestNoAdministratorIsKept: a Vault token with more policies than people need for MCP is
// refused at login, and at the first refresh after its owner has joined an administrators'
// group.
func TestNoAdministratorIsKept(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	b.Write("sys/policies/acl/administrators", harness.Map{"policy": `path "sys/*" { capabilities = ["sudo", "read", "list"] }`})

	before := b.SignIn(t, bed.Bob, app, bed.Engineering)
	before.Refresh(t)
	b.Write("identity/group", harness.Map{
		"name": "administrators", "policies": "administrators", "member_entity_ids": b.Company.EntityOf(t, bed.Bob),
	})
	t.Run("who joins the group later is out at the next refresh", func(t *testing.T) {
		before.Works(t) // the access token's own end is fifteen minutes away at most
		wantDead(t, before)
		before.Out(t, inForce)
		awaitNoTokens(t, b, bed.Bob)
	})
	t.Run("at login there is a page that says so, and no token is left", func(t *testing.T) {
		page := b.Browser(bed.Bob).Open(app.Begin(nil).URL())
		require.GreaterOrEqual(t, page.Status, 400, page.Text())
		require.Less(t, page.Status, 500, page.Text())
		require.Contains(t, page.Text(), "administrators")
		require.Nil(t, page.Choices("identity"))
		awaitNoTokens(t, b, bed.Bob)
	})
	t.Run("others are not concerned", func(t *testing.T) {
		b.SignIn(t, bed.Alice, app, bed.Engineering).Works(t)
	})
	t.Run("a role that gives everybody such a policy lets nobody in", func(t *testing.T) {
		b.Write("auth/"+bed.Mount+"/role/"+bed.Role, harness.Map{"token_policies": "mcp-person,administrators"})
		defer b.Write("auth/"+bed.Mount+"/role/"+bed.Role, harness.Map{"token_policies": "mcp-person"})
		page := b.Browser(bed.Alice).Open(app.Begin(nil).URL())
		require.GreaterOrEqual(t, page.Status, 400)
		require.Contains(t, page.Text(), "administrators")
	})
}

// TestWhatNobodyFinishesLeavesNoTokenAfterTenMinutes looks at the lives that Vault reports:
// its clock cannot be moved.
func TestWhatNobodyFinishesLeavesNoTokenAfterTenMinutes(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	short := func(t *testing.T, want int) {
		t.Helper()
		left := tokensOf(t, b, bed.Alice)
		require.Len(t, left, want)
		for _, token := range left {
			require.LessOrEqual(t, token.ttl, abandonedLife)
			require.Positive(t, token.ttl)
		}
	}
	const abandoned = 5
	for range abandoned {
		require.Equal(t, http.StatusOK, b.Browser(bed.Alice).Open(app.Begin(nil).URL()).Status)
	}
	t.Run("on the consent page", func(t *testing.T) { short(t, abandoned) })
	t.Run("with a code that no application redeems", func(t *testing.T) {
		try := app.Begin(nil)
		_, err := try.Code(bed.Approve(b.Browser(bed.Alice).Open(try.URL()), bed.Oncall))
		require.NoError(t, err)
		short(t, abandoned+1)
	})
	t.Run("and who says no leaves none at once", func(t *testing.T) {
		try := app.Begin(nil)
		_, err := try.Code(b.Browser(bed.Alice).Open(try.URL()).Send(map[string][]string{"decision": {"deny"}}))
		require.EqualError(t, err, "access_denied")
		short(t, abandoned+1)
	})
	t.Run("while one that is finished lives on", func(t *testing.T) {
		b.SignIn(t, bed.Alice, app, bed.Oncall)
		longest := time.Duration(0)
		for _, token := range tokensOf(t, b, bed.Alice) {
			longest = max(longest, token.ttl)
		}
		require.Greater(t, longest, time.Hour)
	})
}

// TestLoginsOfOtherKinds: roles in Vault that give other tokens than ordinary ones.
func TestLoginsOfOtherKinds(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	usual := harness.Map{"token_type": "default", "token_period": 0, "token_no_default_policy": false, "token_bound_cidrs": "", "token_num_uses": 0}
	for name, row := range map[string]struct {
		role    harness.Map
		refused string // a word on the page; "": it works
	}{
		"batch tokens are refused":                 {harness.Map{"token_type": "batch"}, "batch"},
		"periodic tokens are refused":              {harness.Map{"token_period": "1h"}, "periodic"},
		"tokens for a few uses are refused":        {harness.Map{"token_num_uses": 20}, "uses"},
		"without Vault's default policy, it works": {harness.Map{"token_no_default_policy": true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b.Write("auth/"+bed.Mount+"/role/"+bed.Role, row.role)
			defer b.Write("auth/"+bed.Mount+"/role/"+bed.Role, usual)
			if row.refused == "" {
				s := b.SignIn(t, bed.Alice, app, bed.Engineering)
				for range 3 {
					s.Refresh(t)
					s.Works(t)
				}
				return
			}
			page := b.Browser(bed.Alice).Open(app.Begin(nil).URL())
			require.GreaterOrEqual(t, page.Status, 400)
			require.Contains(t, strings.ToLower(page.Text()), row.refused)
			require.Nil(t, page.Choices("identity"))
		})
	}
	t.Run("a callback that the role does not allow is named where an administrator looks", func(t *testing.T) {
		ours := b.Door.URL + "/sign-in/callback"
		b.Write("auth/"+bed.Mount+"/role/"+bed.Role, harness.Map{"allowed_redirect_uris": "https://other.example.com/callback"})
		defer b.Write("auth/"+bed.Mount+"/role/"+bed.Role, harness.Map{"allowed_redirect_uris": ours})
		page := b.Browser(bed.Alice).Open(app.Begin(nil).URL())
		require.GreaterOrEqual(t, page.Status, 400)
		log, err := os.ReadFile(filepath.Join(b.Dir, "gateway-1.log"))
		require.NoError(t, err)
		require.True(t, strings.Contains(page.Text(), ours) || strings.Contains(string(log), ours), page.Text())
	})
	t.Run("who may act as nobody is told so", func(t *testing.T) {
		page := b.Browser(bed.Carol).Open(app.Begin(nil).URL())
		require.Equal(t, http.StatusForbidden, page.Status, page.Text())
		require.Nil(t, page.Choices("identity"))
		require.NotContains(t, page.Text(), bed.Engineering)
		require.NotContains(t, page.Text(), bed.Hidden)
		awaitNoTokens(t, b, bed.Carol)
	})
	t.Run("and the consent page offers what Vault's ACL grants and sign-in is for", func(t *testing.T) {
		b.Write("sys/policies/acl/mcp-person-"+bed.Hidden, harness.Map{"policy": `path "mcp/creds/` + bed.Hidden + `" { capabilities = ["update"] }`})
		b.Write("auth/"+bed.Mount+"/role/"+bed.Role, harness.Map{"token_policies": "mcp-person,mcp-person-" + bed.Hidden})
		defer b.Write("auth/"+bed.Mount+"/role/"+bed.Role, harness.Map{"token_policies": "mcp-person"})
		page := b.Browser(bed.Alice).Open(app.Begin(nil).URL())
		require.ElementsMatch(t, []string{bed.Engineering, bed.Oncall}, page.Choices("identity"))
		page = b.Browser(bed.Bob).Open(app.Begin(nil).URL())
		require.Equal(t, []string{bed.Engineering}, page.Choices("identity"))
		action, values, err := page.Fill(map[string][]string{"decision": {"allow"}})
		require.NoError(t, err)
		for _, forged := range []string{bed.Oncall, bed.Hidden, "", "nobody", "../clients/" + bed.Engineering} {
			values.Set("identity", forged)
			got := page.SendAs(action, values, nil)
			require.GreaterOrEqual(t, got.Status, 400, "%q brings the browser to %s", forged, got.URL)
		}
	})
}
