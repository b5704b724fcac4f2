// Command mcp-bootstrap turns an empty Vault into a working broker of MCP, and runs the whole
// system on one machine for trying and development.
package main

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"vault-plugin-secrets-mcp/backend/version"
	"vault-plugin-secrets-mcp/gateway/commandline"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	// The first signal asks for an orderly end; a second one does not wait for it.
	context.AfterFunc(ctx, stop)
	os.Exit(program().Main(ctx, os.Args[1:], commandline.Streams{Stdout: os.Stdout, Stderr: os.Stderr}))
}

func program() *commandline.Program {
	return &commandline.Program{
		Command: commandline.Command{
			Name:    "mcp-bootstrap",
			Summary: "set up, examine and review a broker of MCP in Vault",
			Commands: []commandline.Command{
				{Name: "apply", Summary: "bring a Vault to the state that a folder of files describes", Arguments: "-f DIR", Setup: setupApply},
				{Name: "dev", Summary: "run Vault, the plugin, the gateway and two demo servers on this machine", Setup: setupDev},
				{Name: "demo", Summary: "serve a demo MCP server, or a demo identity provider", Commands: demoCommands()},
				{Name: "doctor", Summary: "examine a running broker, and print problems with their remedies", Setup: setupDoctor},
				{Name: "review", Summary: "show the rights of clients, the unused ones among them, and commands that take these away", Setup: setupReview},
				{
					Name: "pins", Summary: "show the definitions of servers that nobody has approved, and approve them",
					About:    "An approval is withdrawn with: vault write mcp/pins/SERVER withdraw=NAME kind=KIND digest=DIGEST",
					Commands: pinsCommands(),
				},
				{
					Name: "export", Summary: "print a client's configuration for Cursor, Claude Code and others",
					Arguments: "-client NAME -format FORMAT -gateway-url URL", Setup: setupExport,
				},
			},
		},
		Version: version.String,
		Environment: []commandline.Variable{
			{Name: "VAULT_ADDR, VAULT_TOKEN, VAULT_NAMESPACE, VAULT_CACERT", Text: "Vault, as for Vault's own tools. Their other variables have their usual meaning, too."},
			{Name: "MCP_GATEWAY_URL, MCP_GATEWAY_ADMIN_URL", Text: "Where clients connect, and the gateway's admin listener, for doctor and export."},
			{Name: "MCP_TOKEN", Text: "A client's token, for doctor -try-token."},
			{Name: "NO_COLOR", Text: "Without colours at a terminal, if it is not empty."},
		},
		See: []string{"mcp-gateway(1)"},
	}
}

// mount defines the flag that most commands have.
func mount(flags *commandline.Flags, to *string) {
	flags.StringVar(to, "mount", "mcp", "where the engine is mounted")
}

// fromEnvironment takes the value of a flag that is not given from a variable.
func fromEnvironment(flags *commandline.Flags, flag, variable string) {
	flags.Fallback(flag, func() string { return os.Getenv(variable) })
}

// beside makes a flag for a program that lies beside this one, unless it is given.
func beside(flags *commandline.Flags, to *string, flag, name, usage string) {
	flags.StringVar(to, flag, "", usage+" (default: "+name+" beside this program)")
	flags.Files(flag)
	flags.Fallback(flag, func() string {
		self, err := os.Executable()
		if err != nil {
			return name
		}
		return filepath.Join(filepath.Dir(self), name)
	})
}
