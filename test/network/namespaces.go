package network

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// inside tells the test's program that it is in its own namespaces.
const inside = "TEST_NETWORK_INSIDE"

// Main is the whole TestMain of a package that makes networks. It has the tests run in a
// network of their own, and with folders of the machine that they may change for
// themselves: the program starts itself again there. All of that ends with it, however it
// ends. Where the machine lacks one of the parts that scripts/field.sh has under that name, the
// tests are not run; if TEST_FIELD is "required", they fail.
func Main(m *testing.M, parts string) {
	if os.Getenv(inside) != "" {
		exitOn(moveIn())
		flag.Parse()
		// Tests wait most of the time: as many at once as processors would be too few.
		exitOn(flag.Set("test.parallel", "8"))
		os.Exit(m.Run())
	}
	missing, err := missingParts(parts)
	exitOn(err)
	if len(missing) > 0 {
		fmt.Fprintf(os.Stderr, "%s: not run, for what is missing on this machine:\n%s\n", name(), strings.Join(missing, "\n"))
		if os.Getenv("TEST_FIELD") == "required" {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(again())
}

// name is that of the test's program.
func name() string { return filepath.Base(os.Args[0]) }

// exitOn ends the program on an error.
func exitOn(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name(), err)
		os.Exit(1)
	}
}

// missingParts are the parts that scripts/field.sh does not find.
func missingParts(parts string) ([]string, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return nil, errors.New("it is not known where the repository is")
	}
	cmd := exec.Command(filepath.Join(filepath.Dir(file), "..", "..", "scripts", "field.sh"), "missing", parts)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' }), err
}

// again runs this program in namespaces of its own, and returns its exit status. Any
// account becomes root there.
func again() int {
	runtime.LockOSThread() // the child ends with the thread that started it
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		one := func(id int) []syscall.SysProcIDMap { return []syscall.SysProcIDMap{{HostID: id, Size: 1}} }
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings, cmd.SysProcAttr.GidMappings = one(os.Getuid()), one(os.Getgid())
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: cannot run in namespaces of its own: %v\n", name(), err)
		return 1
	}
	return 0
}

// moveIn prepares the namespaces: later mounts are seen by these tests alone, and their
// named network namespaces are in a /run of their own.
func moveIn() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot keep mounts to itself: %w", err)
	}
	if err := syscall.Mount("run", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("cannot mount a /run of its own: %w", err)
	}
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	return run("ip", "link", "set", "lo", "up")
}

// run runs a command, whose output is in the error.
func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
