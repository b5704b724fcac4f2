package upstream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/upstream/bed"
)

// runs is how often a test repeats itself: in its short form, or as a variable says.
func runs(t *testing.T, variable string, short int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return short
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, variable)
	return n
}

// lessor is a Vault with the recipe's database role, and a policy to lease it.
type lessor struct {
	*harness.Harness
	pg *bed.PostgreSQL
	t  *testing.T
}

func newLessor(t *testing.T) *lessor {
	t.Helper()
	bed.Required(t)
	h := harness.New(t, harness.WithoutEngine())
	l := &lessor{Harness: h, pg: bed.StartPostgreSQL(t, h), t: t}
	bed.SetUpDatabase(t, h, l.pg, "5m", "1h")
	l.grant()
	return l
}

// grant writes the policy of lease's tokens.
func (l *lessor) grant() {
	l.t.Helper()
	l.Write("sys/policies/acl/lease", harness.Map{"policy": `path "database/creds/*" { capabilities = ["read"] }
path "auth/token/revoke-self" { capabilities = ["update"] }`})
}

// leased is a database role, and the token that it ends with.
type leased struct {
	child          *api.Client
	name, password string
	lease          string
	role           uint32
}

func (l *lessor) lease() *leased {
	l.t.Helper()
	secret, err := l.Vault.Client().Auth().Token().CreateWithContext(l.t.Context(), &api.TokenCreateRequest{
		Policies: []string{"lease"}, NoDefaultPolicy: true, TTL: "5m",
	})
	require.NoError(l.t, err)
	child := l.Vault.ClientWithToken(secret.Auth.ClientToken)
	credentials, err := child.Logical().ReadWithContext(l.t.Context(), "database/creds/"+bed.DatabaseRole)
	require.NoError(l.t, err)
	c := &leased{
		child: child, lease: credentials.LeaseID,
		name: credentials.Data["username"].(string), password: credentials.Data["password"].(string),
	}
	l.Secret(secret.Auth.ClientToken)
	l.Leased(c.password)
	c.role = l.pg.Role(c.name)
	require.NotZero(l.t, c.role)
	return c
}

// gone waits until the role is dropped, and returns how long that took.
func (l *lessor) gone(c *leased) time.Duration {
	l.t.Helper()
	began := time.Now()
	l.Within(bed.Promised, "the role is gone", func() error {
		if l.pg.Role(c.name) != 0 {
			return errors.New("it is there")
		}
		return nil
	})
	return time.Since(began)
}

// intruder is a program that has a role's password, and uses it from many goroutines: some
// hold a session until it is cut, others open one after the other.
type intruder struct {
	logins, refusals atomic.Int64
	stop             func()
}

// intrude starts an intruder that also makes a table.
func intrude(t *testing.T, url, table string) *intruder {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	in := &intruder{}
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				session, err := pgx.Connect(ctx, url)
				if err != nil {
					in.refusals.Add(1)
					continue
				}
				in.logins.Add(1)
				if worker == 0 {
					_, _ = session.Exec(ctx, "CREATE TABLE "+table+" ()")
				}
				if worker < 2 {
					_, _ = session.Exec(ctx, "SELECT pg_sleep(60)")
				}
				_ = session.Close(ctx)
			}
		})
	}
	in.stop = sync.OnceFunc(func() { cancel(); group.Wait() })
	t.Cleanup(in.stop)
	return in
}

// TestTheRecipeLeavesNothingOfARole ends the token under which a database role was leased,
// while a program with the role's password has sessions open, opens others all the time,
// and has made a table.
func TestTheRecipeLeavesNothingOfARole(t *testing.T) {
	l := newLessor(t)
	before := l.pg.Roles()
	var slowest time.Duration
	for run := range runs(t, "UPSTREAM_RUNS", 5) {
		table := fmt.Sprint("made_", run)
		c := l.lease()
		in := intrude(t, l.pg.URL(c.name, c.password, bed.Database), table)
		l.Eventually("the intruder is inside", func() error {
			if owner := l.pg.TableOwner(table); owner != c.name || l.pg.Sessions(c.role) < 2 || in.logins.Load() < 20 {
				return fmt.Errorf("the table's owner is %q", owner)
			}
			return nil
		})
		require.NoError(t, c.child.Auth().Token().RevokeSelfWithContext(t.Context(), ""))
		slowest = max(slowest, l.gone(c))
		refusals := in.refusals.Load()
		l.Eventually("the intruder is refused", func() error {
			if in.refusals.Load() < refusals+20 {
				return errors.New("it is not")
			}
			return nil
		})
		require.Zero(t, l.pg.Sessions(c.role), "sessions outlive their role")
		require.Equal(t, before, l.pg.Roles())
		require.Equal(t, bed.Owner, l.pg.TableOwner(table), "the table is handed over")
		in.stop()
	}
	t.Logf("the slowest role was gone %s after the answer to revoke-self", slowest.Round(time.Millisecond))
}

// TestARoleThatIsGoneAlreadyIsNoTrouble: Vault repeats a revocation that has failed on its
// way back, and an administrator may have dropped the role.
func TestARoleThatIsGoneAlreadyIsNoTrouble(t *testing.T) {
	l := newLessor(t)
	c := l.lease()
	for _, statement := range []string{"DROP OWNED BY", "DROP ROLE"} {
		l.pg.Exec(statement + ` "` + c.name + `"`)
	}
	l.Write("sys/leases/revoke", harness.Map{"lease_id": c.lease, "sync": true})
	_, err := l.TryWrite("sys/leases/lookup", harness.Map{"lease_id": c.lease})
	require.ErrorContains(t, err, "invalid lease")
	l.lease() // the connection to the database is as good as before
}
