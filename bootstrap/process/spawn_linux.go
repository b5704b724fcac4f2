package process

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// attributes makes the child the leader of its own group, and has the kernel
// kill it when the thread that started it ends.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

var spawner struct {
	once sync.Once
	work chan func()
}

// start runs cmd.Start on a thread that lives as long as this program: the
// kernel ties Pdeathsig to the thread that forked, and the Go runtime may end
// any other.
func start(cmd *exec.Cmd) error {
	spawner.once.Do(func() {
		spawner.work = make(chan func())
		go func() {
			runtime.LockOSThread()
			for f := range spawner.work {
				f()
			}
		}()
	})
	result := make(chan error, 1)
	spawner.work <- func() { result <- cmd.Start() }
	return <-result
}
