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

// Landlock keeps a process that is in a domain from tracing those that are in none, or
// in another, and with that from reading their memory and their environment, under the
// same account and as root. Its rules about files let each child have its own home
// alone. What a child starts is in its domain, and cannot leave it.
//
// https://docs.kernel.org/userspace-api/landlock.html

// Versions of Landlock, and what came with them.
const (
	landlockRefer    = 2 // files may be moved between folders (Linux 5.19): the least that is of use
	landlockTruncate = 3
	landlockNet      = 4
	landlockIoctl    = 5
	landlockScopes   = 6 // signals and abstract sockets (Linux 6.12)
)

// Rights to files, and those that make sense for one that is not a folder.
const (
	rightsOfFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	rightsOfFolders = unix.LANDLOCK_ACCESS_FS_READ_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER
)

// landlockVersion is the kernel's; 0 if it has none.
func landlockVersion() int {
	version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(version)
}

// domainsSupported is nil where a child can have a domain of its own.
func domainsSupported() error {
	if landlockVersion() < landlockRefer {
		return errors.New("this needs Landlock, in Linux 5.19 or newer, among the security modules that the kernel was started with (/sys/kernel/security/lsm)")
	}
	return nil
}

// rightsAt are the rights that this version of Landlock knows.
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

// enterDomain has the thread, and what it becomes and starts, enter a domain. All files
// are in it but what is in homes, and the home. Landlock knows no exceptions: so what
// is allowed is all that stands beside the folders on the way to homes.
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

// allowBeside allows what stands beside a path.
func allowBeside(ruleset int, path string, rights uint64) error {
	folder := filepath.Dir(path)
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrPermission) {
		return nil // nor may the child
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

// allow allows a file, or a folder with all that is in it.
func allow(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
		return nil // gone meanwhile, or not the child's in any case
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
		return nil // what it leads to counts
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
