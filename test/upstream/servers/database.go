package servers

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// URLVariable has the URL of the database. Without it, libpq's variables (PGUSER and
// others) have its parts.
const URLVariable = "LEASED_DATABASE_URL"

// Row is the answer of the database's tools.
type Row struct {
	User string `json:"user"`
	PID  int    `json:"pid"`
}

// Table is the argument of the tool "table".
type Table struct {
	Name string `json:"name"`
}

// runDatabase serves the tools "whoami", which asks the database for the user, and
// "table", which makes a table. Meanwhile it opens sessions in a tight loop: one is held
// until it is cut, and others follow each other.
func runDatabase(ctx context.Context) error {
	url := os.Getenv(URLVariable)
	server := newServer(Database, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "whoami"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ any) (*mcp.CallToolResult, Row, error) {
		row := Row{PID: os.Getpid()}
		err := in(ctx, url, func(session *pgx.Conn) error {
			return session.QueryRow(ctx, "SELECT current_user::text").Scan(&row.User)
		})
		return nil, row, err
	})
	mcp.AddTool(server, &mcp.Tool{Name: "table"}, func(ctx context.Context, _ *mcp.CallToolRequest, table Table) (*mcp.CallToolResult, Row, error) {
		err := in(ctx, url, func(session *pgx.Conn) error {
			_, err := session.Exec(ctx, "CREATE TABLE "+pgx.Identifier{table.Name}.Sanitize()+" (n int)")
			return err
		})
		return nil, Row{PID: os.Getpid()}, err
	})
	if os.Getenv("TEST_QUIET") == "" {
		go hold(ctx, url)
		go reconnect(ctx, url)
	}
	return server.Run(ctx, &mcp.StdioTransport{})
}

// in opens a session, and closes it after its use.
func in(ctx context.Context, url string, use func(*pgx.Conn) error) error {
	session, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("cannot connect to the database: %w", err)
	}
	defer session.Close(context.WithoutCancel(ctx))
	return use(session)
}

// hold holds a session until it is cut, and opens the next at once.
func hold(ctx context.Context, url string) {
	for {
		_ = in(ctx, url, func(session *pgx.Conn) error {
			_, err := session.Exec(ctx, "SELECT pg_sleep(600)")
			return err
		})
	}
}

// reconnect opens one session after the other. It leaves the machine a little time.
func reconnect(ctx context.Context, url string) {
	for {
		_ = in(ctx, url, func(session *pgx.Conn) error { return session.Ping(ctx) })
		<-time.After(time.Millisecond)
	}
}
