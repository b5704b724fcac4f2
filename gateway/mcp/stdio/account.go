package stdio

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"vault-plugin-secrets-mcp/gateway/config"
)

// errAccounts: uid_range has no free account. The range has at least as many as there
// may be children, but the account of a child that has ended stays in use until no
// process runs under it.
var errAccounts = errors.New("each account of uid_range is in use")

// accounts are those that children run under: the gateway's own, that of the setting
// user, or one of a range for each child.
type accounts struct {
	all      *syscall.Credential // of all children; nil: the gateway's own
	perChild bool                // each child has its own

	mu    sync.Mutex
	free  []uint32
	swept map[uint32]bool // no process runs under it
}

// inUse are the uids of this gateway's children. After a change of the configuration,
// children of the former one may still run.
var inUse = struct {
	sync.Mutex
	uids map[uint32]bool
}{uids: make(map[uint32]bool)}

// account is the account of one child.
type account struct {
	credential *syscall.Credential // nil: the gateway's own
	exclusive  bool                // only this child has it
	swept      bool                // no process of an earlier child runs under it
}

func newAccounts(settings *config.Stdio) (*accounts, error) {
	a := &accounts{swept: make(map[uint32]bool)}
	switch {
	case settings.UIDs.Count > 0:
		a.perChild = true
		for i := range settings.UIDs.Count {
			a.free = append(a.free, settings.UIDs.First+i)
		}
	case settings.User != "":
		credential, err := credentialOf(settings.User)
		if err != nil {
			return nil, fmt.Errorf("user: %w", err)
		}
		if int(credential.Uid) != os.Geteuid() {
			a.all = credential
		}
	}
	return a, nil
}

// acquire returns an account for a child.
func (a *accounts) acquire() (account, error) {
	if !a.perChild {
		return account{credential: a.all}, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	inUse.Lock()
	defer inUse.Unlock()
	for i, id := range a.free { // the one that was free for the longest time first
		if inUse.uids[id] {
			continue
		}
		inUse.uids[id] = true
		a.free = slices.Delete(a.free, i, i+1)
		return account{credential: &syscall.Credential{Uid: id, Gid: id}, exclusive: true, swept: a.swept[id]}, nil
	}
	return account{}, errAccounts
}

// release takes an account back. No process runs under it any more.
func (a *accounts) release(of account) {
	if !of.exclusive {
		return
	}
	id := of.credential.Uid
	a.mu.Lock()
	defer a.mu.Unlock()
	inUse.Lock()
	defer inUse.Unlock()
	delete(inUse.uids, id)
	a.swept[id] = of.swept
	a.free = append(a.free, id)
}

// credentialOf returns the account of that name or uid.
func credentialOf(name string) (*syscall.Credential, error) {
	found, err := user.Lookup(name)
	if err != nil {
		if found, err = user.LookupId(name); err != nil {
			return nil, fmt.Errorf("there is no account %q", name)
		}
	}
	groups, err := found.GroupIds()
	if err != nil {
		return nil, err
	}
	ids := make([]uint32, 0, len(groups)+2)
	for _, text := range append([]string{found.Uid, found.Gid}, groups...) {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, err
		}
		ids = append(ids, uint32(id))
	}
	return &syscall.Credential{Uid: ids[0], Gid: ids[1], Groups: ids[2:]}, nil
}
