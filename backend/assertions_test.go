package backend

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

const usedBefore = "the assertion was used before"

// job is a machine that has logged in again with a Vault token of its own.
func job(login int) *signer {
	return &signer{accessor: fmt.Sprint("accessor-of-login-", login), entity: &logical.Entity{
		ID: "entity-of-job", Aliases: []*logical.Alias{
			{MountAccessor: ciMount, Name: "repo:app"}, {MountAccessor: employees, Name: "job"},
		},
	}}
}

func TestAnAssertionIsUsedOnce(t *testing.T) {
	e := newEnv(t).withSignIn()
	d := data{"login": "ci", "assertion_id": "jti-1", "assertion_expires": e.in(time.Hour)}
	l := e.signedIn(job(1), "c", d)
	require.Equal(t, usedBefore, e.signInRefused(job(2), logical.UpdateOperation, "c", signInData(d)))
	require.True(t, e.active(l.token), "the second use ended what the first one got")

	other := data{"login": "ci", "assertion_id": "jti-2", "assertion_expires": e.in(time.Hour)}
	e.signedIn(job(3), "c", other)
	atOther := data{"login": "employees", "assertion_id": "jti-1", "assertion_expires": e.in(time.Hour)}
	e.signedIn(job(4), "c", atOther)

	again := e.restart()
	require.Equal(t, usedBefore, again.signInRefused(job(5), logical.UpdateOperation, "c", signInData(d)))
	again.clock.Advance(time.Hour + 59*time.Minute)
	d["assertion_expires"] = again.in(time.Minute) // even if its holder claims another expiry now
	require.Equal(t, usedBefore, again.signInRefused(job(6), logical.UpdateOperation, "c", signInData(d)))
	again.tidyToEnd()
	require.Equal(t, usedBefore, again.signInRefused(job(7), logical.UpdateOperation, "c", signInData(d)))
}

func TestAnAssertionThatHasJustExpiredIsRememberedAsWell(t *testing.T) {
	e := newEnv(t).withSignIn()
	d := data{"login": "ci", "assertion_id": "jti-1", "assertion_expires": e.in(-30 * time.Second)}
	e.signedIn(job(1), "c", d)
	e.clock.Advance(59 * time.Minute)
	e.tidyToEnd()
	require.Equal(t, usedBefore, e.signInRefused(job(2), logical.UpdateOperation, "c", signInData(d)))
}

func TestOfTwoUsesOfAnAssertionAtOnceOneIsAccepted(t *testing.T) {
	e := newEnv(t).withSignIn()
	d := data{"login": "ci", "assertion_id": "jti", "assertion_expires": e.in(time.Hour)}
	texts := e.atOnce(assertionPrefix, job(1), d, job(2), d)
	slices.Sort(texts)
	require.Equal(t, []string{"", usedBefore}, texts)
}

func TestNoKeyOfStorageHasAnAssertion(t *testing.T) {
	e := newEnv(t).withSignIn()
	e.signedIn(job(1), "c", data{"login": "ci", "assertion_id": "jti-in-clear", "assertion_expires": e.in(time.Hour)})
	for key, value := range contentsOf(t, e.storage) {
		require.NotContains(t, key, "jti-in-clear")
		require.NotContains(t, string(value), "jti-in-clear")
	}
}
