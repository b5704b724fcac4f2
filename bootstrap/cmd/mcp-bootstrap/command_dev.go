package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"vault-plugin-secrets-mcp/bootstrap/dev"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/gateway/commandline"
)

func setupDev(flags *commandline.Flags) commandline.Run {
	var opts dev.Options
	flags.StringVar(&opts.Dir, "dir", ".dev", "the folder for everything that is written: logs, and files with tokens")
	flags.StringVar(&opts.VaultAddress, "vault-address", "127.0.0.1:8200", "where Vault listens: an address of the loopback")
	flags.StringVar(&opts.GatewayAddress, "gateway-address", "127.0.0.1:8080", "where MCP clients connect: an address of the loopback")
	flags.StringVar(&opts.AdminAddress, "admin-address", "127.0.0.1:8081", "where the gateway answers for its health: an address of the loopback")
	flags.StringVar(&opts.Vault, "vault-binary", "", "the Vault server's program (default: the vault on the PATH)")
	beside(flags, &opts.Plugin, "plugin", provision.PluginName, "the plugin's program")
	beside(flags, &opts.Gateway, "gateway", "mcp-gateway", "the gateway's program")
	flags.BoolVar(&opts.KMS, "kms", false, "hand out sealed tokens, under a key of a double of AWS KMS (see docs/kms.md)")
	beside(flags, &opts.KMSDouble, "kms-double", "kms-double", "the double's program, with -kms")
	flags.StringVar(&opts.Servers, "servers", "", "a file with MCP servers of yours, to be reached through the gateway: .hcl, the JSON of MCPJungle, or the file of an MCP client, such as .mcp.json")
	flags.BoolVar(&opts.Keep, "keep", false, "keep Vault's storage, and continue with it at the next start; the keys to it are in -dir, for you alone")
	flags.BoolVar(&opts.HA, "ha", false, "run three Vaults instead of one, which may be killed")
	flags.BoolVar(&opts.Agent, "agent", false, "run a Vault Agent, which keeps a token in a file and renews it")
	flags.BoolVar(&opts.Upstream, "upstream", false, "add two servers whose credentials the gateway leases from Vault, as the client")
	flags.BoolVar(&opts.SignIn, "sign-in", false, "let two people of a demo identity provider sign in with a browser")
	flags.Folders("dir")
	flags.Files("vault-binary", "servers")
	return func(ctx context.Context, _ []string, out commandline.Streams) error {
		var err error
		if opts.Self, err = os.Executable(); err != nil {
			return fmt.Errorf("cannot tell where this program is: %w", err)
		}
		if opts.Vault == "" {
			if opts.Vault, err = exec.LookPath("vault"); err != nil {
				return errors.New("there is no vault on the PATH: name one with -vault-binary, or run `make dev`, which builds it")
			}
		}
		opts.Out = out.Stdout
		return dev.Run(ctx, opts)
	}
}
