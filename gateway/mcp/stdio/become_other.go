//go:build unix && !linux

package stdio

import (
	"errors"
	"os/exec"
)

// order describes the child.
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

// instruct starts the command that the order describes.
func (l *Launcher) instruct(cmd *exec.Cmd, o *order) error {
	cmd.Path, cmd.Args, cmd.Env, cmd.Dir = o.Path, o.Args, o.Env, o.Home
	return l.spawn(cmd.Start)
}

// sweep does nothing: only on Linux has a child its own account.
func (*Launcher) sweep(resources) error { return nil }
