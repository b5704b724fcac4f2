package main

import (
	"context"
	"fmt"
	"strings"

	"vault-plugin-secrets-mcp/bootstrap/demo"
)

const demoUsage = "Usage: mcp-bootstrap demo calculator [-address 127.0.0.1:9001], over HTTP\n" +
	"       mcp-bootstrap demo notes, over standard input and output\n"

func runDemo(ctx context.Context, args []string, out streams) error {
	name := ""
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	flags := newFlags("demo "+name, "[flags]", out)
	switch strings.TrimLeft(name, "-") {
	case "calculator":
		address := flags.String("address", "127.0.0.1:9001", "where to listen; port 0 lets the kernel choose")
		if err := parse(flags, args, out); err != nil {
			return err
		}
		return demo.ServeHTTP(ctx, demo.Calculator(), *address, out.stdout)
	case "notes":
		if err := parse(flags, args, out); err != nil {
			return err
		}
		return demo.ServeStdio(ctx, demo.Notes())
	case "h", "help":
		_, err := fmt.Fprint(out.stdout, demoUsage)
		return err
	default:
		fmt.Fprint(out.stderr, demoUsage)
		return errUsage
	}
}
