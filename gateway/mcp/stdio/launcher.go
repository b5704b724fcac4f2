// Package stdio runs MCP servers that are child processes of the gateway.
//
// A child is started only if the gateway's own file allows its command: what
// the registry says comes over an API, and an API must not become a way to run
// programs. It gets a clean environment, a home of its own, none of the gateway's
// files, a session and process group of its own, and another account where that is
// configured. When it ends, or is ended, everything in its process group ends with
// it, and its home.
//
// No child reads the memory, the environment or the home of another one. Each has an
// account of its own (uid_range), or is in a Landlock domain of its own, or both; where
// neither can be had it is not started, unless the file says that it may be.
package stdio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// searchPath is the PATH of children whose registration sets none.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Launcher starts children. It may be used from any goroutine.
type Launcher struct {
	program  func(command string) (path string, err error)
	stop     time.Duration
	accounts *accounts
	homes    *homes
	domain   bool // each child enters a domain of its own
	log      hclog.Logger
	spawn    func(func() error) error
	patience time.Duration // how long a child may leave a message unread

	running sync.WaitGroup
}

// NewLauncher checks the settings. It also closes this process's memory and
// environment to other processes of the same user, children among them.
func NewLauncher(settings *config.Stdio, log hclog.Logger) (*Launcher, error) {
	l := &Launcher{
		program:  settings.Program,
		stop:     settings.StopTimeout,
		log:      log,
		spawn:    spawner(),
		patience: sendTimeout,
	}
	var err error
	if l.domain, err = isolation(settings, domainsSupported()); err != nil {
		return nil, fmt.Errorf("stdio: %w", err)
	}
	if l.accounts, err = newAccounts(settings); err != nil {
		return nil, fmt.Errorf("stdio: %w", err)
	}
	if err := hide(); err != nil {
		return nil, fmt.Errorf("stdio: cannot hide the gateway's memory from its children: %w", err)
	}
	if l.homes, err = openHomes(settings.HomeDir, log); err != nil {
		return nil, fmt.Errorf("stdio: %w", err)
	}
	switch {
	case !l.domain && !l.accounts.each:
		log.Warn("children are not kept apart: each of them can read the environment and the files of the others", "isolation", settings.Isolation)
	case os.Geteuid() == 0 && l.accounts.all == nil && !l.accounts.each:
		log.Warn("children run as root, as the gateway does: give each an account of its own with uid_range, or all of them one with user")
	}
	return l, nil
}

// isolation says whether children enter a domain. unsupported is why the kernel has
// none; the error, why there can be no children.
func isolation(settings *config.Stdio, unsupported error) (domain bool, err error) {
	switch {
	case settings.Isolation == config.IsolationOff:
		return false, nil
	case unsupported == nil:
		return true, nil
	case settings.UIDs.Count > 0:
		return false, nil // accounts suffice
	}
	return false, fmt.Errorf("children cannot be kept from reading each other's memory and environment: %w; "+
		"give each an account of its own with uid_range, or allow it with isolation = %q", unsupported, config.IsolationOff)
}

// Isolation says whether this machine keeps children apart that run under one account.
func Isolation() error { return domainsSupported() }

// Check says why the registered server must not be started.
func (l *Launcher) Check(server *grants.Server) error {
	if _, err := l.program(server.Command); err != nil {
		return err
	}
	for name := range server.Env {
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			return fmt.Errorf("env: %q is not a valid name of a variable", name)
		case strings.HasPrefix(name, "LD_"), strings.HasPrefix(name, "DYLD_"):
			return fmt.Errorf("env: %s would have the system's loader run other code than the command's", name)
		}
	}
	return nil
}

// environment is the child's: what the registration says, and the least that
// programs expect.
func environment(server *grants.Server, home string) []string {
	env := map[string]string{
		"PATH": searchPath, "LANG": "C.UTF-8",
		"HOME": home, "TMPDIR": filepath.Join(home, "tmp"), "XDG_CACHE_HOME": filepath.Join(home, ".cache"),
	}
	for name, value := range server.Env {
		env[name] = value
	}
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// lodging is what a child has of the machine while it runs.
type lodging struct {
	account account
	home    string
}

// lodge gives a child an account and a home.
func (l *Launcher) lodge() (lodging, error) {
	of, err := l.accounts.take()
	if err != nil {
		return lodging{}, err
	}
	if of.only && !of.swept {
		// Something may be left of a gateway that was killed.
		if err = l.sweep(lodging{account: of}); err != nil {
			l.accounts.give(of)
			return lodging{}, explain(err, of)
		}
	}
	home, err := l.homes.make(of)
	if err != nil {
		l.accounts.give(of)
		return lodging{}, explain(err, of)
	}
	return lodging{account: of, home: home}, nil
}

// vacate removes what a child that has ended leaves behind: with an account of its
// own all that runs under it, and its home.
func (l *Launcher) vacate(of lodging) {
	var err error
	if of.account.credential != nil {
		err = l.sweep(of)
	}
	if err = errors.Join(err, removeAll(of.home)); err != nil {
		// The account stays out of use: something may still run under it.
		l.log.Error("cannot remove what a stdio server has left behind", "home", of.home, "error", err)
		return
	}
	of.account.swept = true
	l.accounts.give(of.account)
}

// explain says what a gateway needs for children of other accounts.
func explain(err error, of account) error {
	if of.credential != nil && errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("%w: running children as another account needs root, or CAP_SETUID, CAP_SETGID and CAP_CHOWN", err)
	}
	return err
}

// Wait waits until all children have ended, which they must have been told to.
func (l *Launcher) Wait() {
	l.running.Wait()
	l.homes.close()
}
