package apply

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"vault-plugin-secrets-mcp/bootstrap/console"
)

// Formats are the forms in which a run is told.
func Formats() []string { return []string{"text", "json"} }

// Report is a run for machines: docs/bootstrap.md has its fields. No secret is in it.
type Report struct {
	DryRun  bool         `json:"dry_run"`
	Notes   []string     `json:"notes"`   // about the files
	Unnamed []string     `json:"unnamed"` // things that apply created and no file names
	Steps   []StepReport `json:"steps"`
}

// StepReport is a step of a run.
type StepReport struct {
	Action     string   `json:"action"` // create, change or delete
	Kind       string   `json:"kind"`
	Name       string   `json:"name"`
	Difference []string `json:"difference"` // as people see it
	Warnings   []string `json:"warnings"`
	Messages   []string `json:"messages"` // such as the place of a token
	Done       bool     `json:"done"`
}

// report writes the run as JSON, however it ended.
func (s *session) report(to io.Writer, done int) error {
	r := Report{DryRun: s.DryRun, Notes: listed(s.desired.notes), Unnamed: listed(s.kept), Steps: []StepReport{}}
	for i, p := range s.steps {
		warnings := p.told
		if s.DryRun {
			warnings = p.warnings
		}
		r.Steps = append(r.Steps, StepReport{
			Action: p.is, Kind: p.kind, Name: p.name, Difference: listed(p.lines),
			Warnings: listed(warnings), Messages: listed(p.messages), Done: i < done,
		})
	}
	e := json.NewEncoder(to)
	e.SetIndent("", " ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// listed is a list that JSON has as [] where it is empty.
func listed(all []string) []string {
	if all == nil {
		return []string{}
	}
	return all
}

// warned passes on a warning about the step that is taken.
func (s *session) warned(warning string) {
	fmt.Fprintln(s.Out, "    warning: "+warning)
	if s.taking != nil {
		s.taking.told = append(s.taking.told, warning)
	}
}

// tell says something else about the step that is taken.
func (s *session) tell(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	fmt.Fprintln(s.Out, "    "+text)
	if s.taking != nil {
		s.taking.messages = append(s.taking.messages, text)
	}
}

// painted colours the mark with which a line of a difference begins.
func painted(terminal console.Terminal, line string) string {
	for mark, color := range map[string]string{"+": console.Green, "-": console.Red, "~": console.Yellow} {
		if rest, ok := strings.CutPrefix(line, mark+" "); ok {
			return terminal.Paint(color, mark) + " " + rest
		}
	}
	return line
}
