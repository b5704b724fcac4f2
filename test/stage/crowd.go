package stage

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Crowd returns how many clients a test gives one role, and how soon a change of the role must
// be in force for all. `make test-roles` sets the number, and has the machine for itself: then
// the promised second counts.
func Crowd(t *testing.T, otherwise int) (clients int, within time.Duration) {
	t.Helper()
	text := os.Getenv("ROLE_CLIENTS")
	if text == "" {
		return otherwise, InForce
	}
	clients, err := strconv.Atoi(text)
	require.NoError(t, err, "ROLE_CLIENTS")
	return clients, time.Second
}
