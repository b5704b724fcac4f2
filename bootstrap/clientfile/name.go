package clientfile

import (
	"regexp"
	"strings"
)

// maxName is the length of the longest name of a server in the registry.
const maxName = 64

var (
	notInName   = regexp.MustCompile(`[^A-Za-z0-9_-]+`)
	underscores = regexp.MustCompile(`__+`)
)

// validName makes a name that the registry takes of one that has any characters; "" if nothing
// of it is left.
func validName(name string) string {
	name = underscores.ReplaceAllString(notInName.ReplaceAllString(name, "-"), "_")
	return strings.Trim(name[:min(len(name), maxName)], "-_")
}
