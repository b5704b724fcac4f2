//go:build unix && !linux

package stdio

import (
	"errors"
	"os/exec"
)

// order is what a child is.
type order struct {
	Path   string
	Args   []string
	Env    []string
	Home   string
	Homes  string
	Domain bool
}

// domainsSupported is nil where a child can have a domain of its own.
func domainsSupported() error { return errors.New("this needs Linux") }

// instruct starts the command as the order says.
func (l *Launcher) instruct(cmd *exec.Cmd, o *order) error {
	cmd.Path, cmd.Args, cmd.Env, cmd.Dir = o.Path, o.Args, o.Env, o.Home
	return l.spawn(cmd.Start)
}

// sweep does nothing: that an account is one child's alone is for Linux.
func (*Launcher) sweep(lodging) error { return nil }
