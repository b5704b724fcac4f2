package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/console"
	"vault-plugin-secrets-mcp/bootstrap/pins"
)

const pinsUsage = "Usage: mcp-bootstrap pins list [SERVER [NAME…]] [flags]\n" +
	"       mcp-bootstrap pins diff SERVER [NAME…] [flags]\n" +
	"       mcp-bootstrap pins approve SERVER [NAME…] [flags]\n" +
	"An approval is withdrawn with: vault write mcp/pins/SERVER withdraw=NAME kind=KIND digest=DIGEST\n"

// pinsFlags are the flags and arguments of a command about pins.
type pinsFlags struct {
	mount, format, kind, digest string
	server                      string
	wanted                      pins.Wanted
	consent                     pins.Consent
}

func runPins(ctx context.Context, args []string, out streams) error {
	name := ""
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	switch strings.TrimLeft(name, "-") {
	case "list", "diff", "approve":
	case "h", "help":
		_, err := fmt.Fprint(out.stdout, pinsUsage)
		return err
	default:
		fmt.Fprint(out.stderr, pinsUsage)
		return errUsage
	}
	in := &pinsFlags{format: "text"}
	if err := in.parse(name, args, out); err != nil {
		return err
	}
	vault, err := connect.FromEnvironment(os.Stderr)
	if err != nil {
		return err
	}
	if err := connect.Check(ctx, vault); err != nil {
		return err
	}
	broker := &pins.Broker{Vault: vault, Mount: in.mount}
	output := &pins.Output{Out: out.stdout, Term: console.Of(out.stdout), Format: in.format}
	switch {
	case name == "approve":
		if console.IsTerminal(os.Stdin) {
			in.consent.In = os.Stdin
		}
		return pins.Approve(ctx, broker, in.server, &in.wanted, &in.consent, output)
	case name == "diff":
		return pins.Diff(ctx, broker, in.server, &in.wanted, output)
	case in.server == "":
		return pins.ListServers(ctx, broker, output)
	default:
		return pins.List(ctx, broker, in.server, &in.wanted, output)
	}
}

// parse reads the arguments: flags and names, in any order.
func (in *pinsFlags) parse(name string, args []string, out streams) error {
	arguments := "SERVER [NAME…] [flags]"
	if name == "list" {
		arguments = "[SERVER [NAME…]] [flags]"
	}
	flags := newFlags("pins "+name, arguments, out)
	flags.StringVar(&in.mount, "mount", "mcp", "where the engine is mounted")
	flags.StringVar(&in.kind, "kind", "", "definitions of this `kind` alone: "+words(pin.Kinds()))
	flags.StringVar(&in.digest, "digest", "", "the definition with this `digest` alone")
	if name == "approve" {
		flags.StringVar(&in.consent.Shown, "shown", "", "approve only the definitions that a diff has shown: the `digest` at its end")
		flags.BoolVar(&in.consent.Yes, "yes", false, "do not ask; with -shown or -digest")
	} else {
		flags.StringVar(&in.format, "format", in.format, "the `format`, one of: "+strings.Join(pins.Formats(), ", "))
	}
	args, names := sorted(flags, args)
	return parseAll(flags, args, out, nil, func() []string { return in.check(name, names) })
}

func (in *pinsFlags) check(command string, names []string) []string {
	var wrong []string
	note := func(err error) {
		if err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	if len(names) > 0 {
		in.server, in.wanted.Names = names[0], names[1:]
		note(check.ServerName(in.server))
	} else if command != "list" {
		wrong = append(wrong, "SERVER is missing: the name of a server")
	}
	if !slices.Contains(pins.Formats(), in.format) {
		wrong = append(wrong, fmt.Sprintf("there is no -format %s: take one of %s", in.format, strings.Join(pins.Formats(), ", ")))
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
	if in.consent.Yes && in.consent.Shown == "" && in.digest == "" {
		wrong = append(wrong, "-yes alone approves definitions that nobody has looked at: give the -shown at the end of `mcp-bootstrap pins diff`, or a -digest")
	}
	return wrong
}

func words[T ~string](all []T) string {
	texts := make([]string, 0, len(all))
	for _, one := range all {
		texts = append(texts, string(one))
	}
	return strings.Join(texts, ", ")
}

// sorted parts arguments into flags with their values, and names. After -- all are names.
func sorted(flags *flag.FlagSet, args []string) (flagged, names []string) {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return flagged, append(names, args[i+1:]...)
		case arg == "help" && len(names) == 0, len(arg) > 1 && arg[0] == '-':
			flagged = append(flagged, arg)
			if takesNext(flags, arg) && i+1 < len(args) {
				i++
				flagged = append(flagged, args[i])
			}
		default:
			names = append(names, arg)
		}
	}
	return flagged, names
}

// takesNext reports whether the value of a flag is the argument behind it.
func takesNext(flags *flag.FlagSet, arg string) bool {
	f := flags.Lookup(strings.TrimLeft(arg, "-"))
	if f == nil {
		return false // it is not known, or has its value behind a sign of equality
	}
	isBool, ok := f.Value.(interface{ IsBoolFlag() bool })
	return !ok || !isBool.IsBoolFlag()
}
