package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"vault-plugin-secrets-mcp/bootstrap/dev"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

func runDev(ctx context.Context, args []string, out streams) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot tell where this program is: %w", err)
	}
	beside := func(name string) string { return filepath.Join(filepath.Dir(self), name) }

	opts := dev.Options{Self: self, Out: out.stdout}
	flags := newFlags("dev", "[flags]", out)
	flags.StringVar(&opts.Dir, "dir", ".dev", "the folder for everything that is written: logs, and files with tokens")
	flags.StringVar(&opts.VaultAddress, "vault-address", "127.0.0.1:8200", "where Vault listens: an address of the loopback")
	flags.StringVar(&opts.GatewayAddress, "gateway-address", "127.0.0.1:8080", "where MCP clients connect: an address of the loopback")
	flags.StringVar(&opts.AdminAddress, "admin-address", "127.0.0.1:8081", "where the gateway answers for its health: an address of the loopback")
	flags.StringVar(&opts.Vault, "vault-binary", "", "the Vault server's program (default: the vault on the PATH)")
	flags.StringVar(&opts.Plugin, "plugin", beside(provision.PluginName), "the plugin's program")
	flags.StringVar(&opts.Gateway, "gateway", beside("mcp-gateway"), "the gateway's program")
	flags.BoolVar(&opts.KMS, "kms", false, "hand out sealed tokens, under a key of a double of AWS KMS (see docs/kms.md)")
	flags.StringVar(&opts.KMSDouble, "kms-double", beside("kms-double"), "the double's program, with -kms")
	flags.StringVar(&opts.Servers, "servers", "", "a file with MCP servers of yours, to be reached through the gateway: .hcl, the JSON of MCPJungle, or the file of an MCP client, such as .mcp.json")
	flags.BoolVar(&opts.Keep, "keep", false, "keep Vault's storage, and continue with it at the next start; the keys to it are in -dir, for you alone")
	flags.BoolVar(&opts.HA, "ha", false, "run three Vaults instead of one, which may be killed")
	flags.BoolVar(&opts.Agent, "agent", false, "run a Vault Agent, which keeps a token in a file and renews it")
	flags.BoolVar(&opts.Upstream, "upstream", false, "add two servers whose credentials the gateway leases from Vault, as the client")
	flags.BoolVar(&opts.SignIn, "sign-in", false, "let two people of a demo identity provider sign in with a browser")
	if err := parse(flags, args, out); err != nil {
		return err
	}
	if opts.Vault == "" {
		if opts.Vault, err = exec.LookPath("vault"); err != nil {
			return fmt.Errorf("there is no vault on the PATH: name one with -vault-binary, or run `make dev`, which builds it")
		}
	}
	return dev.Run(ctx, opts)
}
