package doctor

import (
	"fmt"
	"os"
	"strings"

	"vault-plugin-secrets-mcp/gateway/config"
)

// readGatewayConfig reads the gateway's file, if it is there to be read. It is read
// as the gateway reads it, which looks for the programs, too.
func (e *examination) readGatewayConfig() {
	if e.GatewayConfig == "" {
		return
	}
	c, err := config.Load(e.GatewayConfig, os.Getenv)
	if err != nil {
		e.wrong("correct it; mcp-gateway -config "+e.GatewayConfig+" -check-config says the same",
			"the gateway does not start with %s: %s", e.GatewayConfig, strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	e.gateway = c
}

// checkCommand looks whether the gateway starts a server that is a program.
func (e *examination) checkCommand(name, command string) {
	if e.gateway == nil {
		e.ok("the server %s is a command of the gateway's, %s; whether the gateway starts it was not looked at: name the gateway's file with -gateway-config", name, command)
		return
	}
	const list = "allowed_commands of the block stdio"
	if e.gateway.Stdio == nil {
		e.wrong(fmt.Sprintf("add a block stdio to %s, with the absolute path of %s in allowed_commands", e.GatewayConfig, command),
			"the gateway does not start the server %s: its file has no block stdio, and so allows no command", name)
		return
	}
	path, err := e.gateway.Stdio.Program(command)
	if err != nil {
		e.wrong(fmt.Sprintf("put the absolute path of the program into %s in %s, or correct the server's command: vault write %s/servers/%s command=…", list, e.GatewayConfig, e.Mount, name),
			"the gateway does not start the server %s, whose command is %s: %v", name, command, err)
		return
	}
	e.ok("the server %s is a command that the gateway starts: %s", name, path)
}
