// Package stdio runs MCP servers that are child processes of the gateway.
//
// A child is started only if the gateway's own file allows its command: what
// the registry says comes over an API, and an API must not become a way to run
// programs. It gets a clean environment, none of the gateway's files, a session
// and process group of its own, and another user where that is configured. When
// it ends, or is ended, everything in its process group ends with it.
package stdio

import (
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/gateway/broker"
	"vault-plugin-secrets-mcp/gateway/config"
)

// searchPath is the PATH of children whose registration sets none.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Launcher starts children. It may be used from any goroutine.
type Launcher struct {
	program    func(command string) (path string, err error)
	stop       time.Duration
	credential *syscall.Credential // nil: the gateway's own
	home       string
	log        hclog.Logger
	spawn      func(func() error) error
	patience   time.Duration // how long a child may leave a message unread

	running sync.WaitGroup
}

// NewLauncher checks the settings. It also closes this process's memory and
// environment to other processes of the same user, children among them.
func NewLauncher(settings *config.Stdio, log hclog.Logger) (*Launcher, error) {
	l := &Launcher{
		program: settings.Program,
		stop:    settings.StopTimeout,
		home:    "/",
		log:     log,
		spawn:   spawner(),

		patience: sendTimeout,
	}
	if settings.User != "" {
		if err := l.setUser(settings.User); err != nil {
			return nil, fmt.Errorf("stdio: user: %w", err)
		}
	}
	if err := hide(); err != nil {
		return nil, fmt.Errorf("stdio: cannot hide the gateway's memory from its children: %w", err)
	}
	return l, nil
}

// setUser has children run as the account, given by name or uid.
func (l *Launcher) setUser(name string) error {
	account, err := user.Lookup(name)
	if err != nil {
		if account, err = user.LookupId(name); err != nil {
			return fmt.Errorf("there is no account %q", name)
		}
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return err
	}
	groups, err := account.GroupIds()
	if err != nil {
		return err
	}
	c := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, group := range groups {
		id, err := strconv.ParseUint(group, 10, 32)
		if err != nil {
			return err
		}
		c.Groups = append(c.Groups, uint32(id))
	}
	if info, err := os.Stat(account.HomeDir); err == nil && info.IsDir() {
		l.home = account.HomeDir
	}
	if int(c.Uid) != os.Geteuid() {
		l.credential = c
	}
	return nil
}

// Check says why the registered server must not be started.
func (l *Launcher) Check(server *broker.Server) error {
	if _, err := l.program(server.Command); err != nil {
		return err
	}
	for name := range server.Env {
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			return fmt.Errorf("env: %q is no name of a variable", name)
		case strings.HasPrefix(name, "LD_"), strings.HasPrefix(name, "DYLD_"):
			return fmt.Errorf("env: %s would have the system's loader run other code than the command's", name)
		}
	}
	return nil
}

// environment is the child's: what the registration says, and the least that
// programs expect.
func (l *Launcher) environment(server *broker.Server) []string {
	env := map[string]string{"PATH": searchPath, "HOME": l.home, "LANG": "C.UTF-8"}
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

// Wait waits until all children have ended, which they must have been told to.
func (l *Launcher) Wait() { l.running.Wait() }
