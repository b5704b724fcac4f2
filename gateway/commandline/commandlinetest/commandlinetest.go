// Package commandlinetest examines the table of commands of a program.
package commandlinetest

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"vault-plugin-secrets-mcp/gateway/commandline"
)

// Check walks through every command of a program, and every flag of each. It wants help in
// every spelling, and every flag in the help, in completion and in the manual page.
func Check(t *testing.T, program func() *commandline.Program) {
	t.Helper()
	c := &checker{t: t, program: program}
	c.page = c.stdout("man")
	c.command(program().Root(), nil)
}

type checker struct {
	t       *testing.T
	program func() *commandline.Program
	page    string
}

// stdout runs the program, and returns its standard output. It must not fail, nor print
// anything on standard error.
func (c *checker) stdout(args ...string) string {
	c.t.Helper()
	var stdout, stderr strings.Builder
	status := c.program().Main(c.t.Context(), args, commandline.Streams{Stdout: &stdout, Stderr: &stderr})
	if status != commandline.ExitOK || stderr.Len() > 0 {
		c.t.Errorf("%q: status %d, and on standard error %q", args, status, stderr.String())
	}
	return stdout.String()
}

func (c *checker) command(command *commandline.Command, words []string) {
	c.t.Helper()
	full := strings.Join(append([]string{c.program().Name}, words...), " ")
	help := c.help(full, words)
	if strings.HasSuffix(command.Summary, ".") || command.Summary == "" {
		c.t.Errorf("%s: %q is not a summary", full, command.Summary)
	}
	command.Flags(full).VisitAll(func(one *flag.Flag) { c.flag(full, words, help, one) })
	offered := c.stdout(append(append([]string{"__complete"}, words...), "")...)
	for i := range command.Commands {
		sub := &command.Commands[i]
		if !strings.Contains(help, "\n  "+sub.Name+" ") {
			c.t.Errorf("%s: help lacks the command %s", full, sub.Name)
		}
		if !slices.Contains(strings.Split(offered, "\n"), sub.Name+"\t"+sub.Summary) {
			c.t.Errorf("%s: completion lacks the command %s: %s", full, sub.Name, offered)
		}
		if sub.Name == "help" {
			continue // asks for the help of the command that follows
		}
		path := strings.Join(append(slices.Clone(words), sub.Name), " ")
		if !strings.Contains(c.page, `.SS "`+strings.ReplaceAll(path, "-", `\-`)+"\"\n") {
			c.t.Errorf("the manual page lacks the command %s", path)
		}
		c.command(sub, append(slices.Clone(words), sub.Name))
	}
}

// help asks for a command's help in every spelling.
func (c *checker) help(full string, words []string) string {
	c.t.Helper()
	want := c.stdout(append([]string{"help"}, words...)...)
	if !strings.HasPrefix(want, "Usage: "+full) {
		c.t.Errorf("%s: the help is %q", full, want)
	}
	for _, word := range []string{"-h", "-help", "--help", "help"} {
		before, behind := append([]string{word}, words...), append(slices.Clone(words), word)
		if c.stdout(before...) != want || c.stdout(behind...) != want {
			c.t.Errorf("%q or %q is not the help of %s", before, behind, full)
		}
	}
	return want
}

func (c *checker) flag(full string, words []string, help string, one *flag.Flag) {
	c.t.Helper()
	if one.Usage == "" {
		c.t.Errorf("%s: -%s has no text", full, one.Name)
	}
	if !strings.Contains(help, "\n  -"+one.Name+" ") && !strings.Contains(help, "\n  -"+one.Name+"\n") {
		c.t.Errorf("%s: help lacks -%s", full, one.Name)
	}
	what, text := flag.UnquoteUsage(one)
	for _, dashes := range []string{"-", "--"} {
		offered := c.stdout(append(append([]string{"__complete"}, words...), dashes+one.Name)...)
		if !slices.Contains(strings.Split(offered, "\n"), dashes+one.Name+"\t"+text) {
			c.t.Errorf("%s: completion lacks %s%s: %s", full, dashes, one.Name, offered)
		}
	}
	// A flag that takes one of some words must also complete them.
	if value := c.stdout(append(append([]string{"__complete"}, words...), "-"+one.Name, "")...); strings.Contains(one.Usage, "one of: ") && !strings.Contains(one.Usage, strings.Join(strings.Fields(value), ", ")) {
		c.t.Errorf("%s: completion offers %q for -%s %s", full, value, one.Name, what)
	}
	// In the page, a command's part begins with its name; the program's own is called OPTIONS.
	part := `.SH "OPTIONS"`
	if len(words) > 0 {
		part = `.SS "` + strings.ReplaceAll(strings.Join(words, " "), "-", `\-`) + `"`
	}
	_, behind, _ := strings.Cut(c.page, part+"\n")
	behind, _, _ = strings.Cut(behind, "\n.S")
	name := `\-` + strings.ReplaceAll(one.Name, "-", `\-`)
	if !strings.Contains(behind+"\n", ".B "+name+"\n") && !strings.Contains(behind, ".BI "+name+" ") {
		c.t.Errorf("%s: the manual page lacks -%s", full, one.Name)
	}
}
