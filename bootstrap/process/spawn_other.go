//go:build !linux

package process

import (
	"os/exec"
	"syscall"
)

// attributes makes the child the leader of its own group.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func start(cmd *exec.Cmd) error { return cmd.Start() }
