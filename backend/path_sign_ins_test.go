package backend

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestWhoIsSignedInIsListedUntilTheSignInEnds(t *testing.T) {
	e := newEnv(t).withSignIn()
	require.Empty(t, e.rows())
	began, ends := e.in(0), e.in(12*time.Hour)
	e.signedIn(ann(), "c", data{"sign_in_ends": ends, "application_name": "Cursor\u202e\x07 "})
	id := e.read("clients/c")["client_id"]
	want := data{
		"client": "c", "client_id": id, "person": "ann@example.com", "login": "employees", "entity_id": "entity-of-ann",
		"application": "cursor", "application_name": "Cursor", "since": began, "last_seen": began, "until": ends,
		"end_with": "vault token revoke -accessor accessor-of-ann",
	}
	require.Equal(t, data{"accessor-of-ann": want}, e.rows())

	e.clock.Advance(10 * time.Minute)
	second := e.signedIn(ann(), "c", data{"sign_in_ends": ends, "application_name": "Cursor"})
	want["last_seen"] = e.in(0)
	require.Equal(t, data{"accessor-of-ann": want}, e.rows())

	bob := ann()
	bob.accessor, bob.entity.ID, bob.entity.Aliases[1].Name = "accessor-of-bob", "entity-of-bob", "bob@example.com"
	e.signedIn(bob, "c", nil)
	require.Len(t, e.rows(), 2)

	require.NoError(t, e.revokeLease(second))
	e.delete("clients/c")
	e.clock.Advance(12*time.Hour - 10*time.Minute - time.Nanosecond)
	require.Equal(t, data{"accessor-of-ann": want}, e.rows(), "it is listed until then, whatever has ended it")
	e.clock.Advance(time.Nanosecond)
	require.Empty(t, e.rows())
	require.Nil(t, e.read("sign-ins/accessor-of-ann"))
}

func TestWithoutAnEndASignInIsListedAsLongAsItsToken(t *testing.T) {
	for name, d := range map[string]data{"no end": nil, "an end that is over": {"sign_in_ends": "2026-11-22T08:00:00Z"}} {
		e := newEnv(t).withSignIn()
		e.signedIn(ann(), "c", d)
		require.Equal(t, e.in(15*time.Minute), e.read("sign-ins/accessor-of-ann")["until"], name)
	}
}

// A refresh asks as the same client, with the same application. The end of a sign-in, and the
// audit log, rely on that.
func TestOneVaultTokenIsOneSignIn(t *testing.T) {
	for name, tc := range map[string]struct {
		client string
		data   data
		change func(*signer)
		told   string
	}{
		"another application": {client: "c", data: data{"application": "claude"}, told: "field application: "},
		"another client":      {client: "d", told: "field name: "},
		"another login": {client: "c", data: data{"login": "ci"}, change: func(s *signer) {
			s.entity.Aliases[0].MountAccessor = ciMount
		}, told: "field login: "},
		"another person by now": {client: "c", change: func(s *signer) {
			s.entity.Aliases[1].Name = "bob@example.com"
		}, told: "log in again"},
		"another entity by now": {client: "c", change: func(s *signer) { s.entity.ID = "entity-of-bob" }, told: "log in again"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t).withSignIn()
			e.client("d", data{"sign_in": true})
			e.signedIn(ann(), "c", nil)
			who := ann()
			if tc.change != nil {
				tc.change(who)
			}
			require.Contains(t, e.signInRefused(who, logical.UpdateOperation, tc.client, signInData(tc.data)), tc.told)
			e.signedIn(ann(), "c", data{"resource": "https://mcp.example.com/sign-in/servers/a/mcp"})
		})
	}
}

func TestTwoFirstRequestsOfOneVaultTokenAreOneSignIn(t *testing.T) {
	e := newEnv(t).withSignIn()
	texts := e.atOnce(signInPrefix, ann(), data{"application": "cursor"}, ann(), data{"application": "claude"})
	slices.Sort(texts)
	require.Empty(t, texts[0])
	require.Contains(t, texts[1], "field application: ")
}

func TestTidyRemovesSignInsThatAreOverAndNoOthers(t *testing.T) {
	e := newEnv(t).withSignIn()
	e.signedIn(ann(), "c", data{"sign_in_ends": e.in(time.Hour), "assertion_id": "one", "assertion_expires": e.in(time.Hour)})
	late := ann()
	late.accessor = "accessor-of-later"
	e.signedIn(late, "c", data{"sign_in_ends": e.in(3 * time.Hour), "assertion_id": "two", "assertion_expires": e.in(3 * time.Hour)})

	e.clock.Advance(time.Hour - time.Second)
	e.tidyToEnd()
	require.Len(t, e.keys(signInPrefix), 2)
	e.clock.Advance(time.Second)
	e.tidyToEnd()
	require.Equal(t, []string{signInPrefix + "accessor-of-later"}, e.keys(signInPrefix))
	require.Len(t, e.keys(assertionPrefix), 2, "auth methods take an assertion for some minutes longer")
	e.clock.Advance(time.Hour)
	e.tidyToEnd()
	require.Len(t, e.keys(assertionPrefix), 1)
	e.clock.Advance(2 * time.Hour)
	e.tidyToEnd()
	require.Empty(t, e.keys(signInPrefix))
	require.Empty(t, e.keys(assertionPrefix))
}

// The row gets a token just when tidy has read that it is over.
func TestTidySparesASignInThatGetsATokenMeanwhile(t *testing.T) {
	e := newEnv(t).withSignIn()
	e.signedIn(ann(), "c", nil)
	e.clock.Advance(15 * time.Minute)
	renewed := false
	storage := &hookedStorage{Storage: e.storage, after: func(string, string) {
		if !renewed {
			renewed = true
			e.signedIn(ann(), "c", nil)
		}
	}}
	require.NoError(t, e.b.tidySignIn(context.Background(), storage, "accessor-of-ann"))
	require.True(t, renewed)
	require.Len(t, e.rows(), 1)
}
