// Program mcp-bootstrap takes an empty Vault to a working broker of MCP, and runs
// the whole system on one machine to try it and to develop it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set at build time: -ldflags "-X main.version=v1.2.3".
var version = "v0.0.0-dev"

// command is one of the program's subcommands.
type command struct {
	name    string
	summary string
	run     func(ctx context.Context, args []string) error
}

func commands() []command {
	return []command{
		{"apply", "bring a Vault to the state that a folder of files describes", runApply},
		{"dev", "run Vault, the plugin, the gateway and two demo servers on this machine", runDev},
		{"demo", "serve a demo MCP server: calculator or notes", runDemo},
		{"doctor", "look at a running broker, and say what is wrong and what to do", runDoctor},
		{"export", "print a client's configuration for Cursor, Claude Code and others", runExport},
		{"version", "print the version", func(context.Context, []string) error {
			_, err := fmt.Println(version)
			return err
		}},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// The first signal asks for an orderly end; a second one does not wait for it.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stderr))
}

// errUsage stands for a mistake in the arguments that was reported already.
var errUsage = errors.New("usage")

// run returns the program's exit status: 1 for a failure, 2 for arguments that
// were not understood.
func run(ctx context.Context, args []string, stderr io.Writer) int {
	if len(args) > 0 {
		for _, c := range commands() {
			if c.name == args[0] {
				return status(c.run(ctx, args[1:]), stderr)
			}
		}
		fmt.Fprintf(stderr, "mcp-bootstrap: there is no command %q\n\n", args[0])
	}
	fmt.Fprint(stderr, "Usage: mcp-bootstrap <command> [flags]\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(stderr, "  %-8s %s\n", c.name, c.summary)
	}
	fmt.Fprint(stderr, "\nmcp-bootstrap <command> -help lists a command's flags.\n")
	return 2
}

func status(err error, stderr io.Writer) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	default:
		fmt.Fprintf(stderr, "mcp-bootstrap: %v\n", err)
		return 1
	}
}

// parse reads a command's flags, and refuses arguments beside them.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return errUsage // the flag set has said what was wrong
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(flags.Output(), "%s takes no argument %q\n", flags.Name(), flags.Arg(0))
		flags.Usage()
		return errUsage
	}
	return nil
}
