package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/mcp/stdio"
)

// startTimeout is how long a command may take until it answers.
const startTimeout = 30 * time.Second

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
		e.stdio = append(e.stdio, name)
		e.ok("the server %s is a command of the gateway's, %s; whether the gateway starts it was not looked at: name the gateway's file with -gateway-config", name, command)
		return
	}
	const list = "allowed_commands of the block stdio"
	if e.gateway.Stdio == nil {
		e.wrong(fmt.Sprintf("add a block stdio to %s, with the absolute path of %s in allowed_commands", e.GatewayConfig, command),
			"the gateway does not start the server %s: its file has no block stdio, and so allows no command", name)
		return
	}
	if err := stdio.Isolation(); err != nil && e.gateway.Stdio.UIDs.Count == 0 && e.gateway.Stdio.Isolation != config.IsolationOff {
		e.wrong(fmt.Sprintf("give children accounts of their own with uid_range in the block stdio of %s, or allow it with isolation = %q", e.GatewayConfig, config.IsolationOff),
			"the gateway does not start the server %s: on this machine nothing keeps children from reading each other's environment: %v", name, err)
		return
	}
	path, err := e.gateway.Stdio.Program(command)
	if err != nil {
		e.wrong(fmt.Sprintf("put the absolute path of the program into %s in %s, or correct the server's command: vault write %s/servers/%s command=…", list, e.GatewayConfig, e.Mount, name),
			"the gateway does not start the server %s, whose command is %s: %v", name, command, err)
		return
	}
	e.stdio = append(e.stdio, name)
	e.ok("the server %s is a command that the gateway starts: %s", name, path)
}

// tryCommands has the gateway start the servers that are commands, as the client whose
// token was given.
func (e *examination) tryCommands(ctx context.Context) {
	for _, name := range e.stdio {
		if ctx.Err() != nil {
			return
		}
		bounded, cancel := context.WithTimeout(ctx, startTimeout)
		err := connect.Try(bounded, e.GatewayURL, name, e.ClientToken)
		cancel()
		var refused *connect.TryError
		switch {
		case err == nil:
			e.ok("the gateway starts the server %s, and it answers", name)
		case errors.As(err, &refused) && refused.Status == http.StatusForbidden:
			e.ok("whether the server %s starts was not tried: MCP_TOKEN's client may not reach it", name)
		case errors.As(err, &refused):
			e.wrong("the gateway's log has the last lines of its standard error, beside \"a stdio server has ended by itself\", or why there is no process",
				"the server %s does not start at the gateway: %s", name, refused.Message)
		case errors.Is(err, context.DeadlineExceeded):
			e.wrong("look into the gateway's log; a program that npx or uvx has to fetch first may take longer", "the server %s has not answered within %s", name, startTimeout)
		default:
			e.wrong("look into the gateway's log", "the server %s does not start at the gateway: %v", name, err)
		}
	}
}
