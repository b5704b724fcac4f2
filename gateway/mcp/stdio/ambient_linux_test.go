package stdio

import (
	"os/exec"
	"regexp"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestChildrenInheritNoCapability gives a thread an ambient capability, as systemd gives
// one to the gateway's threads, if the test's account has one. It then looks at the child's
// capabilities.
func TestChildrenInheritNoCapability(t *testing.T) {
	ambient := make(chan string)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		raiseAmbient(unix.CAP_SETUID)
		if dropAmbient() != nil {
			ambient <- "dropAmbient failed"
			return
		}
		status, err := exec.Command("cat", "/proc/self/status").Output()
		if err != nil {
			ambient <- err.Error()
			return
		}
		ambient <- regexp.MustCompile(`(?m)^CapAmb:\s+(\w+)$`).FindStringSubmatch(string(status))[1]
	}()
	require.Equal(t, "0000000000000000", <-ambient)
}

// raiseAmbient makes a capability of this thread ambient. An account that does
// not have it cannot, and then has nothing to pass on.
func raiseAmbient(capability uint) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if unix.Capget(&header, &sets[0]) != nil {
		return
	}
	sets[0].Inheritable |= 1 << capability
	if unix.Capset(&header, &sets[0]) == nil {
		_ = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uintptr(capability), 0, 0)
	}
}
