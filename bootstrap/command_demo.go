package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"vault-plugin-secrets-mcp/bootstrap/demo"
)

func runDemo(ctx context.Context, args []string) error {
	name := ""
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("mcp-bootstrap demo "+name, flag.ContinueOnError)
	switch name {
	case "calculator":
		address := flags.String("address", "127.0.0.1:9001", "where to listen; port 0 lets the kernel choose")
		if err := parse(flags, args); err != nil {
			return err
		}
		return demo.ServeHTTP(ctx, demo.Calculator(), *address, os.Stdout)
	case "notes":
		if err := parse(flags, args); err != nil {
			return err
		}
		return demo.ServeStdio(ctx, demo.Notes())
	default:
		fmt.Fprintln(os.Stderr, "Usage: mcp-bootstrap demo calculator [-address 127.0.0.1:9001], over HTTP\n"+
			"       mcp-bootstrap demo notes, over standard input and output")
		return errUsage
	}
}
