package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Variable names the server that a test's program is to be: [Stdio] or [Database].
const Variable = "TEST_UPSTREAM_SERVER"

// The servers on stdio.
const (
	// Stdio shows its environment and files.
	Stdio = "stdio"
	// Database uses PostgreSQL, and ends only when it is killed.
	Database = "database"
	// Loud says all that it was given on standard error, and fails.
	Loud = "loud"
)

// LastWords are the last line of a loud server.
const LastWords = "these were the last words of a loud server"

// Main runs the server that the environment names, and ends the program after that. It
// returns at once where the environment names none.
func Main() {
	var err error
	switch os.Getenv(Variable) {
	case "":
		return
	case Stdio:
		err = newServer(Stdio, nil).Run(context.Background(), &mcp.StdioTransport{})
	case Database:
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		err = runDatabase(context.Background())
		fmt.Fprintln(os.Stderr, "the input has ended:", err)
		select {} // and does not care
	case Loud:
		for _, variable := range os.Environ() {
			name, value, _ := strings.Cut(variable, "=")
			content, _ := os.ReadFile(value)
			fmt.Fprintf(os.Stderr, "%s=%s %s\n", name, value, content)
		}
		err = errors.New(LastWords)
	default:
		err = fmt.Errorf("%s=%q is not a server", Variable, os.Getenv(Variable))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	syscall.Exit(0) // os.Exit would wait for a second, for the race detector
}
