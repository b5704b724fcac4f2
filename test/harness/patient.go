package harness

import (
	"io"
	"net/http"
	"time"
)

const (
	// lookupBound is what a gateway gives Vault to answer for a token.
	lookupBound = time.Second

	// lookupPatience is how long clients of the harness ask again.
	lookupPatience = 10 * time.Second
)

// Patient sends requests, and those again that the gateway could not decide about,
// since Vault has not answered for the token in time. That is a 503 with Retry-After
// which came no sooner than the bound of a lookup, and docs/reliability.md has clients
// do so: on a machine that is busy with something else that is not a defect. A 503 that
// comes sooner has another reason, and is returned as any answer.
type Patient struct {
	Next http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (p *Patient) RoundTrip(r *http.Request) (*http.Response, error) {
	for end := time.Now().Add(lookupPatience); ; {
		sent := time.Now()
		response, err := p.Next.RoundTrip(r)
		if err != nil || !Undecided(response.StatusCode, response.Header.Get("Retry-After"), time.Since(sent)) || time.Now().After(end) {
			return response, err
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		r = r.Clone(r.Context())
		if r.GetBody != nil {
			if r.Body, err = r.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// Undecided tells whether an answer that took some time is one that Patient does not
// take for an answer.
func Undecided(status int, retryAfter string, took time.Duration) bool {
	return status == http.StatusServiceUnavailable && retryAfter != "" && took >= lookupBound
}
