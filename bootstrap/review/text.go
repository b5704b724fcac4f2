package review

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/console"
)

// writeText writes a review for a terminal: the sums, a line for each pair that is allowed, the
// changes, and the commands.
func writeText(to io.Writer, r *Review) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Who reaches what: mount %s of cluster %s, %s\n\n", r.Mount, r.Cluster, r.At.Format(time.RFC3339))
	for _, line := range r.sums() {
		fmt.Fprintln(&b, line)
	}
	fmt.Fprintln(&b, r.Coverage.today())
	fmt.Fprintln(&b, r.Coverage.gaps())
	for _, cause := range r.Coverage.causes() {
		fmt.Fprintln(&b, "  "+cause)
	}
	fmt.Fprintln(&b)
	r.textPairs(&b)
	r.textNothing(&b)
	if r.Difference != nil {
		r.Difference.text(&b, console.Of(to))
	}
	if len(r.Commands) > 0 {
		fmt.Fprintf(&b, "\nCommands that take unused rights away. Each narrows the rights of %s:\n", r.At.Format(time.RFC3339))
		for _, c := range r.Commands {
			fmt.Fprintf(&b, "\n# %s: %s\n%s\n", c.For, c.Why, c.Shell)
		}
	}
	_, err := io.WriteString(to, b.String())
	return err
}

func (r *Review) textPairs(b *strings.Builder) {
	if r.Counts.Allowed == 0 {
		fmt.Fprintln(b, "No client reaches any server.")
		return
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CLIENT\tROLE\tSERVER\tMAY USE\tUSE")
	for i := range r.Pairs {
		if p := &r.Pairs[i]; p.Allowed {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", p.Client, dash(r.Clients[i/len(r.Servers)].Role), p.Server, p.rules(), p.use())
		}
	}
	_ = w.Flush() // into memory
}

// textNothing names the clients that reach nothing, and why.
func (r *Review) textNothing(b *strings.Builder) {
	for i := range r.Clients {
		c := &r.Clients[i]
		if c.Reaches > 0 {
			continue
		}
		why := "its allow-lists name no server that is registered, enabled and admitted by its policies"
		switch {
		case c.Disabled:
			why = "it is disabled"
		case len(c.Missing) > 0:
			why = "there is no " + strings.Join(c.Missing, ", no ")
		}
		fmt.Fprintf(b, "%s reaches nothing: %s\n", c.Name, why)
	}
}

func (d *Difference) text(b *strings.Builder, terminal console.Terminal) {
	fmt.Fprintf(b, "\nSince the review of %s:\n", d.Since.Format(time.RFC3339))
	if d.None() {
		fmt.Fprintln(b, "Nothing has changed.")
		return
	}
	for _, part := range []struct {
		head, color string
		changes     []Change
	}{{"gained", console.Green, d.Gained}, {"lost", console.Red, d.Lost}, {"other rules", console.Yellow, d.Changed}} {
		for _, c := range part.changes {
			fmt.Fprintf(b, "%s: %s → %s (%s, before: %s)\n", terminal.Paint(part.color, part.head), c.Client, c.Server, dash(c.After), dash(c.Before))
		}
	}
	for _, part := range []struct {
		head  string
		names []string
	}{{"new clients", d.NewClients}, {"gone clients", d.GoneClients}, {"new servers", d.NewServers}, {"gone servers", d.GoneServers}} {
		if len(part.names) > 0 {
			fmt.Fprintf(b, "%s: %s\n", part.head, strings.Join(part.names, ", "))
		}
	}
}

func dash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}
