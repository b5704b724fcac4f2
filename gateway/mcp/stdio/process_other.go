//go:build unix && !linux

package stdio

import "syscall"

func attributes(credential *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Credential: credential}
}

// spawner returns a function that runs its argument.
func spawner() func(func() error) error {
	return func(run func() error) error { return run() }
}

func hide() error { return nil }

// awaitExit is false: here only Wait shows that a child has ended.
func awaitExit(int) bool { return false }

func reapGroup(int) {}
