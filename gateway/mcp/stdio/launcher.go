// Package stdio runs MCP servers that are child processes of the gateway.
//
// The gateway starts a child only if its own file allows the command. The registry
// comes over an API, and an API must not become a way to run programs. A child gets a
// clean environment, its own home, its own session and process group, none of the
// gateway's open files, and another account where that is configured. When it ends, all
// processes in its group end too, and the gateway removes its home.
//
// No child can read the memory, the environment or the home of another one. Each has
// its own account (uid_range), its own Landlock domain, or both. Where neither is
// possible, the gateway does not start it, unless the file allows that.
package stdio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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

// Launcher starts children. Any goroutine may use it.
type Launcher struct {
	program     func(command string) (path string, err error)
	stop        time.Duration
	accounts    *accounts
	homes       *homes
	domain      bool // each child enters its own Landlock domain
	log         hclog.Logger
	spawn       func(func() error) error
	sendTimeout time.Duration // as the constant; tests shorten it

	mu      sync.Mutex
	ended   bool // no child is started any more
	running sync.WaitGroup
}

// errEnded: the gateway shuts down.
var errEnded = errors.New("the gateway starts no servers any more")

// NewLauncher checks the settings. It also hides this process's memory and environment
// from other processes of the same user, children included.
func NewLauncher(settings *config.Stdio, log hclog.Logger) (*Launcher, error) {
	l := &Launcher{
		program:     settings.Program,
		stop:        settings.StopTimeout,
		log:         log,
		spawn:       spawner(),
		sendTimeout: sendTimeout,
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
	case !l.domain && !l.accounts.perChild:
		log.Warn("children are not kept apart: each of them can read the environment and the files of the others", "isolation", settings.Isolation)
	case os.Geteuid() == 0 && l.accounts.all == nil && !l.accounts.perChild:
		log.Warn("children run as root, as the gateway does: give each an account of its own with uid_range, or all of them one with user")
	}
	return l, nil
}

// isolation reports whether children enter a domain. unsupported is the reason why the
// kernel has none. The error is the reason why there can be no children.
func isolation(settings *config.Stdio, unsupported error) (domain bool, err error) {
	switch {
	case settings.Isolation == config.IsolationOff:
		return false, nil
	case unsupported == nil:
		return true, nil
	case settings.UIDs.Count > 0:
		return false, nil // accounts suffice
	}
	return false, fmt.Errorf("children could read each other's memory and environment: %w; "+
		"give each its own account with uid_range, or allow it with isolation = %q", unsupported, config.IsolationOff)
}

// Isolation is nil if this machine can isolate children that run under one account.
func Isolation() error { return domainsSupported() }

// Check returns the reason why the gateway must not start the registered server.
func (l *Launcher) Check(server *grants.Server) error {
	if _, err := l.program(server.Command); err != nil {
		return err
	}
	return Values{Env: server.Env, Files: server.Files}.check()
}

// Values are what a child gets for one principal. They are secret.
type Values struct {
	Env map[string]string // {{file.NAME}} stands for the path of a file
	// Files are the contents of files in the child's home, by name.
	Files map[string]string
	// Secrets are parts of the others that are secret where they stand alone, too.
	Secrets []string
}

// check returns the reason why no child may get the values.
func (v Values) check() error {
	for name := range v.Env {
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			return fmt.Errorf("env: %q is not a valid name of a variable", name)
		case strings.HasPrefix(name, "LD_"), strings.HasPrefix(name, "DYLD_"):
			return fmt.Errorf("env: %s would make the system's loader run other code than the command's", name)
		}
	}
	for name := range v.Files {
		if !fileName.MatchString(name) {
			return fmt.Errorf("files: %q is not a valid name of a file", name)
		}
	}
	return nil
}

// fileName is the form of the names of a child's files.
var fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// environment is the child's environment: that of its values, and the minimum that
// programs expect.
func (v Values) environment(home string) []string {
	paths := make([]string, 0, 2*len(v.Files))
	for name := range v.Files {
		paths = append(paths, "{{file."+name+"}}", filePath(home, name))
	}
	withPaths := strings.NewReplacer(paths...)
	env := map[string]string{
		"PATH": searchPath, "LANG": "C.UTF-8",
		"HOME": home, "TMPDIR": filepath.Join(home, "tmp"), "XDG_CACHE_HOME": filepath.Join(home, ".cache"),
	}
	for name, value := range v.Env {
		env[name] = withPaths.Replace(value)
	}
	list := make([]string, 0, len(env))
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// resources are the account and the home of a child while it runs.
type resources struct {
	account account
	home    string
}

// allocate gives a child an account, and a home with its files.
func (l *Launcher) allocate(files map[string]string) (resources, error) {
	of, err := l.accounts.acquire()
	if err != nil {
		return resources{}, err
	}
	if of.exclusive && !of.swept {
		// A gateway that was killed may have left processes or files.
		if err = l.sweep(resources{account: of}); err != nil {
			l.accounts.release(of)
			return resources{}, explain(err, of)
		}
	}
	home, err := l.homes.make(of, files)
	if err != nil {
		l.accounts.release(of)
		return resources{}, explain(err, of)
	}
	return resources{account: of, home: home}, nil
}

// free removes the home of a child that has ended, and kills the processes under its
// account if the account was its alone.
func (l *Launcher) free(of resources) {
	var err error
	if of.account.credential != nil {
		err = l.sweep(of)
	}
	if err = errors.Join(err, removeAll(of.home)); err != nil {
		// The account stays in use: a process may still run under it.
		l.log.Error("cannot clean up after a stdio server", "home", of.home, "error", err)
		return
	}
	of.account.swept = true
	l.accounts.release(of.account)
}

// explain adds the privileges that a gateway needs for children of other accounts.
func explain(err error, of account) error {
	if of.credential != nil && errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("%w: running children as another account needs root, or CAP_SETUID, CAP_SETGID and CAP_CHOWN", err)
	}
	return err
}

// begin counts a child that is about to start. Its caller is to call running.Done.
func (l *Launcher) begin() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return errEnded
	}
	l.running.Add(1)
	return nil
}

// Wait waits until all children have ended, and lets no other one start. Close them first.
func (l *Launcher) Wait() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.running.Wait()
	l.homes.close()
}
