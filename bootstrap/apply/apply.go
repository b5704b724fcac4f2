package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/console"
)

// Options of a run.
type Options struct {
	// Dir holds the files.
	Dir string
	// Mount is where the engine is, or will be: "mcp".
	Mount string
	// Plugin is the plugin's program on this machine. Vault runs the
	// program with its SHA-256; the file itself must be in Vault's plugin_directory.
	Plugin string
	// PluginSHA256 and PluginVersion stand for a program that is not on this machine.
	PluginSHA256  string
	PluginVersion string
	// PluginCommand is the program's file in Vault's plugin_directory. Empty: the
	// base name of Plugin.
	PluginCommand string
	// TokenDir gets a file for each token that is issued. Empty: they are not kept.
	TokenDir string
	// GatewayDir gets role_id and secret_id, the gateway's login. Empty: none is made.
	GatewayDir string
	// DryRun shows the difference and changes nothing.
	DryRun bool
	// Adopt takes over things that apply did not create.
	Adopt bool
	// Prune deletes things that apply created and the files no longer name.
	Prune bool
	// Out gets the difference, the progress and the summary.
	Out io.Writer
	// Format is the form of all that: one of Formats.
	Format string
}

// forgetTimeout bounds the correction of the record after a failed step.
const forgetTimeout = 5 * time.Second

// session is one run.
type session struct {
	Options
	vault    *api.Client
	terminal console.Terminal
	taking   *step // the one that is taken now
	desired  *desired
	record   record
	mounted  bool // the engine is there, so that it can be asked
	mount    mount

	steps   []*step
	foreign []string // things that exist, differ, and are not apply's
	kept    []string // things that apply created and no file names
}

// step brings one thing to the state that the files describe.
type step struct {
	kind, name string
	// is the action: create, change, delete.
	is string
	// lines are the difference, as shown to people. No secret is in them.
	lines []string
	// warnings are shown in a dry run.
	warnings []string
	// told and messages are the texts of the step's execution: warnings, and the rest.
	told, messages []string
	// during is remembered beside it while it is done, fingerprint when it was.
	during, fingerprint string
	do                  func(ctx context.Context) error
}

// key is its key in the record.
func (p *step) key() string { return p.kind + " " + p.name }

func (p *step) title() string { return p.is + " " + p.kind + " " + p.name }

// Run brings Vault to the state that the files describe.
func Run(ctx context.Context, vault *api.Client, opts Options) (err error) {
	opts.Mount = strings.Trim(opts.Mount, "/")
	s := &session{Options: opts, vault: vault, terminal: console.Of(opts.Out)}
	done := 0
	if s.desired, err = load(s.Dir); err != nil {
		return err
	}
	planned := false
	if opts.Format == "json" {
		s.Out = io.Discard
		defer func() {
			if planned { // else nobody knows the steps
				err = errors.Join(err, s.report(opts.Out, done))
			}
		}()
	}
	err = connect.Check(ctx, vault)
	if err == nil {
		err = s.plan(ctx)
	}
	for _, note := range s.desired.notes { // some explain a mistake, such as a name that was changed
		fmt.Fprintln(s.Out, "note: "+note)
	}
	if err := s.desired.failure(err); err != nil {
		return err // the steps may not be all
	}
	planned = true
	if len(s.foreign) > 0 && !s.Adopt {
		return fmt.Errorf("nothing was changed: mcp-bootstrap did not create\n  %s\n"+
			"and the files want them otherwise. Take them out of the files, or take them over with -adopt", strings.Join(s.foreign, "\n  "))
	}
	if s.DryRun {
		return s.show()
	}
	done, err = s.work(ctx)
	return err
}

// show prints the difference.
func (s *session) show() error {
	for _, p := range s.steps {
		fmt.Fprintln(s.Out, p.title())
		s.showLines(p)
		for _, warning := range p.warnings {
			fmt.Fprintln(s.Out, "    warning: "+warning)
		}
	}
	s.showKept()
	if len(s.steps) == 0 {
		fmt.Fprintln(s.Out, "Nothing to do: Vault is as the files say.")
		return nil
	}
	_, err := fmt.Fprintf(s.Out, "%s to do. This was a dry run: nothing was changed.\n", count(len(s.steps), "step"))
	return err
}

func (s *session) showLines(p *step) {
	for _, line := range p.lines {
		fmt.Fprintln(s.Out, "    "+painted(s.terminal, line))
	}
}

func (s *session) showKept() {
	for _, what := range s.kept {
		fmt.Fprintf(s.Out, "note: no file names the %s any more: -prune deletes it\n", what)
	}
}

// work takes the steps, and returns how many of them are done.
func (s *session) work(ctx context.Context) (done int, err error) {
	if len(s.steps) == 0 {
		s.showKept()
		_, err := fmt.Fprintln(s.Out, "Nothing to do: Vault is as the files say.")
		return 0, err
	}
	for _, p := range s.steps {
		fmt.Fprintf(s.Out, "[%d/%d] %s\n", done+1, len(s.steps), p.title())
		s.showLines(p)
		s.taking = p
		if err := s.take(ctx, p); err != nil {
			return done, s.stopped(done, err)
		}
		done++
	}
	s.showKept()
	_, err = fmt.Fprintf(s.Out, "Done: %s, by kind: %s.\n", count(done, "step"), s.summary())
	return done, err
}

// take takes one step. Before it creates a thing it records that, so that after an
// interruption the next run recognises the thing.
func (s *session) take(ctx context.Context, p *step) error {
	key := p.key()
	_, known := s.record.held[key]
	if p.is != isDelete && (!known || p.during != "") {
		s.record.held[key] = p.during
		if err := s.writeRecord(ctx); err != nil {
			return err
		}
	}
	if err := p.do(ctx); err != nil {
		return errors.Join(err, s.forget(ctx, p, known, err))
	}
	switch {
	case p.is == isDelete:
		delete(s.record.held, key)
	case p.fingerprint != s.record.held[key]:
		s.record.held[key] = p.fingerprint
	default:
		return nil
	}
	return s.writeRecord(ctx)
}

// forget removes a thing from the record that Vault has refused to create. Without an
// answer from Vault the thing may exist, and then it belongs to apply.
func (s *session) forget(ctx context.Context, p *step, known bool, err error) error {
	folder, ours := folders[p.kind]
	if known || !ours || p.is != isCreate || connect.NoAnswer(err) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTimeout)
	defer cancel()
	have, err := s.read(ctx, folder+p.name)
	if err != nil || have != nil {
		return err
	}
	delete(s.record.held, p.key())
	return s.writeRecord(ctx)
}

// stopped reports which steps are done and which are not.
func (s *session) stopped(done int, err error) error {
	var text strings.Builder
	fmt.Fprintf(&text, "stopped at step %d of %d, %s: %v\n", done+1, len(s.steps), s.steps[done].title(), err)
	list := func(head string, steps []*step) {
		if len(steps) == 0 {
			return
		}
		fmt.Fprintln(&text, head)
		for _, p := range steps {
			fmt.Fprintln(&text, "  "+p.title())
		}
	}
	list("Done:", s.steps[:done])
	list("Not done:", s.steps[done:])
	if connect.NoAnswer(err) {
		fmt.Fprintf(&text, "Vault did not say whether it was done, so %s may be done all the same.\n", s.steps[done].title())
	}
	text.WriteString("Fix the cause, and run the same command again. That is safe: the next run compares again, and does the rest.")
	return errors.New(text.String())
}

func (s *session) summary() string {
	var kinds []string
	counts := map[string]int{}
	for _, p := range s.steps {
		if counts[p.kind]++; counts[p.kind] == 1 {
			kinds = append(kinds, p.kind)
		}
	}
	for i, kind := range kinds {
		kinds[i] = fmt.Sprintf("%s %d", kind, counts[kind])
	}
	return strings.Join(kinds, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
