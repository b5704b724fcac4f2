// Package names makes the names of many servers' tools, prompts and resources unique,
// and takes such names apart again.
//
// A tool or a prompt of a server is server__name, as in MCPJungle. A resource is
// mcp://server/ followed by its URI on the server, and so is a URI template. A page of an
// app, ui://page, is ui://server/page. All of them are reversible without a table: a
// server's name starts and ends with a letter or digit and has no "__" and no "/". So the
// first "__" or "/" ends it, and names of two servers cannot collide.
//
// This package does not know which servers exist, nor who may reach them.
package names

import (
	"errors"
	"fmt"
	"strings"
)

// MaxName is the length of the longest name of a tool or a prompt with the server's
// name before it, as the protocol recommends. Some language models take less.
//
// https://modelcontextprotocol.io/specification/2026-07-28/server/tools#tool-names
const MaxName = 128

// separator is between the server's name and the tool's.
const separator = "__"

// Errors of [Check].
var (
	ErrEmpty      = errors.New("the name is empty")
	ErrTooLong    = fmt.Errorf("the name is longer than %d characters with the server's name before it", MaxName)
	ErrCharacters = errors.New("the name has a character other than A-Z, a-z, 0-9, '_', '.' and '-'")
)

// Prefix is the prefix of the names of the server's tools and prompts.
func Prefix(server string) string { return server + separator }

// Check returns an error if clients could not use the name of the server's tool or
// prompt with its [Prefix].
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

// Split takes apart a [Prefix] and the name after it. ok is false for other texts.
func Split(joined string) (server, name string, ok bool) {
	server, name, ok = strings.Cut(joined, separator)
	if !ok || !isServer(server) || Check(server, name) != nil {
		return "", "", false
	}
	return server, name, true
}

// SplitTask takes apart a [Prefix] and the id of a task after it. ok is false for other
// texts.
func SplitTask(joined string) (server, id string, ok bool) {
	server, id, ok = strings.Cut(joined, separator)
	if !ok || id == "" || !isServer(server) {
		return "", "", false
	}
	return server, id, true
}

// isServer reports whether a server can have the name. It does not look at the length.
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
