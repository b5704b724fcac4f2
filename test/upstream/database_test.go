package upstream

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/upstream/bed"
	"vault-plugin-secrets-mcp/test/upstream/servers"
)

// TestARoleIsRenewedWhileItIsUsed: the same role, beyond its default_ttl.
func TestARoleIsRenewedWhileItIsUsed(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{database: true, roleTTL: "10s", roleMaxTTL: "1h"})
	session := w.connect(orders, w.client("c", nil))
	user := ask[servers.Row](t, session, "whoami", harness.Map{}).User
	for end := time.Now().Add(25 * time.Second); time.Now().Before(end); pause(time.Second) {
		require.Equal(t, user, ask[servers.Row](t, session, "whoami", harness.Map{}).User)
	}
	require.Len(t, bed.Leases(w.Harness, "database/creds/"+bed.DatabaseRole), 1)
}

// TestADatabaseThatIsDownCostsItsServerAlone: nothing can be leased, and roles that are
// revoked meanwhile end when the database is back and Vault tries again.
func TestADatabaseThatIsDownCostsItsServerAlone(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{database: true})
	holder := w.client("holder", nil)
	a := &holdings{w: w, client: "holder", token: holder}
	a.usesDatabase(w.connect(orders, holder))
	w.pg.Stop()
	line := w.unavailableStdio(orders, w.client("c", nil))
	require.Equal(t, reason, line["reason"], line)
	w.works(web, holder)
	w.Write("mcp/revoke-client/holder", nil)
	w.Within(beside, "the process ends", func() error { return ended(a.pids[0]) })
	w.Within(beside, "the Vault tokens end", func() error { return none(accessors(w.tokens("holder"))) })
	w.pg.Start()
	began := time.Now()
	w.Within(2*time.Minute, "Vault ends the role at last", func() error {
		if w.pg.Role(a.user) != 0 {
			return errors.New("it exists")
		}
		return nil
	})
	t.Logf("the role was gone %s after the database was back", time.Since(began).Round(time.Second))
	w.works(orders, w.client("d", nil))
}

// unavailableStdio is unavailable for a server on stdio, of which no process starts.
func (w *surroundings) unavailableStdio(server, token string) harness.Map {
	w.t.Helper()
	w.meet(token)
	lines := len(w.gateway.Audit())
	answer := w.callOnce(server, token)
	require.Equal(w.t, http.StatusServiceUnavailable, answer.Status, answer.Body)
	return w.refusal(server, lines)
}

// TestADatabaseThatRefusesTheRole: the creation statements fail.
func TestADatabaseThatRefusesTheRole(t *testing.T) {
	t.Parallel()
	w := newSurroundings(t, settings{database: true})
	token := w.client("c", nil)
	w.pg.Exec("REVOKE " + bed.Owner + " FROM " + bed.Admin)
	line := w.unavailableStdio(orders, token)
	require.Equal(t, reason, line["reason"], line)
	roles := w.pg.Roles()
	w.pg.Exec("GRANT " + bed.Owner + " TO " + bed.Admin)
	w.works(orders, token)
	w.Write("mcp/revoke-client/c", nil)
	w.Within(beside, "the role is gone", func() error {
		if now := w.pg.Roles(); len(now) != len(roles) {
			return fmt.Errorf("there are %v", now)
		}
		return nil
	})
}

// TestALeaseThatVaultCannotEndIsCounted: after six attempts Vault gives up. The page tells
// administrators to watch that number.
func TestALeaseThatVaultCannotEndIsCounted(t *testing.T) {
	t.Parallel()
	if os.Getenv("UPSTREAM_RUNS") == "" {
		t.Skip("takes eleven minutes, and runs in the long form alone")
	}
	l := newLessor(t)
	c := l.lease()
	l.pg.Stop()
	require.NoError(t, c.child.Auth().Token().RevokeSelfWithContext(t.Context(), ""))
	vault := l.Vault.Client().Logical()
	l.Within(15*time.Minute, "Vault gives up", func() error {
		answer, err := vault.ReadWithDataWithContext(t.Context(), "sys/leases/count", url.Values{"type": {"irrevocable"}})
		if err != nil {
			return err
		}
		if answer == nil || fmt.Sprint(answer.Data["lease_count"]) != "1" {
			return fmt.Errorf("it says %v", answer)
		}
		return nil
	})
	l.pg.Start()
	require.NotZero(t, l.pg.Role(c.name), "the role is gone")
}

// TestPeopleInADirectoryEndWithTheirClient: LDAP, as the database.
func TestPeopleInADirectoryEndWithTheirClient(t *testing.T) {
	t.Parallel()
	bed.Required(t)
	w := newSurroundings(t, settings{})
	directory := bed.StartLDAP(t, w.Harness)
	bed.SetUpLDAP(t, w.Harness, directory, 5*time.Minute, time.Hour)
	w.Write("mcp/servers/people", harness.Map{
		"transport": "http", "url": w.upstreams[web].URL, "credentials": harness.Map{"ldap": "ldap/creds/" + bed.LDAPRole},
		"headers": harness.Map{"X-User": "{{ldap.username}}", "X-Password": "{{ldap.password}}", "Authorization": "Basic {{ldap.username|basic:ldap.password}}"},
	})
	token := w.client("c", nil)
	w.works("people", token)
	seen := w.look(w.connect("people", token))
	person, password := bed.Person(seen.Header.Get("X-User")), seen.Header.Get("X-Password")
	require.NoError(t, directory.Login(person, password))
	w.Write("mcp/revoke-client/c", nil)
	w.Within(beside, "the directory does not know the person", func() error {
		if directory.Login(person, password) == nil {
			return errors.New("it does")
		}
		return nil
	})
}
