package stdio

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The gateway first starts its own program again, as a stub. The stub gives up the
// privileges that no child may have, enters a domain, which a process can only do
// itself, and then becomes the child's program.

// stubName is the name of the stub's process.
const stubName = "mcp-gateway: child"

// File descriptors of the stub.
const (
	orderFD  = 3 // it reads its order there
	reportFD = 4 // it writes a report there if it fails, and nothing else
)

// startTimeout bounds the time until a child's program runs.
const startTimeout = 20 * time.Second

// order tells the stub which program to become.
type order struct {
	Path   string
	Args   []string
	Env    []string
	Home   string
	Homes  string // the folder of all homes
	Domain bool   // enter a Landlock domain

	// Sweep makes it clean up instead: it empties Home, and with Exclusive it kills all
	// processes under its account, since only one child had that.
	Sweep     bool
	Exclusive bool
}

// report is the reason why the stub has failed.
type report struct {
	What  string
	Errno syscall.Errno
}

func (r *report) Error() string { return r.What + ": " + r.Errno.Error() }
func (r *report) Unwrap() error { return r.Errno }

func init() { //nolint:gochecknoinits // any program with this package must become the stub before its own main runs
	if len(os.Args) != 1 || os.Args[0] != stubName {
		return
	}
	err := become()
	r := &report{What: "cannot start it"}
	if !errors.As(err, &r) && err != nil {
		r.What, r.Errno = err.Error(), unix.EINVAL
	}
	if err != nil {
		_ = json.NewEncoder(os.NewFile(reportFD, "report")).Encode(r)
		os.Exit(126)
	}
	syscall.Exit(0) // os.Exit would wait for a second where there is a race detector
}

// become follows the order. It returns after an error or a sweep only.
func become() error {
	unix.CloseOnExec(orderFD)
	unix.CloseOnExec(reportFD)
	var o order
	if err := json.NewDecoder(os.NewFile(orderFD, "order")).Decode(&o); err != nil {
		return err
	}
	if o.Sweep {
		return sweep(&o)
	}
	unix.Umask(0o077)
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return failed("cannot give up privileges", err)
	}
	if err := dropCapabilities(); err != nil {
		return failed("cannot give up capabilities", err)
	}
	if o.Domain {
		if err := enterDomain(o.Home, o.Homes); err != nil {
			return err
		}
	}
	if err := unix.Chdir(o.Home); err != nil {
		return failed("cannot enter its home", err)
	}
	return failed(o.Path, unix.Exec(o.Path, o.Args, o.Env))
}

// failed returns a report of the error; nil without one.
func failed(what string, err error) error {
	if err == nil {
		return nil
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return &report{what, errno}
}

// harmless are the capabilities that a child under root may have: those over files and
// ports of any owner. The others reach devices and the memory of the kernel or of
// other processes.
const harmless = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_KILL | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_NET_BIND_SERVICE

// dropCapabilities takes all others from the thread, and from the program that it
// becomes.
func dropCapabilities() error {
	// A program that root starts gets all capabilities of the bounding set.
	for c := uintptr(0); os.Geteuid() == 0 && c <= unix.CAP_LAST_CAP; c++ {
		bounding, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err != nil || bounding == 0 || harmless>>c&1 == 1 {
			continue // the kernel does not know it, or it is harmless
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return err
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	for i := range sets {
		keep := uint32(uint64(harmless) >> (32 * i) & 0xffffffff)
		sets[i].Permitted &= keep
		sets[i].Effective &= keep
		sets[i].Inheritable = 0
	}
	return unix.Capset(&header, &sets[0])
}

// sweep kills the processes under the account, and empties the home.
func sweep(o *order) error {
	// Processes that still run under the account must not trace this one.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return failed("cannot hide", err)
	}
	if o.Exclusive {
		// This reaches all processes but this one. The kernel protects those of
		// other accounts.
		if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EPERM) {
			return failed("cannot kill the processes under the account", err)
		}
	}
	if o.Home == "" {
		return nil
	}
	entries, err := os.ReadDir(o.Home)
	for _, entry := range entries {
		err = errors.Join(err, removeAll(filepath.Join(o.Home, entry.Name())))
	}
	return err
}

// instruct starts the command as the stub, and returns once the stub has become the
// program, or has failed.
func (l *Launcher) instruct(cmd *exec.Cmd, o *order) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	orderR, orderW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer orderW.Close()
	reportR, reportW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, orderR.Close())
	}
	defer reportR.Close()
	cmd.Path, cmd.Args, cmd.Env = "/proc/self/exe", []string{stubName}, []string{}
	cmd.ExtraFiles = []*os.File{orderR, reportW}
	err = l.spawn(cmd.Start)
	_, _ = orderR.Close(), reportW.Close()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(startTimeout)
	_ = orderW.SetWriteDeadline(deadline)
	_ = reportR.SetReadDeadline(deadline)
	_, err = orderW.Write(text)
	_ = orderW.Close()
	var answer []byte
	if err == nil {
		answer, err = io.ReadAll(io.LimitReader(reportR, 64<<10))
	}
	if err == nil && len(answer) > 0 {
		r := &report{}
		if err = json.Unmarshal(answer, r); err == nil {
			err = r
		}
	}
	return err
}

// sweep cleans up after a child of another account. It does so under that account,
// since the gateway itself may lack the rights.
func (l *Launcher) sweep(of resources) error {
	cmd := &exec.Cmd{SysProcAttr: attributes(of.account.credential)}
	err := l.instruct(cmd, &order{Sweep: true, Exclusive: of.account.exclusive, Home: of.home})
	if cmd.Process == nil {
		return err
	}
	if err != nil {
		_ = cmd.Process.Kill()
	}
	// A stub that was killed has not reported an error, but Wait does.
	return errors.Join(err, cmd.Wait())
}
