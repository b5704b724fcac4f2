package signin

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/signin/bed"
)

// inForce bounds the time until a change has reached every gateway: the promised second, and
// another one for the machine.
const inForce = 2 * time.Second

// errAgain is why a test waits on.
var errAgain = errors.New("it is to be asked again")

// personToken is a Vault token of somebody who has signed in.
type personToken struct {
	accessor string
	ttl      time.Duration
}

// tokensOf are the Vault tokens of a person that live.
func tokensOf(t *testing.T, b *bed.Bed, person string) []personToken {
	t.Helper()
	b = b.In(t)
	entity := b.Company.EntityOf(t, person)
	var found []personToken
	for _, accessor := range b.List("auth/token/accessors") {
		token, err := b.TryWrite("auth/token/lookup-accessor", harness.Map{"accessor": accessor})
		if err != nil || token["entity_id"] != entity {
			continue // it has ended since, or is another's
		}
		ttl, err := token["ttl"].(json.Number).Int64()
		require.NoError(t, err)
		found = append(found, personToken{accessor, time.Duration(ttl) * time.Second})
	}
	return found
}

// awaitNoTokens waits until a person has no Vault token.
func awaitNoTokens(t *testing.T, b *bed.Bed, person string) {
	t.Helper()
	b.In(t).Eventually("no token of "+person+" is left", func() error {
		if left := tokensOf(t, b, person); len(left) > 0 {
			return fmt.Errorf("there are %v", left)
		}
		return nil
	})
}

// signInOf is the id of a session's sign-in, as the engine knows it.
func signInOf(t *testing.T, b *bed.Bed, s *bed.Session) string {
	t.Helper()
	id, _ := introspect(t, b, s.AccessToken)["sign_in"].(string)
	require.NotEmpty(t, id)
	return id
}

// wantDead fails the test unless a session cannot be refreshed any more, for good.
func wantDead(t *testing.T, s *bed.Session) {
	t.Helper()
	for range 2 { // it is cheap to ask again, as some clients do for ever
		got, err := s.Application.Refresh(s.RefreshToken, nil)
		require.NoError(t, err)
		require.Equal(t, 400, got.Status, got.Body)
		require.Equal(t, "invalid_grant", got.Error, got.Body)
	}
}

// awaitEvent waits for a line of the type "sign-in", and returns it.
func awaitEvent(t *testing.T, b *bed.Bed, is func(harness.Map) bool) (line harness.Map) {
	t.Helper()
	b.In(t).Eventually("the audit line of a sign-in", func() error {
		for _, g := range b.Gateways {
			for _, line = range g.Audit() {
				if line["type"] == "sign-in" && is(line) {
					return nil
				}
			}
		}
		return errors.New("none yet")
	})
	return line
}

// counted is how often an event of sign-in has happened at all gateways, by their metrics.
func counted(b *bed.Bed, event string) (n int) {
	for _, g := range b.Gateways {
		for line := range strings.Lines(g.Metrics()) {
			if strings.HasPrefix(line, `mcp_gateway_sign_in_events_total{event="`+event+`"`) {
				var value float64
				_, _ = fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &value)
				n += int(value)
			}
		}
	}
	return n
}

// sorted sorts a list.
func sorted(list []string) []string {
	slices.Sort(list)
	return list
}
