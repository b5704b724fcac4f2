package harness

import (
	"io"
	"net/http"
	"time"
)

const (
	// lookupBound is a gateway's timeout for Vault's answer about a token.
	lookupBound = time.Second

	// lookupPatience bounds the repetitions by clients of the harness.
	lookupPatience = 10 * time.Second
)

// Patient sends requests, and repeats those that the gateway could not decide because
// Vault has not answered about the token in time. Such an answer is a 503 with
// Retry-After that comes after the timeout of a lookup. On a busy machine that is not a
// defect, and docs/reliability.md tells clients to repeat it. A 503 that comes sooner has
// another reason, and Patient returns it like any answer.
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

// Undecided reports whether Patient repeats a request after this answer, which took that
// long.
func Undecided(status int, retryAfter string, took time.Duration) bool {
	return status == http.StatusServiceUnavailable && retryAfter != "" && took >= lookupBound
}
