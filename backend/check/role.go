package check

import "fmt"

// Role has the fields that a caller may set on a role: rights that many clients have.
type Role struct {
	Rights
}

// Check refuses settings that no role can have. Things that they name need not exist.
func (r *Role) Check() Problems {
	var p Problems
	r.check(&p)
	r.checkSize(&p)
	return p
}

// NoSuchRole is the warning about a client whose role does not exist.
func NoSuchRole(name string) string {
	return fmt.Sprintf("there is no role %q: until there is, the client reaches nothing (roles/%s)", name, name)
}
