package main

import (
	"context"
	"os"
	"strings"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/console"
	"vault-plugin-secrets-mcp/bootstrap/pins"
	"vault-plugin-secrets-mcp/gateway/commandline"
)

func pinsCommands() []commandline.Command {
	return []commandline.Command{
		{Name: "list", Summary: "show which definitions are approved, and which are reported", Arguments: "[SERVER [NAME…]]", Setup: setupPinsList},
		{Name: "diff", Summary: "show each reported definition beside the latest approved one", Arguments: "SERVER [NAME…]", Setup: setupPinsDiff},
		{Name: "approve", Summary: "show the same, and approve it", Arguments: "SERVER [NAME…]", Setup: setupPinsApprove},
	}
}

// pinsFlags are the flags and arguments of a command about pins.
type pinsFlags struct {
	mount, kind, digest string
	server              string
	wanted              pins.Wanted
}

func newPinsFlags(flags *commandline.Flags) *pinsFlags {
	in := &pinsFlags{}
	mount(flags, &in.mount)
	flags.StringVar(&in.kind, "kind", "", "definitions of this `kind` alone: "+strings.Join(kinds(), ", "))
	flags.StringVar(&in.digest, "digest", "", "the definition with this `digest` alone")
	flags.Words("kind", kinds()...)
	flags.TakesNames()
	flags.Check(in.check)
	return in
}

func kinds() []string {
	var words []string
	for _, one := range pin.Kinds() {
		words = append(words, string(one))
	}
	return words
}

func setupPinsList(flags *commandline.Flags) commandline.Run {
	format := pinsFormat(flags)
	in := newPinsFlags(flags)
	return in.run(format, func(ctx context.Context, broker *pins.Broker, output *pins.Output) error {
		if in.server == "" {
			return pins.ListServers(ctx, broker, output)
		}
		return pins.List(ctx, broker, in.server, &in.wanted, output)
	})
}

func setupPinsDiff(flags *commandline.Flags) commandline.Run {
	needServer(flags)
	format := pinsFormat(flags)
	in := newPinsFlags(flags)
	return in.run(format, func(ctx context.Context, broker *pins.Broker, output *pins.Output) error {
		return pins.Diff(ctx, broker, in.server, &in.wanted, output)
	})
}

func setupPinsApprove(flags *commandline.Flags) commandline.Run {
	var consent pins.Consent
	format := "text"
	needServer(flags)
	in := newPinsFlags(flags)
	flags.StringVar(&consent.Shown, "shown", "", "approve only the definitions that a diff has shown: the `digest` at its end")
	flags.BoolVar(&consent.Yes, "yes", false, "do not ask; with -shown or -digest")
	flags.Check(func([]string) []string {
		if !consent.Yes || consent.Shown != "" || in.digest != "" {
			return nil
		}
		return []string{"-yes alone approves definitions that nobody has looked at: give the -shown at the end of `mcp-bootstrap pins diff`, or a -digest"}
	})
	return in.run(&format, func(ctx context.Context, broker *pins.Broker, output *pins.Output) error {
		if console.IsTerminal(os.Stdin) {
			consent.In = os.Stdin
		}
		return pins.Approve(ctx, broker, in.server, &in.wanted, &consent, output)
	})
}

func pinsFormat(flags *commandline.Flags) *string {
	format := new(string)
	flags.OneOf(format, "format", "text", pins.Formats(), "the `format`")
	return format
}

func needServer(flags *commandline.Flags) {
	flags.Check(func(names []string) []string {
		if len(names) > 0 {
			return nil
		}
		return []string{"SERVER is missing: the name of a server"}
	})
}

// check reads what the arguments say.
func (in *pinsFlags) check(names []string) []string {
	var wrong []string
	note := func(err error) {
		if err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	if len(names) > 0 {
		in.server, in.wanted.Names = names[0], names[1:]
		note(check.ServerName(in.server))
	}
	if in.kind != "" {
		kind, err := pin.ParseKind(in.kind)
		in.wanted.Kind = kind
		note(err)
	}
	if in.digest != "" {
		digest, err := pin.ParseDigest(in.digest)
		in.wanted.Digest = &digest
		note(err)
	}
	return wrong
}

// run connects to Vault, and does the command's work there.
func (in *pinsFlags) run(format *string, work func(context.Context, *pins.Broker, *pins.Output) error) commandline.Run {
	return func(ctx context.Context, _ []string, out commandline.Streams) error {
		vault, err := connect.FromEnvironment(os.Stderr)
		if err != nil {
			return err
		}
		if err := connect.Check(ctx, vault); err != nil {
			return err
		}
		return work(ctx, &pins.Broker{Vault: vault, Mount: in.mount},
			&pins.Output{Out: out.Stdout, Term: console.Of(out.Stdout), Format: *format})
	}
}
