package signin

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/signin/bed"
)

// TestExpiryIsNotRevocation: access tokens live for seconds here, since the identity's own
// bound is shorter than the fifteen minutes of sign-in.
func TestExpiryIsNotRevocation(t *testing.T) {
	t.Parallel()
	const life = 5 * time.Second
	b := bed.New(t, bed.Options{})
	release := make(chan struct{})
	slow := b.StartUpstream(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"at last"}]}}`))
	}))
	b.Write("mcp/servers/slow", harness.Map{"transport": "http", "url": slow.URL})
	for _, identity := range []string{bed.Engineering, bed.Oncall} {
		b.Write("mcp/clients/"+identity, harness.Map{
			"allowed_servers": bed.Notes + ",slow", "token_max_ttl": life.String(),
		})
	}

	notes := b.SignIn(t, bed.Alice, b.Application(bed.Editor, b.ServerURL(bed.Notes)), bed.Engineering)
	require.LessOrEqual(t, notes.Answers[0].ExpiresIn, int(life/time.Second))
	conversation := notes.Converse(t)
	conversation.Call(t, "write_note", `{"title":"kept over the expiry","text":"x"}`)
	stream := conversation.Listen(t)

	onSlow := b.SignIn(t, bed.Alice, b.Application(bed.Editor, b.ServerURL("slow")), bed.Engineering)
	revoked := b.SignIn(t, bed.Alice, b.Application(bed.Editor, b.ServerURL("slow")), bed.Oncall)
	inFlight := func(s *bed.Session) chan harness.Response {
		answer := make(chan harness.Response, 1)
		go func() {
			defer close(answer)
			if got, err := s.Application.Do(call(s, "wait", `{}`)); err == nil {
				answer <- got
			}
		}()
		return answer
	}
	answered, cut := inFlight(onSlow), inFlight(revoked)
	b.Eventually("the calls are at the server", func() error {
		if slow.Count() < 2 {
			return errAgain
		}
		return nil
	})

	lines := stream.AwaitEnd(t, life+inForce)
	t.Run("a stream ends, and says that it may be opened again", func(t *testing.T) {
		require.Contains(t, strings.Join(lines, "\n"), "retry:")
	})
	t.Run("the expired token is refused with the challenge on every method", func(t *testing.T) {
		b.In(t).Eventually("it has expired", func() error {
			got, err := conversation.Send(ping)
			require.NoError(t, err)
			if got.Status != http.StatusUnauthorized {
				return errAgain
			}
			return nil
		})
		for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete, http.MethodHead, http.MethodPut, http.MethodPatch} {
			for range 2 {
				got, err := conversation.Application.Do(conversation.Message(method, ""))
				require.NoError(t, err)
				require.Equal(t, http.StatusUnauthorized, got.Status, "%s: %s", method, got.Body)
				wantChallenge(t, b, conversation.Application.Resource, got.Header, true)
			}
		}
	})
	t.Run("a revocation still cuts a call whose token has expired meanwhile", func(t *testing.T) {
		select {
		case <-cut:
			t.Fatal("the call has ended before")
		default:
		}
		b.In(t).Write("mcp/revoke-client/"+bed.Oncall, nil)
		select {
		case got, ok := <-cut:
			require.False(t, ok && got.Status == http.StatusOK, "it was answered: %d %s", got.Status, got.Body)
		case <-time.After(inForce):
			t.Fatal("the call goes on")
		}
	})
	t.Run("a call in flight is answered", func(t *testing.T) {
		select {
		case <-answered:
			t.Fatal("the call has ended before its answer")
		default:
		}
		close(release)
		got, ok := <-answered
		require.True(t, ok, "the call was cut")
		require.Equal(t, http.StatusOK, got.Status, got.Body)
		require.Contains(t, got.Body, "at last")
	})
	t.Run("with the next token, the session and the child are as they were", func(t *testing.T) {
		notes.Refresh(t)
		require.Contains(t, conversation.Call(t, "list_notes", `{}`), "kept over the expiry")
		conversation.Listen(t).Open(t)
	})
	t.Run("and for nobody else", func(t *testing.T) {
		bob := b.SignIn(t, bed.Bob, b.Application(bed.Editor, b.ServerURL(bed.Notes)), bed.Engineering)
		r := conversation.Message(http.MethodPost, ping)
		r.Token = bob.AccessToken
		got, err := conversation.Application.Do(r)
		require.NoError(t, err)
		require.Equal(t, http.StatusNotFound, got.Status, got.Body)
	})
}
