// Command vault-plugin-secrets-mcp is the secrets engine as a Vault plugin. Vault starts it;
// alone it does nothing.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/plugin"

	"vault-plugin-secrets-mcp/backend"
	"vault-plugin-secrets-mcp/backend/version"
)

func main() {
	err := run(os.Args[1:], os.Stdout)
	switch {
	case err == nil:
	case errors.Is(err, errByHand):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, "%v\nSee `vault-plugin-secrets-mcp -help`.\n", err)
		os.Exit(2)
	default:
		hclog.New(&hclog.LoggerOptions{Name: "vault-plugin-secrets-mcp"}).Error("the plugin ends", "error", err)
		os.Exit(1)
	}
}

// errByHand: somebody else than Vault has started the program.
var errByHand = errors.New("only Vault starts this program: register it with `vault plugin register`, or run `mcp-bootstrap apply -f DIR`")

// errUsage is a mistake in the arguments.
var errUsage = errors.New("vault-plugin-secrets-mcp")

func run(args []string, stdout io.Writer) error {
	meta := &api.PluginAPIClientMeta{}
	flags := meta.FlagSet()
	flags.SetOutput(io.Discard) // main reports mistakes
	showVersion := flags.Bool("version", false, "print the version and exit")
	switch err := parse(flags, args); {
	case errors.Is(err, flag.ErrHelp):
		usage(flags, stdout)
		return nil
	case err != nil:
		return err
	case *showVersion:
		_, err := fmt.Fprintln(stdout, version.String())
		return err
	}
	if handshake := plugin.HandshakeConfig; os.Getenv(handshake.MagicCookieKey) != handshake.MagicCookieValue {
		return errByHand
	}
	tuneMemory()
	go whenOrphaned(os.Getppid, orphanPoll, func() { os.Exit(0) })
	return plugin.ServeMultiplex(&plugin.ServeOpts{
		BackendFactoryFunc: backend.Factory,
		// Vault older than 1.16 passes certificates instead of using go-plugin's.
		TLSProviderFunc: api.VaultPluginTLSProvider(meta.GetTLSConfig()),
	})
}

// parse reads the arguments. It takes words for help and version as the other
// programs do.
func parse(flags *flag.FlagSet, args []string) error {
	if len(args) == 1 {
		switch args[0] {
		case "help":
			return flag.ErrHelp
		case "version", "-v", "--v", "-V":
			args = []string{"-version"}
		}
	}
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return err
}

func usage(flags *flag.FlagSet, to io.Writer) {
	fmt.Fprint(to, "Usage: vault-plugin-secrets-mcp [flags]\n"+
		"       vault-plugin-secrets-mcp help | version\n\n"+
		"Vault starts this program. Register it with `vault plugin register`, or run\n"+
		"`mcp-bootstrap apply -f DIR`.\n\nFlags, for a Vault older than 1.16:\n")
	flags.SetOutput(to)
	flags.PrintDefaults()
}
