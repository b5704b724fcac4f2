package harness

import (
	"path/filepath"

	"vault-plugin-secrets-mcp/bootstrap/process"
)

// Run starts another program of a test, such as a database. Its log is in the test's
// folder, and is searched like all others. The harness ends it after the test.
func (h *Harness) Run(spec process.Spec) *process.Process {
	h.t.Helper()
	if spec.Log == "" {
		spec.Log = filepath.Join(h.Dir, spec.Name+".log")
	}
	p, err := h.group.Start(spec)
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// Leased declares a text a secret that an MCP server may have, such as a password that a
// gateway has leased for it. No log may have it.
func (h *Harness) Leased(text string) { h.leased.add(text) }
