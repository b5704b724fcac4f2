package signin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/signin/bed"
)

// processes is how many of one person's programs refresh at once.
const processes = 5

// TestRefresh is the life of a refresh token, at two gateways that know nothing of each other.
func TestRefresh(t *testing.T) {
	t.Parallel()
	b := bed.New(t, bed.Options{Gateways: 2})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	signIn := func(t *testing.T) *bed.Session {
		t.Helper()
		return b.SignIn(t, bed.Alice, app, bed.Engineering)
	}
	t.Run("five processes at once are all answered, and again", func(t *testing.T) {
		s := signIn(t)
		for range 2 {
			var group sync.WaitGroup
			answers, errs := make([]*bed.Answer, processes), make([]error, processes)
			for i := range processes {
				group.Go(func() { answers[i], errs[i] = s.Application.Refresh(s.RefreshToken, nil) })
			}
			group.Wait()
			for i, got := range answers {
				require.NoError(t, errs[i])
				require.NoError(t, got.Tokens())
				each := *s
				each.AccessToken = got.AccessToken
				each.Works(t)
			}
			s.AccessToken, s.RefreshToken = answers[0].AccessToken, answers[0].RefreshToken
		}
	})
	t.Run("in a row, each of them works at once", func(t *testing.T) {
		s := signIn(t)
		for range 6 {
			s.Refresh(t)
			s.Works(t)
		}
	})
	t.Run("the one before is answered again, and that is in the log and in the metrics", func(t *testing.T) {
		s := signIn(t)
		id, before, old := signInOf(t, b, s), counted(b, "repeated"), s.RefreshToken
		s.Refresh(t)
		repeated, err := s.Application.Refresh(old, nil)
		require.NoError(t, err)
		require.NoError(t, repeated.Tokens())
		s.Works(t)
		s.Refresh(t)
		awaitEvent(t, b, func(line harness.Map) bool { return line["event"] == "repeated" && line["sign_in"] == id })
		require.Greater(t, counted(b, "repeated"), before)
	})
	t.Run("one that is two generations old ends the sign-in for everybody who has it", func(t *testing.T) {
		s := signIn(t)
		id, stolen := signInOf(t, b, s), s.RefreshToken
		s.Refresh(t)
		s.Refresh(t)
		conversation := s.Converse(t)
		stream := conversation.Listen(t)
		got, err := s.Application.Refresh(stolen, nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, got.Status)
		require.Equal(t, "invalid_grant", got.Error)
		stream.AwaitEnd(t, inForce)
		s.Out(t, inForce)
		wantDead(t, s)
		awaitEvent(t, b, func(line harness.Map) bool { return line["event"] == "replayed" && line["sign_in"] == id })
	})
	t.Run("of no other application, and of none at all", func(t *testing.T) {
		s := signIn(t)
		assistant := b.Application(bed.Assistant, app.Resource)
		stranger := *app.In(t)
		stranger.ID = "nobody-has-registered-me"
		for name, row := range map[string]struct {
			app    *bed.Application
			token  string
			status int
			err    string
		}{
			"another application's":       {assistant, s.RefreshToken, http.StatusBadRequest, "invalid_grant"},
			"an unknown application":      {&stranger, s.RefreshToken, http.StatusUnauthorized, "invalid_client"},
			"altered at its end":          {app, alter(s.RefreshToken, -1), http.StatusBadRequest, "invalid_grant"},
			"altered in its middle":       {app, alter(s.RefreshToken, len(s.RefreshToken)/2), http.StatusBadRequest, "invalid_grant"},
			"cut":                         {app, s.RefreshToken[:len(s.RefreshToken)-4], http.StatusBadRequest, "invalid_grant"},
			"an access token":             {app, s.AccessToken, http.StatusBadRequest, "invalid_grant"},
			"something else":              {app, "x", http.StatusBadRequest, "invalid_grant"},
			"none":                        {app, "", http.StatusBadRequest, "invalid_request"},
			"an unknown one's dead token": {&stranger, "x", http.StatusUnauthorized, "invalid_client"},
		} {
			t.Run(name, func(t *testing.T) {
				got, err := row.app.Refresh(row.token, nil)
				require.NoError(t, err)
				require.Equal(t, row.status, got.Status, got.Body)
				require.Equal(t, row.err, got.Error, got.Body)
				require.Equal(t, "no-store", got.Header.Get("Cache-Control"))
			})
		}
		s.Refresh(t) // none of that has touched it
		s.Works(t)
	})
}

// alter changes one character of a text; one that is counted from its end where negative.
func alter(text string, at int) string {
	if at < 0 {
		at += len(text)
	}
	other := byte('A')
	if text[at] == other {
		other = 'B'
	}
	return text[:at] + string(other) + text[at+1:]
}

// TestARefreshWhoseAnswerIsLostCanBeRepeated cuts the answer on its way to the application,
// and each of Vault's answers on their way to the gateway.
func TestARefreshWhoseAnswerIsLostCanBeRepeated(t *testing.T) {
	t.Parallel()
	var vault *harness.Front
	b := bed.New(t, bed.Options{Vault: func(address string) string {
		vault = harness.NewFront(t, address)
		return vault.URL
	}})
	app := b.Application(bed.Editor, b.ServerURL(bed.Calculator))
	// Each sign-in is for a few access tokens only.
	signIn := func(t *testing.T) *bed.Session {
		t.Helper()
		return b.SignIn(t, bed.Alice, app, bed.Engineering)
	}
	t.Run("the answer itself", func(t *testing.T) {
		s := signIn(t)
		b.Door.Set(func(w http.ResponseWriter, r *http.Request, behind http.Handler) {
			if r.URL.Path != "/sign-in/token" {
				behind.ServeHTTP(w, r)
				return
			}
			behind.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		})
		_, err := s.Application.Refresh(s.RefreshToken, nil)
		require.Error(t, err)
		b.Door.Set(nil)
		s.Refresh(t)
		s.Works(t)
	})
	// Vault carries out a request and its answer is lost, or the request does not reach
	// Vault.
	for name, cut := range map[string]func(w http.ResponseWriter, r *http.Request, behind http.Handler){
		"Vault's answer": func(_ http.ResponseWriter, r *http.Request, behind http.Handler) {
			behind.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		},
		"the question to Vault": func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) },
		"a Vault without a leader": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			http.Error(w, `{"errors":["local node not active but active cluster node not found"]}`, http.StatusInternalServerError)
		},
		"a standby that cannot forward": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			http.Error(w, `{"errors":[]}`, http.StatusServiceUnavailable)
		},
	} {
		t.Run(name, func(t *testing.T) {
			const most = 20
			for step := 1; ; step++ {
				require.Less(t, step, most, "a refresh takes too many steps")
				s := signIn(t)
				var mu sync.Mutex
				seen := 0
				vault.Set(func(w http.ResponseWriter, r *http.Request, behind http.Handler) {
					if !ofPeople(r) {
						behind.ServeHTTP(w, r)
						return
					}
					mu.Lock()
					seen++
					now := seen == step
					mu.Unlock()
					if now {
						cut(w, r, behind)
						return
					}
					behind.ServeHTTP(w, r)
				})
				got, err := s.Application.Refresh(s.RefreshToken, nil)
				require.NoError(t, err)
				vault.Set(nil)
				if got.Status != http.StatusOK {
					require.Equal(t, http.StatusServiceUnavailable, got.Status, "step %d: %s", step, got.Body)
					require.NotEmpty(t, got.Header.Get("Retry-After"))
					require.NotContains(t, got.Body, "invalid_grant")
					s.Refresh(t)
				} else {
					require.NoError(t, got.Tokens())
					s.AccessToken, s.RefreshToken = got.AccessToken, got.RefreshToken
				}
				s.Works(t)
				mu.Lock()
				over := seen < step
				mu.Unlock()
				if over {
					require.Greater(t, step, 2, "no request was seen")
					return
				}
			}
		})
	}
	t.Run("and without Vault nobody is told that they are out", func(t *testing.T) {
		s := signIn(t)
		vault.Set(func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) })
		got, err := s.Application.Refresh(s.RefreshToken, nil)
		vault.Set(nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusServiceUnavailable, got.Status, got.Body)
		require.NotEmpty(t, got.Header.Get("Retry-After"))
		s.Refresh(t)
		s.Works(t)
	})
}

// ofPeople reports whether a request to Vault belongs to a sign-in: the gateway's own are to
// other paths.
func ofPeople(r *http.Request) bool {
	for _, path := range []string{"/v1/auth/token/", "/v1/sys/capabilities", "/v1/sys/wrapping", "/v1/cubbyhole/", "/v1/mcp/creds/", "/v1/auth/" + bed.Mount} {
		if strings.HasPrefix(r.URL.Path, path) && r.URL.Path != "/v1/auth/token/create" {
			return true
		}
	}
	return false
}
