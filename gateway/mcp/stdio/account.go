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

// errAccounts: uid_range has no account left. The configuration has at least as many
// as there may be children, and one that has ended keeps its own until nothing runs
// under it any more.
var errAccounts = errors.New("each account of uid_range is in use")

// accounts are whom children run as: the gateway's own account, that of the setting
// user, or each one of a range.
type accounts struct {
	all  *syscall.Credential // of every child; nil: the gateway's own
	each bool                // each child has one of its own

	mu    sync.Mutex
	free  []uint32
	swept map[uint32]bool // nothing runs under it
}

// lent are the uids that children of this gateway have. After a change of the
// configuration those of the one before may still run.
var lent = struct {
	sync.Mutex
	uids map[uint32]bool
}{uids: make(map[uint32]bool)}

// account is whom one child runs as.
type account struct {
	credential *syscall.Credential // nil: the gateway's own
	only       bool                // it is this child's alone
	swept      bool                // nothing can be left of whoever had it before
}

func newAccounts(settings *config.Stdio) (*accounts, error) {
	a := &accounts{swept: make(map[uint32]bool)}
	switch {
	case settings.UIDs.Count > 0:
		a.each = true
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

// take returns an account for a child.
func (a *accounts) take() (account, error) {
	if !a.each {
		return account{credential: a.all}, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	lent.Lock()
	defer lent.Unlock()
	for i, id := range a.free { // the one that was unused for the longest time first
		if lent.uids[id] {
			continue
		}
		lent.uids[id] = true
		a.free = slices.Delete(a.free, i, i+1)
		return account{credential: &syscall.Credential{Uid: id, Gid: id}, only: true, swept: a.swept[id]}, nil
	}
	return account{}, errAccounts
}

// give takes an account back under which nothing runs any more.
func (a *accounts) give(of account) {
	if !of.only {
		return
	}
	id := of.credential.Uid
	a.mu.Lock()
	defer a.mu.Unlock()
	lent.Lock()
	defer lent.Unlock()
	delete(lent.uids, id)
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
