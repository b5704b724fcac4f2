package commandline

import (
	"flag"
	"fmt"
	"io"
	"strings"
)

// help prints a command's synopsis, its purpose, its commands and its flags.
func (f *Flags) help(to io.Writer) {
	for i, line := range synopsis(f.Name(), f.command) {
		lead := "Usage: "
		if i > 0 {
			lead = "       "
		}
		fmt.Fprintln(to, lead+line)
	}
	fmt.Fprintf(to, "\n%s\n", sentence(f.command.Summary))
	if f.command.About != "" {
		fmt.Fprintf(to, "\n%s\n", f.command.About)
	}
	if len(f.command.Commands) > 0 {
		fmt.Fprint(to, "\nCommands:\n")
		for _, one := range f.command.Commands {
			fmt.Fprintf(to, "  %-10s  %s\n", one.Name, one.Summary)
		}
	}
	if f.any() {
		fmt.Fprint(to, "\nFlags:\n")
		f.SetOutput(to)
		f.PrintDefaults()
		f.SetOutput(io.Discard)
	}
}

// synopsis has the forms in which a command is written.
func synopsis(path string, command *Command) []string {
	var lines []string
	if command.Setup != nil {
		line := path
		if command.Arguments != "" {
			line += " " + command.Arguments
		}
		if command.Flags(path).any() {
			line += " [flags]"
		}
		lines = append(lines, line)
	}
	switch {
	case len(command.Commands) == 0:
	case strings.Contains(path, " "):
		for i := range command.Commands {
			lines = append(lines, synopsis(path+" "+command.Commands[i].Name, &command.Commands[i])...)
		}
	case command.Setup == nil:
		lines = append(lines, path+" COMMAND [flags]")
	default:
		lines = append(lines, path+" COMMAND")
	}
	return lines
}

// any reports whether there are flags.
func (f *Flags) any() bool {
	found := false
	f.VisitAll(func(*flag.Flag) { found = true })
	return found
}

// sentence makes a sentence of a summary.
func sentence(summary string) string {
	return strings.ToUpper(summary[:1]) + summary[1:] + "."
}
