package main

import (
	"context"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-plugin-secrets-mcp/bootstrap/demo"
	"vault-plugin-secrets-mcp/bootstrap/demo/idp"
	"vault-plugin-secrets-mcp/gateway/commandline"
)

func demoCommands() []commandline.Command {
	return []commandline.Command{
		{Name: "calculator", Summary: "calculate, over HTTP", Setup: func(flags *commandline.Flags) commandline.Run {
			return serveHTTP(flags, "127.0.0.1:9001", demo.Calculator)
		}},
		{Name: "notes", Summary: "keep notes, over standard input and output", Setup: func(*commandline.Flags) commandline.Run {
			return func(ctx context.Context, _ []string, _ commandline.Streams) error {
				return demo.ServeStdio(ctx, demo.Notes())
			}
		}},
		{Name: "whoami", Summary: "show its caller as the server sees it, over HTTP, or with -stdio", Setup: setupWhoami},
		{Name: "idp", Summary: "be an OpenID provider with two people", Arguments: "-redirect URI", Setup: setupIDP},
	}
}

const listenUsage = "where to listen; port 0 lets the kernel choose"

// serveHTTP serves a demo over HTTP, at an address that a flag has.
func serveHTTP(flags *commandline.Flags, address string, server func() *mcp.Server) commandline.Run {
	flags.StringVar(&address, "address", address, listenUsage)
	return func(ctx context.Context, _ []string, out commandline.Streams) error {
		return demo.ServeHTTP(ctx, server(), address, out.Stdout)
	}
}

func setupWhoami(flags *commandline.Flags) commandline.Run {
	overHTTP := serveHTTP(flags, "127.0.0.1:9002", demo.Whoami)
	stdio := flags.Bool("stdio", false, "serve over standard input and output instead")
	return func(ctx context.Context, names []string, out commandline.Streams) error {
		if *stdio {
			return demo.ServeStdio(ctx, demo.Whoami())
		}
		return overHTTP(ctx, names, out)
	}
}

func setupIDP(flags *commandline.Flags) commandline.Run {
	address := flags.String("address", "127.0.0.1:9003", "where to listen, on the loopback; port 0 lets the kernel choose")
	redirects := flags.String("redirect", "", "redirect URIs of the client, parted by commas: http://127.0.0.1:8080/sign-in/callback")
	return func(ctx context.Context, _ []string, out commandline.Streams) error {
		uris := strings.FieldsFunc(*redirects, func(r rune) bool { return r == ',' })
		return idp.RunDemo(ctx, *address, uris, out.Stdout)
	}
}
