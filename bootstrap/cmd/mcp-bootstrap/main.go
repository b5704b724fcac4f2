// Command mcp-bootstrap turns an empty Vault into a working broker of MCP, and runs the whole
// system on one machine for trying and development.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"vault-plugin-secrets-mcp/bootstrap/doctor"
)

// version is set at build time: -ldflags "-X main.version=v1.2.3".
var version = "v0.0.0-dev"

// streams are where a command writes.
type streams struct {
	stdout io.Writer // its result
	stderr io.Writer // errors
}

// command is one of the program's subcommands.
type command struct {
	name    string
	summary string
	run     func(ctx context.Context, args []string, out streams) error
}

func commands() []command {
	return []command{
		{"apply", "bring a Vault to the state that a folder of files describes", runApply},
		{"dev", "run Vault, the plugin, the gateway and two demo servers on this machine", runDev},
		{"demo", "serve a demo MCP server: calculator or notes", runDemo},
		{"doctor", "examine a running broker, and print problems with their remedies", runDoctor},
		{"review", "show who reaches what, what was not used, and the commands that narrow it", runReview},
		{"pins", "show the definitions of servers that nobody has approved, and approve them", runPins},
		{"export", "print a client's configuration for Cursor, Claude Code and others", runExport},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// The first signal asks for an orderly end; a second one does not wait for it.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], streams{os.Stdout, os.Stderr}))
}

// errUsage stands for a mistake in the arguments that was reported already.
var errUsage = errors.New("usage")

// run returns the program's exit status: 1 for a failure, 2 for arguments that
// were not understood.
func run(ctx context.Context, args []string, out streams) int {
	if len(args) == 0 {
		usage(out.stderr)
		return 2
	}
	name, rest := args[0], args[1:]
	switch strings.TrimLeft(name, "-") {
	case "h", "help":
		if len(rest) == 0 || rest[0] == "help" || rest[0] == "version" {
			usage(out.stdout)
			return 0
		}
		name, rest = rest[0], append(rest[1:], "-help") // help COMMAND
	case "version", "v", "V":
		if len(rest) == 0 {
			fmt.Fprintln(out.stdout, version)
			return 0
		}
		fmt.Fprintf(out.stderr, "mcp-bootstrap: %s takes no argument %q\n", name, rest[0])
		return 2
	}
	all := commands()
	i := slices.IndexFunc(all, func(c command) bool { return c.name == name })
	if i < 0 {
		fmt.Fprintf(out.stderr, "mcp-bootstrap: there is no command %q\n\n", name)
		usage(out.stderr)
		return 2
	}
	return status(all[i].run(ctx, rest, out), out.stderr)
}

func usage(to io.Writer) {
	fmt.Fprint(to, "Usage: mcp-bootstrap COMMAND [flags]\n\nCommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(to, "  %-8s %s\n", c.name, c.summary)
	}
	fmt.Fprint(to, "  help     print this, or with a command its flags: mcp-bootstrap help apply\n"+
		"  version  print the version\n")
}

func status(err error, stderr io.Writer) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	case errors.Is(err, doctor.ErrFindings):
		return 1
	default:
		fmt.Fprintf(stderr, "mcp-bootstrap: %v\n", err)
		return 1
	}
}

// newFlags makes a command's set of flags. arguments follow the command's name in its
// synopsis.
func newFlags(name, arguments string, out streams) *flag.FlagSet {
	flags := flag.NewFlagSet("mcp-bootstrap "+name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // parse reports mistakes
	flags.Usage = func() {
		fmt.Fprintf(out.stdout, "Usage: %s %s\n", flags.Name(), arguments)
		if i := slices.IndexFunc(commands(), func(c command) bool { return c.name == name }); i >= 0 {
			summary := commands()[i].summary
			fmt.Fprintf(out.stdout, "\n%s%s.\n", strings.ToUpper(summary[:1]), summary[1:])
		}
		flags.SetOutput(out.stdout)
		fmt.Fprint(out.stdout, "\nFlags:\n")
		flags.PrintDefaults()
		flags.SetOutput(io.Discard)
	}
	return flags
}

// parse reads a command's flags, and refuses arguments beside them.
func parse(flags *flag.FlagSet, args []string, out streams) error {
	return parseAll(flags, args, out, nil, func() []string { return nil })
}

// parseAll is parse for a command with flags that must be given. It reports all
// mistakes at once, those that check finds included.
func parseAll(flags *flag.FlagSet, args []string, out streams, required []string, check func() []string) error {
	wanted := false
	show := flags.Usage
	flags.Usage = func() {} // the flag set asks for it after a mistake, too
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		wanted = true
	case err != nil && strings.Contains(err.Error(), "not defined"):
		var names []string
		flags.VisitAll(func(f *flag.Flag) { names = append(names, "-"+f.Name) })
		return misused(flags, out, fmt.Sprintf("%v; there are %s", err, strings.Join(names, ", ")))
	case err != nil:
		return misused(flags, out, err.Error())
	}
	if wanted || flags.NArg() == 1 && flags.Arg(0) == "help" {
		show()
		return flag.ErrHelp
	}
	var wrong []string
	if flags.NArg() > 0 {
		wrong = append(wrong, fmt.Sprintf("it takes no argument %q", flags.Arg(0)))
	}
	for _, name := range required {
		if f := flags.Lookup(name); f.Value.String() == "" {
			what, text := flag.UnquoteUsage(f)
			wrong = append(wrong, fmt.Sprintf("-%s %s is missing: %s", name, strings.ToUpper(what), text))
		}
	}
	if wrong = append(wrong, check()...); len(wrong) > 0 {
		return misused(flags, out, wrong...)
	}
	return nil
}

// misused reports mistakes in a command's arguments.
func misused(flags *flag.FlagSet, out streams, mistakes ...string) error {
	for _, mistake := range mistakes {
		fmt.Fprintf(out.stderr, "%s: %s\n", flags.Name(), mistake)
	}
	fmt.Fprintf(out.stderr, "See `%s -help`.\n", flags.Name())
	return errUsage
}
