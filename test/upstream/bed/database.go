package bed

import (
	"testing"

	"vault-plugin-secrets-mcp/test/harness"
)

// Creation makes a role that may read and write the database's table and make tables.
// Vault's own role becomes its member, so that it can hand over the role's tables. A test
// compares it with docs/upstream-credentials.md.
const Creation = `CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';
GRANT "{{name}}" TO CURRENT_USER;
GRANT SELECT, INSERT, UPDATE ON orders TO "{{name}}";
GRANT CREATE ON SCHEMA public TO "{{name}}";`

// Revocation leaves nothing of a role, although its sessions are open and it logs in all
// the time. Vault runs all statements in one transaction, and until that is committed the
// role can log in. So the first statement ends the transaction, and the last gives Vault one
// to end.
var Revocation = []string{"COMMIT", revocation, "BEGIN"}

// revocation is on the page likewise.
const revocation = `DO $$
DECLARE
  leased oid := (SELECT oid FROM pg_roles WHERE rolname = '{{name}}');
  starting int[];
BEGIN
  IF leased IS NULL THEN RETURN; END IF;
  ALTER ROLE "{{name}}" NOLOGIN;
  COMMIT;
  -- Whoever passed the check before that may have no session yet.
  starting := ARRAY(SELECT pid FROM pg_locks WHERE locktype = 'virtualxid'
    AND pid NOT IN (SELECT pid FROM pg_stat_activity));
  FOR i IN 1..200 LOOP
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = leased;
    PERFORM pg_sleep(0.01);
    COMMIT;
    EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE usesysid = leased)
      AND (i > 20 OR NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'virtualxid' AND pid = ANY (starting)
        AND pid NOT IN (SELECT pid FROM pg_stat_activity)));
  END LOOP;
  REASSIGN OWNED BY "{{name}}" TO orders_owner;
  DROP OWNED BY "{{name}}";
  DROP ROLE "{{name}}";
END $$`

// Statements are the texts that the page has.
func Statements() []string { return []string{Creation, revocation} }

// DatabaseRole is the role of database/creds.
const DatabaseRole = "orders-rw"

// SetUpDatabase mounts Vault's database engine with the recipe's role.
func SetUpDatabase(t testing.TB, h *harness.Harness, pg *PostgreSQL, ttl, maxTTL string) {
	t.Helper()
	h.Write("sys/mounts/database", harness.Map{"type": "database"})
	h.Write("database/config/"+Database, harness.Map{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "*",
		"connection_url": "postgresql://{{username}}:{{password}}@" + pg.Address + "/" + Database + "?sslmode=disable",
		"username":       Admin, "password": pg.AdminPassword,
		"password_authentication": "scram-sha-256", // so that PostgreSQL's log never has one
	})
	WriteDatabaseRole(h, DatabaseRole, Revocation, ttl, maxTTL)
}

// WriteDatabaseRole writes a role of the database engine.
func WriteDatabaseRole(h *harness.Harness, name string, revocation []string, ttl, maxTTL string) {
	h.Write("database/roles/"+name, harness.Map{
		"db_name": Database, "creation_statements": Creation, "revocation_statements": revocation,
		"default_ttl": ttl, "max_ttl": maxTTL,
	})
}
