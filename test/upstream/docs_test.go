package upstream

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/test/docrun"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/upstream/bed"
)

// page is the page with the recipes.
const page = "upstream-credentials.md"

// ofDatabase are words in commands that need a whole Vault and PostgreSQL.
var ofDatabase = []string{"psql", "database", ".sql", "mcp-orders"}

// TestDocsUpstreamCredentials runs every command of the page, in order; without a whole
// Vault, those that need no database.
func TestDocsUpstreamCredentials(t *testing.T) {
	t.Parallel()
	h := harness.New(t)
	if bed.Whole() {
		pg := bed.StartEmptyPostgreSQL(t, h)
		docrun.RunPage(t, h, page, append(pg.Environment(), "DB="+pg.Address, "SSLMODE=disable"))
		pg.Use(bed.Database)
		l := &lessor{Harness: h, pg: pg, t: t}
		l.grant()
		c := l.lease()
		in := intrude(t, pg.URL(c.name, c.password, bed.Database), "made")
		h.Eventually("the role is used", func() error {
			if pg.TableOwner("made") != c.name || in.logins.Load() < 10 {
				return errors.New("it is not")
			}
			return nil
		})
		require.NoError(t, c.child.Auth().Token().RevokeSelfWithContext(t.Context(), ""))
		l.gone(c)
		require.Zero(t, pg.Sessions(c.role))
		require.Equal(t, bed.Owner, pg.TableOwner("made"))
		return
	}
	var commands []docrun.Command
	for _, c := range docrun.Read(t, page).Commands() {
		if !containsAny(c.Text, ofDatabase) {
			commands = append(commands, c)
		}
	}
	docrun.WantOutputs(t, commands, docrun.RunShell(t, h, commands, nil))
}

func containsAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// TestThePageHasTheStatementsThatAreTested compares the page with the statements that
// the tests of the database use.
func TestThePageHasTheStatementsThatAreTested(t *testing.T) {
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	require.NoError(t, err)
	for _, statements := range bed.Statements() {
		require.Contains(t, string(content), "> "+strings.ReplaceAll(statements, "\n", "\n> ")+"\n")
	}
}
