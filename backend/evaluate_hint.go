package backend

import (
	"fmt"
	"strings"

	"vault-plugin-secrets-mcp/backend/policy"
)

// withHint adds to the reason of a decision about an item that its name looks like the one that
// clients see at /mcp, where it begins with the server's name. Rules are about the server's own
// names, which one server may well begin with its own.
func withHint(d policy.Decision, server string, item policy.Item, name string) policy.Decision {
	own, ok := ownName(server, item, name)
	if !ok {
		return d
	}
	d.Reason += fmt.Sprintf(" (that looks like its name at /mcp: give %s=%s)", item, own)
	d.Checks[len(d.Checks)-1].Detail = d.Reason
	return d
}

// ownName returns the server's own name of an item that clients see under the given name at
// /mcp, if the name has that form.
func ownName(server string, item policy.Item, name string) (string, bool) {
	if item != policy.Resource {
		own, ok := strings.CutPrefix(name, server+"__")
		return own, ok && own != ""
	}
	if own, ok := strings.CutPrefix(name, "mcp://"+server+"/"); ok && own != "" {
		return own, true
	}
	own, ok := strings.CutPrefix(name, "ui://"+server+"/")
	return "ui://" + own, ok && own != ""
}
