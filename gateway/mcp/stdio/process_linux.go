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

// attributes give the child its own session, and so its own process group. They also
// make the kernel kill it if the gateway dies first.
func attributes(credential *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Credential: credential, Pdeathsig: syscall.SIGKILL}
}

// spawner returns a function that runs its argument on one thread that never ends: the
// kernel kills a child when the thread that started it ends.
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

// dropAmbient keeps processes that this thread starts from inheriting the gateway's
// capabilities. A gateway that is not root may have CAP_SETUID from systemd as an
// ambient capability. A change of account does not end that one, so a child could
// take any account.
func dropAmbient() error {
	err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	if err != nil && !errors.Is(err, unix.EINVAL) { // Linux before 4.3 has none
		return fmt.Errorf("cannot take capabilities from children: %w", err)
	}
	return nil
}

// hide makes the gateway's memory, environment and open files unreadable for other
// processes of the same user, through /proc or a debugger. It also closes inherited
// files to the gateway's children.
func hide() error {
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) { // Linux before 5.11 does not know it
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// awaitExit waits until the child has ended, and leaves it for Wait.
func awaitExit(pid int) bool {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

// reapGroup waits for the rest of a killed process group. Where the gateway is the
// first process of a container, these orphans become its own children.
func reapGroup(pgid int) {
	for {
		_, err := unix.Wait4(-pgid, nil, 0, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
