package backend

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
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
	d["assertion_expires"] = again.in(time.Minute) // whatever its holder says of it now
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

func TestOfManyUsesOfAnAssertionAtOnceOneIsAccepted(t *testing.T) {
	e := newEnv(t).withSignIn()
	who := job(0)
	e.signedIn(who, "c", data{"login": "ci"}) // which sets the entity
	var accepted, refused atomic.Int32
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			resp, err := e.b.HandleRequest(context.Background(), &logical.Request{
				Operation: logical.UpdateOperation, Path: "creds/c", Storage: e.storage,
				ClientTokenAccessor: fmt.Sprint("accessor-", i), EntityID: who.entity.ID,
				Data: signInData(data{"login": "ci", "assertion_id": "jti", "assertion_expires": e.in(time.Hour)}),
			})
			switch {
			case err == nil && resp.IsError() && resp.Error().Error() == usedBefore:
				refused.Add(1)
			case err == nil && !resp.IsError():
				accepted.Add(1)
			}
		})
	}
	group.Wait()
	require.EqualValues(t, 1, accepted.Load())
	require.EqualValues(t, 15, refused.Load())
}

func TestNoKeyOfStorageHasAnAssertion(t *testing.T) {
	e := newEnv(t).withSignIn()
	e.signedIn(job(1), "c", data{"login": "ci", "assertion_id": "jti-in-clear", "assertion_expires": e.in(time.Hour)})
	for key, value := range contentsOf(t, e.storage) {
		require.NotContains(t, key, "jti-in-clear")
		require.NotContains(t, string(value), "jti-in-clear")
	}
}
