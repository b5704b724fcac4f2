package pins

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/bootstrap/console"
)

// Formats are the forms of an answer.
func Formats() []string { return []string{"text", "json"} }

// Output is where an answer goes, and in which form.
type Output struct {
	Out    io.Writer
	Term   console.Terminal
	Format string
}

func (o *Output) json() bool { return o.Format == "json" }

func (o *Output) shower() *shower { return &shower{out: o.Out, term: o.Term} }

// ListServers tells how many definitions of which servers are approved and reported.
func ListServers(ctx context.Context, b *Broker, o *Output) error {
	all, err := b.List(ctx)
	switch {
	case err != nil:
		return err
	case o.json():
		return writeJSON(o.Out, all)
	case len(all) == 0:
		_, err := fmt.Fprintln(o.Out, "No server has pins.")
		return err
	}
	fmt.Fprintf(o.Out, "%-8s %9s %9s  %s\n", "pin", "approved", "reported", "server")
	for _, s := range all {
		fmt.Fprintf(o.Out, "%-8s %9d %9d  %s\n", s.Pin, s.Approved, s.Reported, s.Server)
	}
	return nil
}

// List shows the approved and the reported definitions of a server, with the whole text of
// those whose names are given.
func List(ctx context.Context, b *Broker, server string, wanted *Wanted, o *Output) error {
	texts := len(wanted.Names) > 0 || wanted.Digest != nil
	s, err := b.Read(ctx, server, texts)
	if err != nil {
		return err
	}
	if texts {
		items := s.Definitions(wanted)
		if len(items) == 0 {
			return fmt.Errorf("no such definition of %s is approved or reported: `mcp-bootstrap pins list %[1]s` lists those that are", server)
		}
		if o.json() {
			return writeJSON(o.Out, items)
		}
		w := o.shower()
		for i := range items {
			w.item(server, &items[i])
		}
		return nil
	}
	if o.json() {
		return writeJSON(o.Out, s)
	}
	if err := s.write(o.Out, wanted); err != nil || len(s.Approved)+len(s.Reported) > 0 {
		return err
	}
	_, err = fmt.Fprintf(o.Out, "%s: %s\n", s.Server, s.nothing(b))
	return err
}

// write lists the definitions without their texts.
func (s *State) write(out io.Writer, wanted *Wanted) error {
	fmt.Fprintf(out, "%s: %s\n", s.Server, s.mode())
	for _, line := range s.warnings() {
		fmt.Fprintln(out, line)
	}
	list := func(head string, entries []Entry, about func(*Entry) string) {
		first := true
		for i := range entries {
			e := &entries[i]
			if !wanted.takes(e) {
				continue
			}
			if first {
				fmt.Fprintf(out, "\n%s:\n", head)
			}
			first = false
			fmt.Fprintf(out, "  %s\n    %s, %s\n", title(e.Name), e.Digest, about(e))
		}
	}
	list("approved", s.Approved, approvedBy)
	list("reported, and not approved", s.Reported, func(e *Entry) string { return fmt.Sprintf("%s, %s, %d bytes", day(e.At), e.Change, e.Size) })
	return nil
}

// mode is the first line about a server: its fields, and the numbers of its definitions.
func (s *State) mode() string {
	kinds := ""
	if len(s.PinKinds) > 0 && len(s.PinKinds) < len(pin.Kinds()) {
		texts := make([]string, 0, len(s.PinKinds))
		for _, kind := range s.PinKinds {
			texts = append(texts, string(kind))
		}
		kinds = " for " + strings.Join(texts, ", ")
	}
	mode := s.Pin
	if mode == "" {
		mode = pin.Off
	}
	return fmt.Sprintf("pin=%s%s, %d approved, %d reported", mode, kinds, len(s.Approved), len(s.Reported))
}

func count(n int) string {
	if n == 1 {
		return "1 definition"
	}
	return strconv.Itoa(n) + " definitions"
}

func titles(names []Name) string {
	all := make([]string, 0, len(names))
	for _, name := range names {
		all = append(all, title(name))
	}
	return strings.Join(all, ", ")
}

// warnings are about pins in an unusual state.
func (s *State) warnings() []string {
	var lines []string
	if s.TrustFirstUntil != nil && !s.TrustFirstUntil.IsZero() {
		lines = append(lines, fmt.Sprintf("trust_first is on: until %s, the first definition that is reported under a new name is approved.", day(*s.TrustFirstUntil)))
	}
	if len(s.Frozen) > 0 {
		lines = append(lines, "Frozen, since the server showed different definitions within the hour of trust_first: "+titles(s.Frozen)+".")
	}
	if s.Lost > 0 {
		lines = append(lines, fmt.Sprintf("More was reported than is kept: %d reports are lost. forget_reported=true makes room.", s.Lost))
	}
	return lines
}

// Diff shows the reported definitions beside the approved ones, and the command that approves them.
func Diff(ctx context.Context, b *Broker, server string, wanted *Wanted, o *Output) error {
	s, err := b.Read(ctx, server, true)
	if err != nil {
		return err
	}
	return o.diff(b, s, wanted)
}

func (o *Output) diff(b *Broker, s *State, wanted *Wanted) error {
	c, err := s.Choose(wanted)
	switch {
	case err != nil:
		return err
	case o.json():
		return writeJSON(o.Out, c)
	}
	o.show(b, s, c)
	if len(c.Items) > 0 && !c.blocked(wanted) {
		fmt.Fprintf(o.Out, "To approve the definitions that are shown here, and no others:\n  %s\n", c.command(b, wanted))
	}
	return nil
}

func (o *Output) show(b *Broker, s *State, c *Choice) {
	w := o.shower()
	for _, line := range s.warnings() {
		w.print("%s\n", w.term.Paint(warning, w.term.Wrap("", line)))
	}
	if len(c.Already) > 0 {
		w.print("%s: already approved: %s.\n", s.Server, titles(c.Already))
	} else if len(c.Items) == 0 {
		w.print("%s: %s\n", s.Server, s.nothing(b))
	}
	for i := range c.Items {
		w.item(s.Server, &c.Items[i])
	}
}

// nothing says why there is nothing to approve.
func (s *State) nothing(b *Broker) string {
	switch {
	case s.Pin == "" || s.Pin == pin.Off:
		return fmt.Sprintf("pins are off at this server, so nothing is reported: `vault write %s/servers/%s pin=observe` changes that.", strings.Trim(b.Mount, "/"), s.Server)
	case len(s.Reported) > 0:
		return "nothing of this kind is reported that is not approved."
	case len(s.Approved) > 0:
		return "nothing is reported that is not approved."
	}
	return "nothing is approved, and no gateway has reported anything: have a client use the server."
}

// blocked reports whether something of the choice cannot be approved.
func (c *Choice) blocked(wanted *Wanted) bool {
	for i := range c.Items {
		if c.Items[i].wrong || c.Items[i].unseen && wanted.Digest == nil {
			return true
		}
	}
	return false
}

// command approves a choice.
func (c *Choice) command(b *Broker, wanted *Wanted) string {
	words := []string{"mcp-bootstrap pins approve", console.ShellQuoted(c.Server)}
	for _, name := range wanted.Names {
		words = append(words, console.ShellQuoted(name))
	}
	if wanted.Kind != "" {
		words = append(words, "-kind "+string(wanted.Kind))
	}
	if wanted.Digest != nil {
		words = append(words, "-digest "+wanted.Digest.String())
	}
	if mount := strings.Trim(b.Mount, "/"); mount != defaultMount {
		words = append(words, "-mount "+console.ShellQuoted(mount))
	}
	text := strings.Join(append(words, "-shown "+c.Shown, "-yes"), " ")
	return newSpeller(text, true, map[rune]int{}).inLine(text)
}

// defaultMount is where the engine is, unless -mount says.
const defaultMount = "mcp"

// Consent is the way in which a person agrees to an approval.
type Consent struct {
	Shown string    // the digest that a diff ended with; "": none
	Yes   bool      // agreed already, with Shown or with a digest
	In    io.Reader // a terminal to ask at; nil: there is none
}

// Errors of Approve.
var (
	errNoTerminal = errors.New("there is no terminal to ask at: look at `mcp-bootstrap pins diff`, and give the -shown that it ends with, and -yes")
	errNoYes      = errors.New("there is no terminal to ask at: add -yes")
	errNotAgreed  = errors.New("nothing was approved")
)

// Approve shows definitions as Diff does, and approves them if the person agrees.
func Approve(ctx context.Context, b *Broker, server string, wanted *Wanted, consent *Consent, o *Output) error {
	s, err := b.Read(ctx, server, true)
	if err != nil {
		return err
	}
	c, err := s.Choose(wanted)
	if err != nil {
		return err
	}
	if len(c.Items) == 0 && consent.Shown != "" && s.wasApproved(consent.Shown) {
		_, err := fmt.Fprintf(o.Out, "%s: all that was shown is already approved.\n", s.Server)
		return err
	}
	o.show(b, s, c)
	switch {
	case consent.Shown != "" && consent.Shown != c.Shown:
		return fmt.Errorf("the reported definitions of %s are not those of -shown any more: look at them above, and give -shown %s", s.Server, c.Shown)
	case len(c.Items) == 0:
		return nil
	case c.blocked(wanted):
		return errors.New("not all of this can be approved, see above: name the definitions that can")
	}
	if err := consent.ask(o.Out, fmt.Sprintf("Approve %s of %s?", count(len(c.Items)), s.Server)); err != nil {
		return err
	}
	entries := make([]Entry, 0, len(c.Items))
	for i := range c.Items {
		entries = append(entries, *c.Items[i].Reported)
	}
	warnings, err := b.Approve(ctx, s, entries)
	for _, warning := range warnings {
		fmt.Fprintln(o.Out, "warning: "+newSpeller(warning, false, map[rune]int{}).inLine(warning))
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(o.Out, "Approved %s of %s.\n", count(len(entries)), s.Server)
	return err
}

// ask returns nil if the person agrees.
func (c *Consent) ask(out io.Writer, question string) error {
	switch {
	case c.Yes:
		return nil
	case c.In == nil && c.Shown != "":
		return errNoYes
	case c.In == nil:
		return errNoTerminal
	}
	fmt.Fprintf(out, "%s Only yes approves: ", question)
	answer, err := bufio.NewReader(c.In).ReadString('\n')
	if strings.TrimSpace(answer) != "yes" {
		return errors.Join(errNotAgreed, ignoreEnd(err))
	}
	return nil
}

func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
