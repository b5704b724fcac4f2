// Package policy decides whether a client may reach an MCP server, and gives the reason. It
// is pure: no I/O, no clock, no environment. The secrets engine and the gateway import the
// same code, so both decide alike.
//
// A policy has the form and the meaning of Claude Code's managed settings:
// allowedMcpServers, deniedMcpServers and allowManagedMcpServersOnly, with
// entries by URL, by command or by name. The desktop program drops an entry that it cannot
// read, and so fails open; [Parse] refuses the entry and names it.
//
// [Parse] reads one source. [Compile] merges the sources that apply to a client into an
// immutable [Policy]. [Policy.Evaluate] returns a [Decision] that explains itself.
//
// Rules about tools, prompts and resources belong to a client or its role, not to a policy:
// [Rights] and [Rules].
package policy
