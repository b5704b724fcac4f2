// Package policy decides whether a client may reach an MCP server, and says
// why. It is pure: no I/O, no clock, no environment; the secrets engine and the
// gateway import the same code, so both come to the same answer.
//
// A policy has the form and the meaning of Claude Code's managed settings:
// allowedMcpServers, deniedMcpServers and allowManagedMcpServersOnly, with
// entries by URL, by command or by name. Where the desktop program drops what
// it cannot read, and so fails open, [Parse] refuses it by name.
//
// The way of a decision: [Parse] reads one source; [Compile] merges the
// sources that concern a client into an immutable [Policy]; [Policy.Evaluate]
// answers with a [Decision] that explains itself. Tool rules, [Tools], are
// beside that: they belong to a client, not to a policy.
package policy
