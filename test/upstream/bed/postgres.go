package bed

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/test/harness"
)

// The database, and the roles that an administrator has made in it.
const (
	Database = "orders"
	// Owner owns the database's tables. Nobody logs in as it.
	Owner = "orders_owner"
	// Admin is the role with which Vault makes and drops others. It is not a superuser.
	Admin = "vault"
)

// PostgreSQL is a PostgreSQL server on the loopback, with a data folder of its own.
type PostgreSQL struct {
	// Address is its host and port.
	Address string
	// AdminPassword is that of Admin.
	AdminPassword string

	h        *harness.Harness
	t        testing.TB
	spec     process.Spec
	process  *process.Process
	super    string     // the superuser's password
	mu       sync.Mutex // of database
	database *pgx.Conn  // the superuser's, in Database
}

// StartPostgreSQL starts PostgreSQL, and prepares the database as the recipe says.
func StartPostgreSQL(t testing.TB, h *harness.Harness) *PostgreSQL {
	t.Helper()
	pg := StartEmptyPostgreSQL(t, h)
	pg.Exec("CREATE ROLE " + Owner)
	pg.Exec("CREATE DATABASE " + Database + " OWNER " + Owner)
	pg.Use(Database)
	pg.prepare()
	return pg
}

// StartEmptyPostgreSQL starts PostgreSQL as Debian installs it.
func StartEmptyPostgreSQL(t testing.TB, h *harness.Harness) *PostgreSQL {
	t.Helper()
	Required(t)
	pg := &PostgreSQL{Address: harness.FreeAddress(t), AdminPassword: rand.Text(), super: rand.Text(), h: h, t: t}
	h.Secret(pg.AdminPassword)
	h.Secret(pg.super)
	dir := accountFolder(t)
	data := filepath.Join(dir, "data")
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(pg.super), 0o644); err != nil {
		t.Fatal(err)
	}
	initdb := asAccount(process.Spec{
		Path: serverProgram(t, "initdb"),
		Args: []string{"-D", data, "-U", "postgres", "--auth=scram-sha-256", "--pwfile=" + password, "--no-sync", "-E", "UTF8", "--no-locale"},
	})
	cmd := exec.CommandContext(t.Context(), initdb.Path, initdb.Args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	_, port := splitAddress(t, pg.Address)
	args := []string{"-D", data, "-p", port, "-k", ""}
	for _, setting := range []string{
		"listen_addresses=127.0.0.1", "max_connections=400", "fsync=off", "synchronous_commit=off", "full_page_writes=off",
		"log_min_messages=warning",
	} {
		args = append(args, "-c", setting)
	}
	pg.spec = asAccount(process.Spec{Name: "postgres", Path: serverProgram(t, "postgres"), Args: args})
	pg.process = h.Run(pg.spec)
	t.Cleanup(pg.Stop)
	pg.connect("postgres")
	return pg
}

// Use has the superuser work in another database from here on.
func (pg *PostgreSQL) Use(database string) {
	pg.t.Helper()
	_ = pg.database.Close(pg.t.Context())
	pg.connect(database)
}

// Environment are libpq's variables for the superuser.
func (pg *PostgreSQL) Environment() []string {
	host, port := splitAddress(pg.t, pg.Address)
	return []string{"PGHOST=" + host, "PGPORT=" + port, "PGUSER=postgres", "PGPASSWORD=" + pg.super, "PGDATABASE=postgres"}
}

// Stop ends the server, and all sessions. SIGTERM would wait for them, Vault's among them.
func (pg *PostgreSQL) Stop() {
	_ = pg.process.Signal(syscall.SIGINT)
	<-pg.process.Done()
}

// Start starts a server that was stopped, with its data.
func (pg *PostgreSQL) Start() {
	pg.t.Helper()
	pg.process = pg.h.Run(pg.spec)
	pg.connect(Database)
}

// connect waits until the server takes the superuser's connection.
func (pg *PostgreSQL) connect(database string) {
	pg.t.Helper()
	err := pg.process.Await(pg.t.Context(), time.Minute, func(ctx context.Context) error {
		session, err := pgx.Connect(ctx, pg.URL("postgres", pg.super, database))
		if err == nil {
			pg.mu.Lock()
			pg.database = session
			pg.mu.Unlock()
		}
		return err
	})
	if err != nil {
		pg.t.Fatal(err)
	}
}

// prepare makes the roles of an administrator, and a table, as the recipe says.
func (pg *PostgreSQL) prepare() {
	for _, statement := range []string{
		"CREATE ROLE " + Admin + " LOGIN CREATEROLE PASSWORD '" + pg.AdminPassword + "'",
		"GRANT " + Owner + ", pg_signal_backend TO " + Admin,
		"CREATE TABLE orders (id int, item text)",
		"ALTER TABLE orders OWNER TO " + Owner,
		"INSERT INTO orders VALUES (1, 'lamp')",
	} {
		pg.Exec(statement)
	}
}

// URL is for a connection as some role.
func (pg *PostgreSQL) URL(role, password, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(role, password), Host: pg.Address, Path: database,
		RawQuery: "sslmode=disable&connect_timeout=5",
	}
	return u.String()
}

// Exec runs one statement as the superuser.
func (pg *PostgreSQL) Exec(statement string) {
	pg.t.Helper()
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if _, err := pg.database.Exec(pg.t.Context(), statement); err != nil {
		pg.t.Fatalf("%s: %v", statement, err)
	}
}

// Role is a role's object id, which outlives its name: a session of a role that was
// dropped still has it. It is 0 where no such role exists.
func (pg *PostgreSQL) Role(name string) uint32 {
	pg.t.Helper()
	return one[uint32](pg, "SELECT coalesce((SELECT oid FROM pg_roles WHERE rolname = $1), 0)", name)
}

// Sessions counts the sessions of a role, by its object id.
func (pg *PostgreSQL) Sessions(role uint32) int {
	pg.t.Helper()
	return one[int](pg, "SELECT count(*) FROM pg_stat_activity WHERE usesysid = $1", role)
}

// Roles are the names of all roles but PostgreSQL's own.
func (pg *PostgreSQL) Roles() []string {
	pg.t.Helper()
	names := one[[]string](pg, "SELECT coalesce(array_agg(rolname::text), '{}') FROM pg_roles WHERE rolname !~ '^pg_'")
	slices.Sort(names)
	return names
}

// TableOwner is the role that owns a table of the database, and empty where there is no
// such table.
func (pg *PostgreSQL) TableOwner(table string) string {
	pg.t.Helper()
	return one[string](pg, "SELECT coalesce((SELECT tableowner::text FROM pg_tables WHERE tablename = $1), '')", table)
}

// one is the only value of a query as the superuser.
func one[T any](pg *PostgreSQL, query string, arguments ...any) T {
	pg.t.Helper()
	var value T
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if err := pg.database.QueryRow(pg.t.Context(), query, arguments...).Scan(&value); err != nil {
		pg.t.Fatalf("%s: %v", query, err)
	}
	return value
}

// serverProgram is a program of PostgreSQL's server, which Debian keeps off the PATH.
func serverProgram(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		t.Fatalf("PostgreSQL's program %s is not on this machine (scripts/field.sh install upstream)", name)
	}
	return found[len(found)-1]
}

// account is whom servers run as that refuse to run as root.
const account = "nobody"

// asAccount makes a program run as somebody else where the test is root.
func asAccount(spec process.Spec) process.Spec {
	if os.Geteuid() != 0 {
		return spec
	}
	spec.Args = append([]string{"--reuid=" + account, "--clear-groups", "--regid=" + accountGroup(), spec.Path}, spec.Args...)
	spec.Path = "setpriv"
	return spec
}

func accountGroup() string {
	if found, err := user.Lookup(account); err == nil {
		return found.Gid
	}
	return "65534"
}

// accountFolder makes a folder that the account of asAccount owns, and nobody else.
func accountFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mcp-bed-") //nolint:usetesting // parents of t.TempDir are the test's owner's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if os.Geteuid() != 0 {
		return dir
	}
	found, err := user.Lookup(account)
	if err != nil {
		t.Fatal(err)
	}
	uid, uidErr := strconv.Atoi(found.Uid)
	gid, gidErr := strconv.Atoi(found.Gid)
	if uidErr != nil || gidErr != nil {
		t.Fatal(fmt.Errorf("the account %s has the ids %s and %s", account, found.Uid, found.Gid))
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return dir
}
