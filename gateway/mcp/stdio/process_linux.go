package stdio

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes gives the child a session, and so a process group, of its own, and
// has the kernel kill it if the gateway dies without having done so.
func attributes(credential *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Credential: credential, Pdeathsig: syscall.SIGKILL}
}

// spawner returns a function that runs others on one thread that never ends. To
// the kernel, the parent whose death kills a child is the thread that made it.
var spawner = sync.OnceValue(func() func(func() error) error {
	type job struct {
		run  func() error
		done chan error
	}
	jobs := make(chan job)
	go func() {
		runtime.LockOSThread()
		err := dropAmbient()
		for j := range jobs {
			if err != nil {
				j.done <- err
				continue
			}
			j.done <- j.run()
		}
	}()
	return func(run func() error) error {
		j := job{run: run, done: make(chan error, 1)}
		jobs <- j
		return <-j.done
	}
})

// dropAmbient keeps what is started from this thread from inheriting the
// gateway's capabilities. Where the gateway is no root but has CAP_SETUID from
// systemd, that is an ambient one, which a change of account does not end: the
// child could become anybody.
func dropAmbient() error {
	err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) { // before Linux 4.3, which has none
		return fmt.Errorf("cannot take capabilities from children: %w", err)
	}
	return nil
}

// hide makes the gateway's memory, environment and open files unreadable for
// other processes of the same user, through /proc or a debugger, and keeps files
// that the gateway itself has inherited from being inherited further.
func hide() error {
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) { // before Linux 5.11
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// awaitExit waits until the child has ended, and leaves it to be waited for.
func awaitExit(pid int) bool {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// reapGroup waits for what is left of a killed process group, where orphans
// become the gateway's own children: as the first process of a container it has
// to.
func reapGroup(pgid int) {
	for {
		_, err := unix.Wait4(-pgid, nil, 0, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
