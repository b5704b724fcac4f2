package commandline

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// Exit statuses of a program.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 2 // the arguments were not understood
)

// ErrReported ends a command with status 1 that has reported its failure already.
var ErrReported = errors.New("reported")

// errUsage stands for a mistake in the arguments that was reported already.
var errUsage = errors.New("usage")

// Streams are where a command writes.
type Streams struct {
	Stdout io.Writer // its result
	Stderr io.Writer // errors
}

// Run does a command's work. Names are its arguments that are not flags.
type Run func(ctx context.Context, names []string, out Streams) error

// Command is a program's command, a group of commands, or both.
type Command struct {
	Name      string
	Summary   string // one line, which a small letter begins and no full stop ends
	Arguments string // the text after the name in the synopsis, without flags
	About     string // further paragraphs, for help and the manual page
	// Setup defines the command's flags, and returns its action. Help, completion and the
	// manual page call it for the flags alone, so it must not do anything else. It is nil
	// for a group that does nothing by itself.
	Setup    func(flags *Flags) Run
	Commands []Command
}

// Program is a program as it is seen on the command line.
type Program struct {
	Command
	Version     func() string // the text that version and -version print
	Environment []Variable    // for the manual page
	See         []string      // other pages of the manual, such as mcp-gateway(1)
}

// Variable is an environment variable, or some of them, that a program reads.
type Variable struct{ Name, Text string }

// Main runs the command that the arguments name, and returns the program's exit status.
func (p *Program) Main(ctx context.Context, args []string, out Streams) int {
	if len(args) > 0 && args[0] == askForCandidates {
		for _, one := range p.candidates(args[1:]) {
			fmt.Fprintln(out.Stdout, one)
		}
		return ExitOK
	}
	if len(args) > 0 && slices.Contains([]string{"-version", "--version", "-v", "--v", "-V"}, args[0]) {
		args = slices.Concat([]string{"version"}, args[1:])
	}
	root := p.Root()
	path, command, rest, asked := find(root, args)
	switch err := start(ctx, path, command, rest, asked, out); {
	case err == nil:
		return ExitOK
	case errors.Is(err, errUsage):
		return ExitUsage
	case errors.Is(err, ErrReported):
		return ExitFailed
	default:
		fmt.Fprintf(out.Stderr, "%s: %v\n", p.Name, err)
		return ExitFailed
	}
}

// Root is the program as a command, with the commands that every program has.
func (p *Program) Root() *Command {
	root := p.Command
	root.Commands = append(slices.Clone(p.Commands),
		Command{
			Name: "help", Summary: "print the purpose of a command, and its flags", Arguments: "[COMMAND]",
			Setup: func(*Flags) Run { return nil }, // find sees to it
		},
		Command{Name: "version", Summary: "print the version", Setup: func(*Flags) Run {
			return func(_ context.Context, _ []string, out Streams) error {
				_, err := fmt.Fprintln(out.Stdout, p.Version())
				return err
			}
		}},
		p.completion(),
		Command{
			Name: "man", Summary: "print the manual page", About: "It is read with: " + p.Name + " man | man -l -",
			Setup: func(*Flags) Run {
				return func(_ context.Context, _ []string, out Streams) error { return p.Man(out.Stdout) }
			},
		},
	)
	return &root
}

// isHelp reports whether a word asks for help.
func isHelp(word string) bool {
	return slices.Contains([]string{"help", "-help", "--help", "-h", "--h"}, word)
}

// find follows arguments to the command that they name, and reports whether they ask for its
// help: help COMMAND, or COMMAND help, in each spelling.
func find(command *Command, args []string) (path string, found *Command, rest []string, help bool) {
	path = command.Name
	for len(args) > 0 && len(command.Commands) > 0 {
		if isHelp(args[0]) {
			help, args = true, args[1:]
			continue
		}
		i := slices.IndexFunc(command.Commands, func(c Command) bool { return c.Name == args[0] })
		if i < 0 {
			break
		}
		command, args = &command.Commands[i], args[1:]
		path += " " + command.Name
	}
	return path, command, args, help
}

// start runs a command, or prints its help.
func start(ctx context.Context, path string, command *Command, args []string, help bool, out Streams) error {
	group := len(command.Commands) > 0
	flags := command.Flags(path)
	switch {
	case group && len(args) > 0 && (help || command.Setup == nil || !strings.HasPrefix(args[0], "-")):
		fmt.Fprintf(out.Stderr, "%s: there is no command %q%s\n\n", path, args[0], near(args[0], command.names()))
		flags.help(out.Stderr)
		return errUsage
	case help:
		flags.help(out.Stdout)
		return nil
	case command.Setup == nil:
		flags.help(out.Stderr)
		return errUsage
	}
	names, err := flags.parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		flags.help(out.Stdout)
		return nil
	case err != nil:
		fmt.Fprintf(out.Stderr, "%v\nSee `%s -help`.\n", err, path)
		return errUsage
	}
	return flags.run(ctx, names, out)
}

// names are the names of a group's commands.
func (c *Command) names() []string {
	names := make([]string, 0, len(c.Commands))
	for _, one := range c.Commands {
		names = append(names, one.Name)
	}
	return names
}

// near proposes the word that was probably meant, if one of them is near to the written
// one.
func near(written string, words []string) string {
	best, least := "", max(len(written)/3, min(len(written)/2, 2))+1 // two letters that are swapped are two
	for _, word := range words {
		if distance := levenshtein.Distance(written, word, nil); distance < least {
			best, least = word, distance
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}
