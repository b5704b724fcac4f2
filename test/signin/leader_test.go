package signin

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/signin/bed"
)

// TestAChangeOfVaultsLeader: a sign-in that was at the company meanwhile begins again, and one
// that is finished goes on.
func TestAChangeOfVaultsLeader(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{Nodes: 3})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	signedIn := b.SignIn(t, bed.Alice, app, bed.Engineering)
	browser := b.Browser("")
	login := browser.Open(app.Begin(nil).URL())
	require.NotNil(t, login.Choices("password"), "the browser is at %s", login.URL)

	b.Vault.AwaitLeader()
	require.NoError(t, b.Vault.Leader().Client().Sys().StepDownWithContext(t.Context()))
	t.Run("a refresh meanwhile is answered, or is asked to come again", func(t *testing.T) {
		b.In(t).Eventually("a refresh is answered", func() error {
			got, err := signedIn.Application.Refresh(signedIn.RefreshToken, nil)
			require.NoError(t, err)
			if got.Status == http.StatusServiceUnavailable {
				require.NotEmpty(t, got.Header.Get("Retry-After"))
				return errAgain
			}
			require.NoError(t, got.Tokens())
			signedIn.AccessToken, signedIn.RefreshToken = got.AccessToken, got.RefreshToken
			return nil
		})
		signedIn.Works(t)
		signedIn.Refresh(t)
	})
	b.Vault.AwaitLeader()
	t.Run("the sign-in that was at the company is told to begin again", func(t *testing.T) {
		browser.Person = bed.Alice
		page := browser.SignInAt(login)
		require.GreaterOrEqual(t, page.Status, 400, page.Text())
		require.Less(t, page.Status, 500, page.Text())
		require.Contains(t, page.Text(), "again")
		require.Contains(t, page.URL.Path, "/sign-in/callback")
	})
	t.Run("and then it works", func(t *testing.T) {
		b.SignIn(t, bed.Alice, app, bed.Engineering).Works(t)
	})
}
