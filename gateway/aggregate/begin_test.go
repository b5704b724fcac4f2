package aggregate

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A request begins when all of it is there.
func TestARequestWhoseTokenExpiresBeforeItIsThereDoesNotBegin(t *testing.T) {
	for name, at := range endpoints {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newPeopleStage(t)
			mine := s.begin(at, s.signIn("s1", "ann", "claude", at, time.Hour))
			token := s.signIn("s1", "ann", "claude", at, time.Hour)
			body, rest := io.Pipe()
			answers := make(chan *http.Response, 1)
			go func() {
				answer, err := s.doFrom(context.Background(), body, with(mine, token)...)
				if err == nil {
					answers <- answer
				}
				close(answers)
			}()
			call := callOf(at, "pid")
			_, err := io.WriteString(rest, call[:20])
			require.NoError(t, err)
			s.expire(at, token)
			_, err = io.WriteString(rest, call[20:])
			require.NoError(t, err)
			require.NoError(t, rest.Close())
			answer := <-answers
			require.NotNil(t, answer)
			defer answer.Body.Close()
			require.Equal(t, http.StatusUnauthorized, answer.StatusCode)
			require.Len(t, answer.Header.Values("WWW-Authenticate"), 1)
		})
	}
}
