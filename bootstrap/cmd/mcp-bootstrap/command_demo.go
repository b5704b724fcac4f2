package main

import (
	"context"
	"fmt"
	"strings"

	"vault-plugin-secrets-mcp/bootstrap/demo"
	"vault-plugin-secrets-mcp/bootstrap/demo/idp"
)

const demoUsage = "Usage: mcp-bootstrap demo calculator [-address 127.0.0.1:9001], over HTTP\n" +
	"       mcp-bootstrap demo notes, over standard input and output\n" +
	"       mcp-bootstrap demo whoami [-address 127.0.0.1:9002], over HTTP, or with -stdio\n" +
	"       mcp-bootstrap demo idp [-address 127.0.0.1:9003] -redirect URI, an OpenID provider\n"

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
	case "whoami":
		address := flags.String("address", "127.0.0.1:9002", "where to listen; port 0 lets the kernel choose")
		stdio := flags.Bool("stdio", false, "serve over standard input and output instead")
		if err := parse(flags, args, out); err != nil {
			return err
		}
		if *stdio {
			return demo.ServeStdio(ctx, demo.Whoami())
		}
		return demo.ServeHTTP(ctx, demo.Whoami(), *address, out.stdout)
	case "idp":
		address := flags.String("address", "127.0.0.1:9003", "where to listen, on the loopback; port 0 lets the kernel choose")
		redirects := flags.String("redirect", "", "redirect URIs of the client, parted by commas: http://127.0.0.1:8080/sign-in/callback")
		if err := parse(flags, args, out); err != nil {
			return err
		}
		return idp.RunDemo(ctx, *address, strings.FieldsFunc(*redirects, func(r rune) bool { return r == ',' }), out.stdout)
	case "h", "help":
		_, err := fmt.Fprint(out.stdout, demoUsage)
		return err
	default:
		fmt.Fprint(out.stderr, demoUsage)
		return errUsage
	}
}
