package stdio

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/hashicorp/go-hclog"
)

// homes is the folder with the children's homes. Each gateway has its own folder in it,
// and beside that a lock file, which it locks while it runs. The next gateway removes
// the folders of gateways that were killed.
type homes struct {
	root string // no child can reach anything in it but its own home
	run  string // this gateway's folder
	log  hclog.Logger

	lock  *os.File
	close func()
}

const lockSuffix = ".lock"

// shortName returns a name for a folder. It is short because programs put sockets into
// TMPDIR, and the path of a socket has 107 bytes at most.
func shortName() string { return rand.Text()[:8] }

// defaultHomes is the folder of the homes unless the file names one: in the state
// folder of the service, or of the account.
func defaultHomes() string {
	state, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":") // systemd's
	switch xdg := os.Getenv("XDG_STATE_HOME"); {
	case state != "":
		return filepath.Join(state, "children")
	case filepath.IsAbs(xdg):
		return filepath.Join(xdg, "mcp-gateway", "children")
	case os.Geteuid() == 0:
		return "/var/lib/mcp-gateway/children"
	}
	// Not in the account's own home: the stub lists each folder on the way to the homes
	// once for each child (see enterDomain), and a server has no business there.
	return fmt.Sprintf("/var/tmp/mcp-gateway-%d/children", os.Geteuid())
}

// openHomes makes the folder, and removes the homes of gateways that were killed.
func openHomes(dir string, log hclog.Logger) (*homes, error) {
	if dir == "" {
		dir = defaultHomes()
	}
	root, err := makeRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot make the folder for the children's homes: %w: name another one with home_dir", err)
	}
	h := &homes{root: root, run: filepath.Join(root, shortName()), log: log}
	h.removeOld()
	if h.lock, err = os.OpenFile(h.run+lockSuffix, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if err = syscall.Flock(int(h.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		err = makeOpen(h.run)
	}
	if err != nil {
		return nil, errors.Join(err, h.lock.Close(), os.Remove(h.run+lockSuffix))
	}
	h.close = sync.OnceFunc(h.remove)
	return h, nil
}

// makeRoot makes a folder that only this account can change. It returns its path
// without symbolic links.
func makeRoot(dir string) (string, error) {
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(filepath.Dir(parent), 0o755); err != nil { //nolint:gosec // so that children of other accounts reach their homes
		return "", err
	}
	for _, path := range []string{parent, dir} {
		err := makeOpen(path)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	for _, path := range []string{root, filepath.Dir(root)} {
		info, err := os.Lstat(path)
		if err != nil {
			return "", err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		ours := ok && (int(stat.Uid) == os.Geteuid() || stat.Uid == 0 && path != root)
		closed := info.Mode().Perm()&0o022 == 0 || info.Mode()&os.ModeSticky != 0 && path != root
		if !info.IsDir() || !ours || !closed {
			return "", fmt.Errorf("%s is not a folder that only this account can change", path)
		}
	}
	return root, nil
}

// makeOpen makes a folder that other accounts can pass through but not list, with any
// umask.
func makeOpen(path string) error {
	if err := os.Mkdir(path, 0o711); err != nil { //nolint:gosec // so that children of other accounts reach their homes
		return err
	}
	return os.Chmod(path, 0o711) //nolint:gosec // so that children of other accounts reach their homes
}

// removeOld removes the homes of gateways that were killed.
func (h *homes) removeOld() {
	locks, _ := filepath.Glob(filepath.Join(h.root, "*"+lockSuffix))
	for _, path := range locks {
		lock, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			err = removeAll(strings.TrimSuffix(path, lockSuffix))
			if err == nil {
				err = os.Remove(path)
			}
			if err != nil {
				h.log.Warn("cannot remove the homes of an earlier gateway's children", "error", err)
			}
		}
		_ = lock.Close()
	}
}

// filesFolder is the folder of a child's files in its home.
const filesFolder = ".files"

// filePath is the path of a child's file.
func filePath(home, name string) string { return filepath.Join(home, filesFolder, name) }

// make makes a home for a child of the account, with files in it.
func (h *homes) make(of account, files map[string]string) (string, error) {
	home := filepath.Join(h.run, shortName())
	if err := os.Mkdir(home, 0o700); err != nil {
		return "", err
	}
	made, err := fill(home, files)
	if c := of.credential; c != nil {
		for _, path := range slices.Backward(append([]string{home}, made...)) { // the home last: then it is the child's
			if err == nil {
				err = os.Lchown(path, int(c.Uid), int(c.Gid))
			}
		}
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(home))
	}
	return home, nil
}

// fill makes what is in a home, and returns the paths of that, folders first.
func fill(home string, files map[string]string) (made []string, err error) {
	folders := []string{filepath.Join(home, "tmp")}
	if len(files) > 0 {
		folders = append(folders, filepath.Join(home, filesFolder))
	}
	for _, path := range folders {
		if err := os.Mkdir(path, 0o700); err != nil {
			return made, err
		}
		made = append(made, path)
	}
	for name, content := range files {
		path := filePath(home, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return made, err
		}
		made = append(made, path)
	}
	return made, nil
}

// removeAll removes a folder, with write-protected folders in it, as caches of packages
// have.
func removeAll(path string) error {
	if os.RemoveAll(path) == nil {
		return nil
	}
	_ = filepath.WalkDir(path, func(path string, entry fs.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(path, 0o700) //nolint:gosec // a folder, about to be removed
		}
		return nil
	})
	return os.RemoveAll(path)
}

// remove removes this gateway's folder and lock.
func (h *homes) remove() {
	err := errors.Join(removeAll(h.run), os.Remove(h.run+lockSuffix), h.lock.Close())
	if err != nil {
		h.log.Warn("cannot remove the children's homes", "error", err)
	}
}
