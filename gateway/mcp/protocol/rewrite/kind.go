package rewrite

import (
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
)

// Kind is a kind of list.
type Kind uint8

// The lists that servers have.
const (
	Tools Kind = iota + 1
	Prompts
	Resources
	Templates
)

// kinds has, for each kind, the method that requests the list, the member of the result
// that has it, and the member of an entry that names the entry.
var kinds = [...]struct{ method, member, name string }{
	Tools:     {protocol.MethodToolsList, "tools", "name"},
	Prompts:   {protocol.MethodPromptsList, "prompts", "name"},
	Resources: {protocol.MethodResourcesList, "resources", "uri"},
	Templates: {protocol.MethodTemplatesList, "resourceTemplates", "uriTemplate"},
}

// KindOf returns the kind of list that the method requests.
func KindOf(method string) (kind Kind, ok bool) {
	for k := Tools; k <= Templates; k++ {
		if kinds[k].method == method {
			return k, true
		}
	}
	return 0, false
}

// Method is the method that requests the list.
func (k Kind) Method() string { return kinds[k].method }

// Member is the member of the result that has the list.
func (k Kind) Member() string { return kinds[k].member }

// prefix is the prefix of the names of the server's entries.
func (k Kind) prefix(server string) string {
	if k == Resources || k == Templates {
		return names.URIPrefix(server)
	}
	return names.Prefix(server)
}

// check returns an error if the server's entry of that name cannot have a name among the
// entries of all servers.
func (k Kind) check(server string, name []byte) error {
	if k == Resources || k == Templates {
		if len(name) == 0 {
			return names.ErrEmpty
		}
		return nil
	}
	return names.Check(server, name)
}
