package main

import (
	"context"
	"os"

	"vault-plugin-secrets-mcp/bootstrap/apply"
	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/gateway/commandline"
)

func setupApply(flags *commandline.Flags) commandline.Run {
	var opts apply.Options
	flags.StringVar(&opts.Dir, "f", "", "the `dir`ectory with the files: .hcl, managed settings, and files of MCPJungle or of MCP clients, such as .mcp.json")
	flags.BoolVar(&opts.DryRun, "dry-run", false, "print the difference, and change nothing")
	flags.BoolVar(&opts.Adopt, "adopt", false, "take over things that exist, differ from the files, and were not created by this command")
	flags.BoolVar(&opts.Prune, "prune", false, "delete servers, policies and clients that this command created and the files no longer name")
	mount(flags, &opts.Mount)
	flags.StringVar(&opts.TokenDir, "token-dir", "", "a folder for the tokens that are issued, a file for each new client (default: they are not kept)")
	flags.StringVar(&opts.GatewayDir, "gateway-dir", "", "a folder for the gateway's login, role_id and secret_id (default: none is issued)")
	beside(flags, &opts.Plugin, "plugin", provision.PluginName, "the plugin's program, as it lies in Vault's plugin_directory")
	flags.StringVar(&opts.PluginCommand, "plugin-command", "", "the plugin's file name in Vault's plugin_directory (default: that of -plugin)")
	flags.StringVar(&opts.PluginSHA256, "plugin-sha256", "", "the SHA-256 of a plugin that is not on this machine")
	flags.StringVar(&opts.PluginVersion, "plugin-version", "", "the version of that plugin (default: the plugin is asked)")
	flags.OneOf(&opts.Format, "format", "text", apply.Formats(), "the `format`")
	flags.Require("f")
	flags.Files("f")
	flags.Folders("token-dir", "gateway-dir")
	return func(ctx context.Context, _ []string, out commandline.Streams) error {
		vault, err := connect.FromEnvironment(os.Stderr)
		if err != nil {
			return err
		}
		opts.Out = out.Stdout
		return apply.Run(ctx, vault, opts)
	}
}
