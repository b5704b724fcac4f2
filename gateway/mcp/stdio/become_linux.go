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

// Between the gateway and the program of a child stands the gateway's own program once
// more. It takes from itself what no child may have, and then becomes the child's
// program: a domain can only be entered from inside.

// stubName is what the gateway's program is called then.
const stubName = "mcp-gateway: child"

// File descriptors of the stub.
const (
	orderFD  = 3 // what it is to do; an order
	reportFD = 4 // why it cannot; a report, and nothing if it can
)

// startTimeout bounds the time until a child's program runs.
const startTimeout = 20 * time.Second

// order is what the stub is to do.
type order struct {
	Path   string
	Args   []string
	Env    []string
	Home   string
	Homes  string // the folder of all homes
	Domain bool   // enter one

	// Sweep has it end all that runs under its account, if that is one child's alone,
	// and remove what is in Home, instead.
	Sweep bool
	Only  bool
}

// report is why the stub cannot do that.
type report struct {
	What  string
	Errno syscall.Errno
}

func (r *report) Error() string { return r.What + ": " + r.Errno.Error() }
func (r *report) Unwrap() error { return r.Errno }

func init() { //nolint:gochecknoinits // whatever program this package is part of must not run as itself here
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
	os.Exit(0)
}

// become follows the order. It returns if it cannot, or after a sweep.
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

// failed is a report, or nil without an error.
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

// harmless are the capabilities that a child of root's may have: those by which root
// is above the owners of files and ports. The others reach the kernel's memory, other
// processes' or devices.
const harmless = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID |
	1<<unix.CAP_KILL | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_NET_BIND_SERVICE

// dropCapabilities takes all others from the thread, and from what it becomes.
func dropCapabilities() error {
	// To root a program gives all that are in the bounding set.
	for c := uintptr(0); os.Geteuid() == 0 && c <= unix.CAP_LAST_CAP; c++ {
		bounding, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err != nil || bounding == 0 || harmless>>c&1 == 1 {
			continue // the kernel does not know it, or it is no matter
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

// sweep ends what runs under the account, and empties the home.
func sweep(o *order) error {
	// What still runs under the account must not lead it by the hand.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return failed("cannot hide", err)
	}
	if o.Only {
		// All but this process, and none of another account's, which it may not.
		if err := unix.Kill(-1, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EPERM) {
			return failed("cannot end what runs under the account", err)
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

// instruct starts the command as the stub, and returns once it does what the order says.
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
	var said []byte
	if err == nil {
		said, err = io.ReadAll(io.LimitReader(reportR, 64<<10))
	}
	if err == nil && len(said) > 0 {
		r := &report{}
		if err = json.Unmarshal(said, r); err == nil {
			err = r
		}
	}
	return err
}

// sweep ends what is left of a child that had an account of another's, under that
// account, since the gateway may not be allowed to.
func (l *Launcher) sweep(of lodging) error {
	cmd := &exec.Cmd{SysProcAttr: attributes(of.account.credential)}
	err := l.instruct(cmd, &order{Sweep: true, Only: of.account.only, Home: of.home})
	if cmd.Process == nil {
		return err
	}
	if err != nil {
		_ = cmd.Process.Kill()
	}
	// One that was killed has said nothing, and done we do not know what.
	return errors.Join(err, cmd.Wait())
}
