package rewrite

import (
	"vault-plugin-secrets-mcp/backend/pin"
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
	Tasks // of 2025-11-25
)

// kinds has, for each kind, the method that requests the list, the member of the result
// that has it, the kind of its entries as definitions, and the members of an entry with names:
// the first names the entry.
var kinds = [...]struct {
	method, member string
	definition     pin.Kind
	keys           []string
}{
	Tools:     {protocol.MethodToolsList, "tools", pin.Tool, []string{"name", "_meta"}},
	Prompts:   {protocol.MethodPromptsList, "prompts", pin.Prompt, []string{"name"}},
	Resources: {protocol.MethodResourcesList, "resources", pin.Resource, []string{"uri"}},
	Templates: {protocol.MethodTemplatesList, "resourceTemplates", pin.Template, []string{"uriTemplate"}},
	Tasks:     {protocol.MethodTasksList, "tasks", "", []string{"taskId"}},
}

// KindOf returns the kind of list that the method requests.
func KindOf(method string) (kind Kind, ok bool) {
	for k := Tools; k <= Tasks; k++ {
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

// NameMember is the member of an entry that names the entry.
func (k Kind) NameMember() string { return kinds[k].keys[0] }

// Definition is the kind of definition that the list's entries are; "" for tasks, which nobody
// defines.
func (k Kind) Definition() pin.Kind { return kinds[k].definition }

// mark returns where the prefix goes into the name of an entry that begins at the offset,
// behind the quote.
func (k Kind) mark(message []byte, start int) mark {
	if k == Resources || k == Templates {
		return markOfURI(message, start)
	}
	return mark{start, namePrefix}
}

// check returns an error if the server's entry of that name cannot have a name among the
// entries of all servers.
func (k Kind) check(server string, name []byte) error {
	if k == Tools || k == Prompts {
		return names.Check(server, name)
	}
	if len(name) == 0 {
		return names.ErrEmpty
	}
	return nil
}
