package rewrite

import (
	"bytes"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
)

// prefixKind says which of a server's prefixes a name of its gets.
type prefixKind uint8

const (
	resourcePrefix prefixKind = iota // before a URI
	pagePrefix                       // behind the scheme in the URI of a page of an app
	namePrefix                       // before the name of a tool or a prompt, or the id of a task
)

// of returns the server's prefix of the kind.
func (k prefixKind) of(server string) string {
	switch k {
	case pagePrefix:
		return names.UIPrefix(server)
	case namePrefix:
		return names.Prefix(server)
	default:
		return names.URIPrefix(server)
	}
}

// mark is a place in a server's message where a prefix goes.
type mark struct {
	at   int // offset
	kind prefixKind
}

// markOfURI returns the mark of the URI whose text begins at the offset, behind the quote.
func markOfURI(message []byte, start int) mark {
	if n := uiScheme(message[start:]); n > 0 {
		return mark{start + n, pagePrefix}
	}
	return mark{start, resourcePrefix}
}

// uiScheme returns how many bytes of a string's text spell ui://, if the text begins with
// that and goes on; 0 otherwise. Some programs write each slash as an escape.
func uiScheme(text []byte) int {
	n := 0
	for i := range len(names.UIScheme) {
		if names.UIScheme[i] == '/' && bytes.HasPrefix(text[n:], []byte(`\/`)) {
			n++
		}
		if n >= len(text) || text[n] != names.UIScheme[i] {
			return 0
		}
		n++
	}
	if n >= len(text) || text[n] == '"' {
		return 0
	}
	return n
}

// metaReader reads the names in a member _meta, of a tool or of a message. Others than the
// protocol's authors use that member, too. So a key that only resembles one of the keys
// below is another key here, and no mistake.
type metaReader struct {
	*jsonscan.Scanner
	message []byte
	marks   *[]mark
}

var (
	metaKeys = []string{"ui", "ui/resourceUri", "openai/outputTemplate", protocol.MetaRelatedTask}
	uiKeys   = []string{"resourceUri"}
	taskKeys = []string{"taskId"}
)

// read reads _meta, and marks the pages and the task that it names.
//
// A tool names the page that shows its results in ui.resourceUri. Older servers write the
// key ui/resourceUri, and those for ChatGPT openai/outputTemplate.
func (m metaReader) read() error {
	return m.members(metaKeys, func(key int) error {
		switch key {
		case 0:
			return m.members(uiKeys, func(int) error { return m.page() })
		case 3:
			return m.members(taskKeys, func(int) error { return m.task() })
		default:
			return m.page()
		}
	})
}

func (m metaReader) members(keys []string, member func(key int) error) error {
	if m.Peek() != '{' {
		return m.Skip()
	}
	_, err := m.MembersAnyway(keys, member)
	return err
}

// page marks the next value if it is the URI of a page.
func (m metaReader) page() error {
	if m.Peek() == '"' {
		if found := markOfURI(m.message, m.Pos()+len(`"`)); found.kind == pagePrefix {
			*m.marks = append(*m.marks, found)
		}
	}
	return m.Skip()
}

// task marks the next value if it is the id of a task.
func (m metaReader) task() error {
	if m.Peek() == '"' {
		*m.marks = append(*m.marks, mark{m.Pos() + len(`"`), namePrefix})
	}
	return m.Skip()
}
