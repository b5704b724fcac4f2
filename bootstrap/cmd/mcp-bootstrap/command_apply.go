package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"vault-plugin-secrets-mcp/bootstrap/apply"
	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

func runApply(ctx context.Context, args []string, out streams) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot tell where this program is: %w", err)
	}
	opts := apply.Options{Out: out.stdout}
	flags := newFlags("apply", "-f DIR [flags]", out)
	flags.StringVar(&opts.Dir, "f", "", "the `dir`ectory with the files: .hcl, managed settings, and files of MCPJungle or of MCP clients, such as .mcp.json")
	flags.BoolVar(&opts.DryRun, "dry-run", false, "print the difference, and change nothing")
	flags.BoolVar(&opts.Adopt, "adopt", false, "take over things that exist, differ from the files, and were not created by this command")
	flags.BoolVar(&opts.Prune, "prune", false, "delete servers, policies and clients that this command created and the files no longer name")
	flags.StringVar(&opts.Mount, "mount", "mcp", "where the engine is mounted")
	flags.StringVar(&opts.TokenDir, "token-dir", "", "a folder for the tokens that are issued, a file for each new client (default: they are not kept)")
	flags.StringVar(&opts.GatewayDir, "gateway-dir", "", "a folder for the gateway's login, role_id and secret_id (default: none is issued)")
	flags.StringVar(&opts.Plugin, "plugin", filepath.Join(filepath.Dir(self), provision.PluginName), "the plugin's program, as it lies in Vault's plugin_directory")
	flags.StringVar(&opts.PluginCommand, "plugin-command", "", "the plugin's file name in Vault's plugin_directory (default: that of -plugin)")
	flags.StringVar(&opts.PluginSHA256, "plugin-sha256", "", "the SHA-256 of a plugin that is not on this machine")
	flags.StringVar(&opts.PluginVersion, "plugin-version", "", "the version of that plugin (default: the plugin is asked)")
	if err := parseAll(flags, args, out, []string{"f"}, func() []string { return nil }); err != nil {
		return err
	}
	vault, err := connect.FromEnvironment(os.Stderr)
	if err != nil {
		return err
	}
	return apply.Run(ctx, vault, opts)
}
