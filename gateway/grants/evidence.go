package grants

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/hashicorp/vault/api"
)

const (
	// refusedTries is how often a login is tried that Vault refuses, before the
	// gateway waits for another one to be put in its place; refusedPause is how
	// long it does, so that few enough count towards Vault's lockout.
	refusedTries = 2
	refusedPause = 10 * time.Minute

	// evidencePoll is how often the files of a login that failed are looked at.
	evidencePoll = time.Second
)

// evidence is a hash of what a login is made with.
type evidence [sha256.Size]byte

// evidenceOf reads files; what cannot be read counts as empty.
func evidenceOf(paths ...string) evidence {
	hash := sha256.New()
	for _, path := range paths {
		var sum [sha256.Size]byte
		if content, err := os.ReadFile(path); err == nil {
			sum = sha256.Sum256(content)
		}
		hash.Write(sum[:])
	}
	return evidence(hash.Sum(nil))
}

// sleepUnlessShown waits, or until the next login would be made with something
// else than presented.
func (s *session) sleepUnlessShown(ctx context.Context, d time.Duration, presented evidence) error {
	for until := time.Now().Add(d); ; {
		left := time.Until(until)
		if left <= 0 || s.method.evidence() != presented {
			return ctx.Err()
		}
		if err := sleep(ctx, min(left, evidencePoll)); err != nil {
			return err
		}
	}
}

// isBadEvidence reports whether Vault has looked at what the login was made with,
// and refused it. That counts: after the fifth time Vault locks the role for a
// quarter of an hour, for every gateway that uses it.
//
// https://developer.hashicorp.com/vault/docs/concepts/user-lockout
func isBadEvidence(err error) bool {
	var refused *api.ResponseError
	return errors.As(err, &refused) && refused.StatusCode == http.StatusBadRequest
}
