// Bench-rig has the programs around the gateway in benchmarks: its upstream, the plain
// reverse proxy beside it, and the clients. Each is a separate process, so that costs are
// measured separately. Each speaks HTTP/1.1 with as little code as possible: on a small
// machine, every microsecond that they use is lost for the gateway.
//
//	bench-rig upstream ADDRESS [TLS]          answers MCP messages with their own content
//	bench-rig proxy ADDRESS UPSTREAM [TLS]    a tuned httputil.ReverseProxy
//	bench-rig stdio                     the upstream on standard input and output
//	bench-rig load                      runs jobs, one JSON object a line
//	bench-rig streams                   holds streams open, likewise
//
// TLS is the beginning of the names of three files: TLS-ca.pem, TLS-cert.pem and
// TLS-key.pem. With it the program speaks TLS to clients, and trusts that authority.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench-rig:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case (len(args) == 2 || len(args) == 3) && args[0] == "upstream":
		return serveUpstream(args[1], args[2:]...)
	case (len(args) == 3 || len(args) == 4) && args[0] == "proxy":
		return serveProxy(args[1], args[2], args[3:]...)
	case len(args) == 1 && args[0] == "stdio":
		return serveStdio(os.Stdin, os.Stdout)
	case len(args) == 1 && args[0] == "load":
		return runJobs(os.Stdin, os.Stdout, runLoad)
	case len(args) == 1 && args[0] == "streams":
		return serveStreams(os.Stdin, os.Stdout)
	}
	return fmt.Errorf("usage: bench-rig upstream|proxy|stdio|load|streams …, not %q", args)
}
