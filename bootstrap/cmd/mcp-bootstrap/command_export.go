package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/export"
	"vault-plugin-secrets-mcp/gateway/commandline"
)

func setupExport(flags *commandline.Flags) commandline.Run {
	var in export.Input
	var format, path string
	flags.StringVar(&in.Client, "client", "", "the client's `name`")
	flags.OneOf(&format, "format", "", export.Formats(), "the `format`")
	flags.StringVar(&in.GatewayURL, "gateway-url", "", "the gateway's `URL`, such as https://mcp.example.com (default: MCP_GATEWAY_URL)")
	flags.BoolVar(&in.PerServer, "per-server", false, "one entry for each server, at /servers/NAME/mcp, instead of one for all of them at /mcp")
	flags.StringVar(&in.TokenEnv, "token-env", "MCP_TOKEN", "the variable that will hold the token")
	flags.StringVar(&in.TokenFile, "token-file", "", "the file that will hold the token, for claude-code, managed-mcp and claude-desktop")
	flags.StringVar(&in.Helper, "helper", "/usr/local/bin/mcp-headers.sh", "with -token-file: the program that prints the headers for Claude Code")
	mount(flags, &path)
	flags.Require("client", "format", "gateway-url")
	fromEnvironment(flags, "gateway-url", "MCP_GATEWAY_URL")
	flags.Files("token-file", "helper")
	return func(ctx context.Context, _ []string, out commandline.Streams) error {
		return printExport(ctx, in, format, strings.Trim(path, "/"), out)
	}
}

// printExport prints the file, and where it belongs.
func printExport(ctx context.Context, in export.Input, format, mount string, out commandline.Streams) error {
	vault, err := connect.FromEnvironment(os.Stderr)
	if err != nil {
		return err
	}
	if err := connect.Check(ctx, vault); err != nil {
		return err
	}
	if in.Servers, err = reachable(ctx, vault, mount, in.Client); err != nil {
		return err
	}
	file, err := export.Write(format, in)
	if err != nil {
		return err
	}
	// The file alone goes to standard output, so that it can be redirected.
	fmt.Fprintf(out.Stderr, "%s of the client %s. It names the token's place, and does not hold it.\n", file.Name, in.Client)
	for _, note := range file.Notes {
		fmt.Fprintln(out.Stderr, "- "+note)
	}
	_, err = fmt.Fprint(out.Stdout, file.Content)
	return err
}

// reachable lists the registered servers that a client may reach, by its
// allowed_servers, by its role and by policy.
func reachable(ctx context.Context, vault *api.Client, mount, client string) ([]string, error) {
	found, err := vault.Logical().ReadWithContext(ctx, mount+"/clients/"+client)
	if err != nil {
		return nil, fmt.Errorf("cannot read the client %q: %w", client, connect.Explain(err))
	}
	if found == nil {
		return nil, fmt.Errorf("there is no client %q: correct the name (`vault list %s/clients` has them), or create it by writing %s/clients/%s", client, mount, mount, client)
	}
	list, err := vault.Logical().ListWithContext(ctx, mount+"/servers")
	if err != nil {
		return nil, fmt.Errorf("cannot list the servers: %w", connect.Explain(err))
	}
	var names []string
	if list == nil {
		return nil, nil
	}
	registered, _ := list.Data["keys"].([]any)
	for _, name := range registered {
		answer, err := vault.Logical().WriteWithContext(ctx, mount+"/evaluate", map[string]any{"client": client, "server": name})
		if err != nil {
			return nil, fmt.Errorf("cannot ask whether the client %q may reach the server %q: %w", client, name, connect.Explain(err))
		}
		if answer != nil && answer.Data["allowed"] == true {
			names = append(names, fmt.Sprint(name))
		}
	}
	return names, nil
}
