package signin

import (
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/signin/bed"
)

// TestCodes uses codes as applications do, at two gateways behind a balancer.
func TestCodes(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{Gateways: 2})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	obtain := func(t *testing.T) (*bed.Attempt, string) {
		t.Helper()
		try := app.In(t).Begin(nil)
		code, err := try.Code(bed.Approve(b.In(t).Browser(bed.Alice).Open(try.URL()), bed.Engineering))
		require.NoError(t, err)
		return try, code
	}
	refused := func(t *testing.T, got *bed.Answer, reason string) {
		t.Helper()
		require.Equal(t, http.StatusBadRequest, got.Status, got.Body)
		require.Equal(t, reason, got.Error, got.Body)
		require.Empty(t, got.AccessToken)
	}
	t.Run("one is redeemed once, at whichever gateway", func(t *testing.T) {
		try, code := obtain(t)
		require.NoError(t, try.Redeem(code, nil).Tokens())
		for range 3 {
			refused(t, try.Redeem(code, nil), "invalid_grant")
		}
	})
	t.Run("of ten at once one gets tokens", func(t *testing.T) {
		try, code := obtain(t)
		var group sync.WaitGroup
		answers := make([]*bed.Answer, 10)
		for i := range answers {
			group.Go(func() { answers[i] = try.Redeem(code, nil) })
		}
		group.Wait()
		served := 0
		for _, got := range answers {
			if got.Status == http.StatusOK {
				served++
				continue
			}
			refused(t, got, "invalid_grant")
		}
		require.Equal(t, 1, served)
	})
	assistant := b.Application(bed.Assistant, app.Resource)
	t.Run("what is refused burns nothing", func(t *testing.T) {
		try, code := obtain(t)
		wrong := rand43()
		for name, row := range map[string]struct {
			code   string
			more   url.Values
			reason string
		}{
			"without a verifier":            {code, url.Values{"code_verifier": nil}, "invalid_request"},
			"with another verifier":         {code, url.Values{"code_verifier": {wrong}}, "invalid_grant"},
			"with a verifier that is short": {code, url.Values{"code_verifier": {"short"}}, "invalid_grant"},
			"by another application":        {code, url.Values{"client_id": {assistant.ID}}, "invalid_grant"},
			"with another redirect":         {code, url.Values{"redirect_uri": {"http://127.0.0.1:1/callback"}}, "invalid_grant"},
			"for another resource":          {code, url.Values{"resource": {b.AllURL()}}, "invalid_target"},
			"altered at its beginning":      {alter(code, 0), nil, "invalid_grant"},
			"altered in its middle":         {alter(code, len(code)/2), nil, "invalid_grant"},
			"altered at its end":            {alter(code, -2), nil, "invalid_grant"},
			"as a refresh token": {"", url.Values{
				"grant_type": {"refresh_token"}, "refresh_token": {code}, "code": nil,
			}, "invalid_grant"},
			"as another grant": {code, url.Values{"grant_type": {"password"}}, "unsupported_grant_type"},
			"as no grant":      {code, url.Values{"grant_type": nil}, "invalid_request"},
		} {
			t.Run(name, func(t *testing.T) { refused(t, try.Redeem(row.code, row.more), row.reason) })
		}
		t.Run("by an unknown application", func(t *testing.T) {
			got := try.Redeem(code, url.Values{"client_id": {"unknown"}})
			require.Equal(t, http.StatusUnauthorized, got.Status, got.Body)
			require.Equal(t, "invalid_client", got.Error)
		})
		require.NoError(t, try.Redeem(code, nil).Tokens())
	})
	t.Run("a code of somebody else, put into a victim's answer, is of no use to them", func(t *testing.T) {
		_, stolen := obtain(t)
		victim := app.In(t).Begin(nil)
		refused(t, victim.Redeem(stolen, nil), "invalid_grant")
	})
}

// rand43 is a verifier that belongs to no challenge.
func rand43() string { return "a-verifier-that-belongs-to-no-challenge-at-all" }

// TestGatewaysFinishEachOthersSignIns: requests go to two gateways in turn, and nothing of a
// sign-in is kept at either.
func TestGatewaysFinishEachOthersSignIns(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{Gateways: 2, TLS: true})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	t.Run("one after the other", func(t *testing.T) {
		for range 3 {
			s := b.SignIn(t, bed.Alice, app, bed.Engineering)
			s.Works(t)
			s.Refresh(t)
			s.Works(t)
		}
	})
	t.Run("and both of them restarted in the middle", func(t *testing.T) {
		try := app.In(t).Begin(nil)
		page := b.In(t).Browser(bed.Alice).Open(try.URL())
		b.Gateways[0].Restart()
		b.Gateways[1].Restart()
		code, err := try.Code(bed.Approve(page, bed.Engineering))
		require.NoError(t, err)
		b.Gateways[0].Restart()
		b.Gateways[1].Restart()
		got := try.Redeem(code, nil)
		require.NoError(t, got.Tokens())
		b.Gateways[0].Restart()
		b.Gateways[1].Restart()
		again, err := try.Application.Refresh(got.RefreshToken, nil)
		require.NoError(t, err)
		require.NoError(t, again.Tokens())
	})
}
