package commandline

import (
	"flag"
	"fmt"
	"io"
	"strings"
)

// Man writes the program's page of the manual, in the macros of man(7). It is the same on
// every machine and at every time.
func (p *Program) Man(to io.Writer) error {
	page := &manual{}
	root := p.Root()
	page.line(".TH %s 1 \"\" vault-plugin-secrets-mcp", strings.ToUpper(p.Name))
	// Neither are words broken, nor lines stretched.
	page.line(".nh\n.ad l")
	page.section("NAME")
	page.text(p.Name + " - " + p.Summary)
	page.section("SYNOPSIS")
	page.synopsis(p.Name, root)
	page.section("DESCRIPTION")
	page.text(sentence(p.Summary))
	page.text(p.About)
	if p.Setup != nil {
		page.section("OPTIONS")
		page.flags(root.Flags(p.Name))
	}
	page.section("COMMANDS")
	page.commands(p.Name, root.Commands)
	if len(p.Environment) > 0 {
		page.section("ENVIRONMENT")
		for _, one := range p.Environment {
			page.line(".TP\n.B %s", escaped(one.Name))
			page.text(one.Text)
		}
	}
	page.section("EXIT STATUS")
	for _, one := range []string{"0 Success.", "1 A failure, which is told on standard error.", "2 Arguments that are not understood."} {
		status, text, _ := strings.Cut(one, " ")
		page.line(".TP\n.B %s", status)
		page.text(text)
	}
	if len(p.See) > 0 {
		page.section("SEE ALSO")
		for i, one := range p.See {
			name, section, _ := strings.Cut(strings.TrimSuffix(one, ")"), "(")
			end := ","
			if i == len(p.See)-1 {
				end = ""
			}
			page.line(".BR %s (%s)%s", escaped(name), section, end)
		}
	}
	_, err := io.WriteString(to, page.String())
	return err
}

// manual is a page that is written.
type manual struct{ strings.Builder }

func (m *manual) line(format string, args ...any) { fmt.Fprintf(m, format+"\n", args...) }

func (m *manual) section(name string) { m.line(".SH %q", name) }

// text writes paragraphs. Lines that are indented stay lines.
func (m *manual) text(text string) {
	for i, paragraph := range strings.Split(text, "\n\n") {
		if paragraph == "" {
			continue
		}
		if i > 0 {
			m.line(".PP")
		}
		if strings.HasPrefix(paragraph, " ") {
			m.line(".nf\n%s\n.fi", escaped(paragraph))
		} else {
			m.line("%s", escaped(paragraph))
		}
	}
}

func (m *manual) synopsis(path string, command *Command) {
	for i, line := range synopsis(path, command) {
		if i > 0 {
			m.line(".br")
		}
		m.line(".B %s", escaped(line))
	}
}

// commands writes a part for each command, and for those in groups.
func (m *manual) commands(path string, all []Command) {
	for i := range all {
		command := &all[i]
		name := path + " " + command.Name
		_, short, _ := strings.Cut(name, " ")
		m.line(".SS \"%s\"", escaped(short))
		if command.Setup != nil {
			m.synopsis(name, command)
			m.line(".PP")
		}
		m.text(sentence(command.Summary))
		if command.About != "" {
			m.line(".PP")
			m.text(command.About)
		}
		m.flags(command.Flags(name))
		m.commands(name, command.Commands)
	}
}

func (m *manual) flags(flags *Flags) {
	flags.VisitAll(func(one *flag.Flag) {
		what, text := flag.UnquoteUsage(one)
		m.line(".TP")
		if isSwitch(one) {
			m.line(".B \\-%s", escaped(one.Name))
		} else {
			m.line(".BI \\-%s \" %s\"", escaped(one.Name), escaped(strings.ToUpper(what)))
		}
		if value := one.DefValue; value != "" && value != "false" && value != "0" {
			text += " (default: " + value + ")"
		}
		m.text(text)
	})
}

// escaped is a text without a meaning for troff.
func escaped(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...", "“", `"`, "”", `"`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
