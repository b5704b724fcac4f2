// Package names gives what many servers offer names that are unique among all
// of them, and takes such names apart again.
//
// A tool or a prompt of a server is server__name, as users of MCPJungle know
// it. A resource is mcp://server/ and the URI that it has on its server, as it
// stands there; a URI template likewise. Both are reversible without a table:
// a server's name starts and ends with a letter or digit and holds no "__", so
// the first "__" ends it, and no two servers' names can collide.
//
// Nothing here says whether a server of that name exists, or who may reach it.
package names

import (
	"errors"
	"fmt"
	"strings"
)

// MaxName is the length of the longest name that a tool or a prompt may have,
// the server's part included: what the protocol recommends. Several language
// models take less.
//
// https://modelcontextprotocol.io/specification/2026-07-28/server/tools#tool-names
const MaxName = 128

// separator stands between the server's name and the tool's.
const separator = "__"

// What [Check] finds wrong with a name.
var (
	ErrEmpty      = errors.New("the name is empty")
	ErrTooLong    = fmt.Errorf("the name is longer than %d characters with the server's before it", MaxName)
	ErrCharacters = errors.New("the name holds a character other than A-Z, a-z, 0-9, '_', '.' and '-'")
)

// Prefix is what stands before the names of the server's tools and prompts.
func Prefix(server string) string { return server + separator }

// Check tells whether clients could use the name of the server's tool or prompt
// with the [Prefix] before it.
func Check[T string | []byte](server string, name T) error {
	switch {
	case len(name) == 0:
		return ErrEmpty
	case len(server)+len(separator)+len(name) > MaxName:
		return ErrTooLong
	}
	for i := range len(name) {
		if !inName(name[i]) {
			return ErrCharacters
		}
	}
	return nil
}

// Split takes apart a [Prefix] and the name behind it. ok is false for what
// cannot be that.
func Split(joined string) (server, name string, ok bool) {
	server, name, ok = strings.Cut(joined, separator)
	if !ok || !isServer(server) || Check(server, name) != nil {
		return "", "", false
	}
	return server, name, true
}

// isServer reports whether a server can be registered under the name, but for
// its length.
func isServer(name string) bool {
	if name == "" || !isAlphanumeric(name[0]) || !isAlphanumeric(name[len(name)-1]) {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !isAlphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return !strings.Contains(name, separator)
}

func inName(c byte) bool {
	return isAlphanumeric(c) || c == '_' || c == '-' || c == '.'
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
