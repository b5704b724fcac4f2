package backend

import (
	"regexp"
	"strings"
)

const (
	maxClientNameLength = 128
	maxServerNameLength = 64 // leaves room for "server__tool" within 128 characters
)

var (
	clientNameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`)
	serverNameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$`)
)

// checkClientName refuses what cannot name a client. Upper case is refused and
// not folded: ACL paths are case-sensitive, and two spellings of one client
// would let a policy for the one miss the other.
func checkClientName(name string) error {
	return checkLowerName("client", name)
}

func checkLowerName(what, name string) error {
	switch {
	case len(name) > maxClientNameLength:
		return userErrorf("the %s name is %d characters long: at most %d are allowed", what, len(name), maxClientNameLength)
	case name != strings.ToLower(name):
		return userErrorf("the %s name %q has an upper-case letter: Vault's ACL paths are case-sensitive, so names are lower-case only", what, name)
	case !clientNameForm.MatchString(name):
		return userErrorf("%q is no %s name: use lower-case letters, digits and . _ - with a letter or digit at both ends", name, what)
	}
	return nil
}

// checkServerName refuses what cannot name a server. "__" separates the server
// from the tool in an aggregate's names.
func checkServerName(name string) error {
	switch {
	case len(name) > maxServerNameLength:
		return userErrorf("the server name is %d characters long: at most %d are allowed", len(name), maxServerNameLength)
	case strings.Contains(name, "__"):
		return userErrorf("the server name %q has a double underscore, which separates server and tool in names like server__tool", name)
	case !serverNameForm.MatchString(name):
		return userErrorf("%q is no server name: use letters, digits, - and _ with a letter or digit at both ends", name)
	}
	return nil
}
