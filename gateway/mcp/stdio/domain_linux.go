package stdio

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A process in a Landlock domain cannot trace processes outside of the domain, so it
// cannot read their memory and their environment. This holds under one account, and for
// root. Landlock's rules about files give each child its own home only. Processes that
// a child starts are in its domain, and cannot leave it.
//
// https://docs.kernel.org/userspace-api/landlock.html

// Versions of Landlock, and the features that they brought.
const (
	landlockRefer    = 2 // files may be moved between folders (Linux 5.19): the oldest that is of use
	landlockTruncate = 3
	landlockNet      = 4
	landlockIoctl    = 5
	landlockScopes   = 6 // signals and abstract sockets (Linux 6.12)
)

// Rights to files, and rights that only folders have.
const (
	rightsOfFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	rightsOfFolders = unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER
)

// landlockVersion is the kernel's version of Landlock; 0 without Landlock.
func landlockVersion() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// domainsSupported is nil where a child can have its own domain.
func domainsSupported() error {
	if landlockVersion() < landlockRefer {
		return errors.New("this needs Landlock, in Linux 5.19 or newer, among the security modules that the kernel was started with (/sys/kernel/security/lsm)")
	}
	return nil
}

// rightsAt returns the rights that this version of Landlock knows.
func rightsAt(version int) uint64 {
	rights := uint64(rightsOfFiles | rightsOfFolders)
	if version < landlockTruncate {
		rights &^= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if version < landlockIoctl {
		rights &^= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	return rights
}

// enterDomain puts the thread, and the program that it becomes, into a domain. The
// domain allows all files outside of homes, and those in home. Landlock has no rule for
// an exception. So enterDomain allows everything beside the folders on the way to homes.
func enterDomain(home, homes string) error {
	version := landlockVersion()
	attributes := unix.LandlockRulesetAttr{Handled_access_fs: rightsAt(version)}
	size := unsafe.Sizeof(attributes.Handled_access_fs)
	if version >= landlockNet {
		size += unsafe.Sizeof(attributes.Handled_access_net)
	}
	if version >= landlockScopes {
		size += unsafe.Sizeof(attributes.Scoped)
		attributes.Scoped = unix.LANDLOCK_SCOPE_SIGNAL | unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attributes)), size, 0) //nolint:gosec // the kernel wants a pointer
	if errno != 0 {
		return failed("cannot make a domain", errno)
	}
	fd := int(ruleset)
	defer unix.Close(fd)
	if err := allow(fd, home, attributes.Handled_access_fs); err != nil {
		return err
	}
	for below := homes; below != "/"; below = filepath.Dir(below) {
		if err := allowBeside(fd, below, attributes.Handled_access_fs); err != nil {
			return err
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return failed("cannot enter a domain", errno)
	}
	return nil
}

// allowBeside allows the files and folders beside a path.
func allowBeside(ruleset int, path string, rights uint64) error {
	folder := filepath.Dir(path)
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrPermission) {
		return nil // the child may not read it either
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if beside := filepath.Join(folder, entry.Name()); beside != path {
			if err := allow(ruleset, beside, rights); err != nil {
				return err
			}
		}
	}
	return nil
}

// allow allows a file, or a folder with its contents.
func allow(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
		return nil // gone meanwhile, or closed to the child anyway
	}
	if err != nil {
		return failed(path, err)
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return failed(path, err)
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return nil // the rules for its target count
	case unix.S_IFDIR:
	default:
		rights &= rightsOfFiles
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}                                                           //nolint:gosec // a file descriptor
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), landlockRulePathBeneath, uintptr(unsafe.Pointer(&rule)), 0, 0, 0) //nolint:gosec // the kernel wants a pointer
	if errno != 0 {
		return failed(fmt.Sprintf("cannot allow %s", path), errno)
	}
	return nil
}

const landlockRulePathBeneath = 1
