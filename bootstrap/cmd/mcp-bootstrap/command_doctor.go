package main

import (
	"context"
	"errors"
	"os"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/doctor"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/gateway/commandline"
)

// soon is how soon a token must end for doctor to tell, unless -expiring says so.
const soon = 72 * time.Hour

func setupDoctor(flags *commandline.Flags) commandline.Run {
	var opts doctor.Options
	mount(flags, &opts.Mount)
	flags.StringVar(&opts.GatewayURL, "gateway-url", "", "where clients connect (default: MCP_GATEWAY_URL)")
	flags.StringVar(&opts.GatewayAdminURL, "gateway-admin-url", "", "the gateway's admin listener, to ask for its state (default: MCP_GATEWAY_ADMIN_URL)")
	flags.StringVar(&opts.GatewayConfig, "gateway-config", "", "the gateway's file, on the gateway's machine, to look whether it starts the servers that are commands, and whether Vault lets it lease upstream credentials")
	try := flags.Bool("try-token", false, "try the client's token in MCP_TOKEN, in Vault and at the gateway")
	flags.StringVar(&opts.Client, "client", "", "try the upstream credentials of the `client`, and revoke them again")
	flags.StringVar(&opts.TokenRole, "token-role", "", "with -client: the token `role` to mint under (default: that of -gateway-config, or "+provision.UpstreamRole+"); VAULT_TOKEN needs update on auth/token/create/ROLE")
	flags.DurationVar(&opts.Expiring, "expiring", soon, "tell of tokens that end within this time")
	flags.OneOf(&opts.Format, "format", "text", doctor.Formats(), "the `format`")
	fromEnvironment(flags, "gateway-url", "MCP_GATEWAY_URL")
	fromEnvironment(flags, "gateway-admin-url", "MCP_GATEWAY_ADMIN_URL")
	flags.Files("gateway-config")
	return func(ctx context.Context, _ []string, out commandline.Streams) error {
		if *try {
			if opts.ClientToken = os.Getenv("MCP_TOKEN"); opts.ClientToken == "" {
				return errors.New("there is no token to try: set MCP_TOKEN")
			}
		}
		vault, err := connect.FromEnvironment(os.Stderr)
		if err != nil {
			return err
		}
		vault.SetMaxRetries(0) // doctor looks for servers that do not answer now
		opts.Out = out.Stdout
		err = doctor.Run(ctx, vault, opts)
		if errors.Is(err, doctor.ErrFindings) {
			return commandline.ErrReported
		}
		return err
	}
}
