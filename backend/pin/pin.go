// Package pin has the digests of MCP servers' definitions, and the sets of those that somebody
// approved. It is pure: no I/O, no clock. The engine, the gateway and
// mcp-bootstrap import the same code, so all of them have the same digest for the same text.
//
// A definition is a server's description of one thing, for a model or a person to read. [Read] reads
// one as the server wrote it, and computes the digest of its canonical JSON (RFC 8785). The
// whole definition counts, unknown members included: a reader of a definition may read all of it.
// [Read] lists the exceptions.
//
// A text that two parsers could read in two ways is refused. Otherwise a server could have one
// text approved, and show its reader another with the same digest.
package pin

import (
	"fmt"
	"slices"
	"strings"
)

// Kind is a kind of definition.
type Kind string

// The kinds of definitions.
const (
	Tool         Kind = "tool"         // an entry of tools/list
	Prompt       Kind = "prompt"       // an entry of prompts/list
	Resource     Kind = "resource"     // an entry of resources/list
	Template     Kind = "template"     // an entry of resources/templates/list
	Instructions Kind = "instructions" // the server's instructions
	Server       Kind = "server"       // the server's serverInfo
	Page         Kind = "page"         // of an app: an entry of contents whose uri begins with ui://
)

// Kinds returns all kinds, in the order in which people read them.
func Kinds() []Kind {
	return []Kind{Tool, Prompt, Resource, Template, Instructions, Server, Page}
}

// Named reports whether definitions of the kind have names. A server has one text of
// instructions and one serverInfo, and their name is "".
func (k Kind) Named() bool { return k != Instructions && k != Server }

// ParseKind reads a kind.
func ParseKind(text string) (Kind, error) {
	if k := Kind(text); slices.Contains(Kinds(), k) {
		return k, nil
	}
	return "", fmt.Errorf("%q is not a valid kind: it is %s", text, oneOf(Kinds()))
}

// Mode is the effect of a server's pins.
type Mode string

// The modes. An empty mode is Off.
const (
	Off     Mode = "off"     // nothing
	Observe Mode = "observe" // a definition without approval is reported, and passes
	Enforce Mode = "enforce" // it is cut out
)

// Modes returns all modes.
func Modes() []Mode { return []Mode{Off, Observe, Enforce} }

// Active reports whether pins do anything.
func (m Mode) Active() bool { return m == Observe || m == Enforce }

// ParseMode reads a mode; "" is [Off].
func ParseMode(text string) (Mode, error) {
	if text == "" {
		return Off, nil
	}
	if m := Mode(text); slices.Contains(Modes(), m) {
		return m, nil
	}
	return "", fmt.Errorf("%q is not a valid mode of pins: it is %s", text, oneOf(Modes()))
}

// oneOf lists words: "a, b or c".
func oneOf[T ~string](words []T) string {
	texts := make([]string, 0, len(words))
	for _, word := range words {
		texts = append(texts, string(word))
	}
	last := len(texts) - 1
	return strings.Join(texts[:last], ", ") + " or " + texts[last]
}
