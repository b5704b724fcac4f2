// Plot makes the tables and the pictures of docs/performance.md again, from the figures that the
// benchmarks have stored: plot docs/performance.
package main

import (
	"fmt"
	"os"

	"vault-plugin-secrets-mcp/test/bench/report"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: plot FOLDER")
		os.Exit(2)
	}
	if err := report.Make(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}
