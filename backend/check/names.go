package check

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	maxNameLength       = 128
	maxServerNameLength = 64 // leaves room for "server__tool" within 128 characters
)

var (
	lowerNameForm  = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`)
	serverNameForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$`)
)

// ClientName refuses a text that is not a valid name of a client. Upper case is refused
// and not folded: ACL paths are case-sensitive, and if a client's name had two
// spellings, an ACL policy for one would miss the other.
func ClientName(name string) error { return lowerName("client", name) }

// PolicyName refuses a text that is not a valid name of a policy.
func PolicyName(name string) error { return lowerName("policy", name) }

// RoleName refuses a text that is not a valid name of a role.
func RoleName(name string) error { return lowerName("role", name) }

func lowerName(what, name string) error {
	switch {
	case len(name) > maxNameLength:
		return fmt.Errorf("the %s name is %d characters long: at most %d are allowed", what, len(name), maxNameLength)
	case name != strings.ToLower(name):
		return fmt.Errorf("the %s name %q has an upper-case letter: Vault's ACL paths are case-sensitive, so names are lower-case only", what, name)
	case !lowerNameForm.MatchString(name):
		return fmt.Errorf("%q is not a valid %s name: use lower-case letters, digits and . _ - with a letter or digit at both ends", name, what)
	}
	return nil
}

// ServerName refuses a text that is not a valid name of a server. "__" separates the
// server from the tool in an aggregate's names.
func ServerName(name string) error {
	switch {
	case len(name) > maxServerNameLength:
		return fmt.Errorf("the server name is %d characters long: at most %d are allowed", len(name), maxServerNameLength)
	case strings.Contains(name, "__"):
		return fmt.Errorf("the server name %q has a double underscore, which separates server and tool in names like server__tool", name)
	case !serverNameForm.MatchString(name):
		return fmt.Errorf("%q is not a valid server name: use letters, digits, - and _ with a letter or digit at both ends", name)
	}
	return nil
}
