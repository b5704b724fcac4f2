package mcp

import (
	"container/list"
	"sync"

	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/session"
)

// Bounds of the table of tasks, in bytes: of all, and of one principal.
const (
	maxTaskTable     = 32 << 20
	maxTasksOfClient = 512 << 10
)

// taskTable knows which tasks of servers are whose: those that a principal has created or
// named at this gateway. A list or a notification of a server says nothing about that,
// since to the server all clients may be the gateway. At its bounds the table forgets those
// that were not used for the longest time. A client reaches such a task as before, by the
// id that it has.
type taskTable struct {
	most, mostEach int

	mu    sync.Mutex
	bytes int
	byID  map[taskKey]*knownTask
	order *list.List // of *knownTask, the last used first
	of    map[grants.Principal]*taskShare
}

// taskShare are one principal's tasks.
type taskShare struct {
	bytes int
	order *list.List
}

type taskKey struct {
	owner session.Owner
	id    string // the server's
}

// clientTask is a task as its client knows it.
type clientTask struct {
	text string // the sealed id
	tool string // that was called; "" if that is not known
}

type knownTask struct {
	clientTask
	key       taskKey
	all, mine *list.Element
}

func newTaskTable() *taskTable {
	return &taskTable{
		most: maxTaskTable, mostEach: maxTasksOfClient,
		byID: make(map[taskKey]*knownTask), order: list.New(), of: make(map[grants.Principal]*taskShare),
	}
}

// find returns the owner's task, if it is known to be the owner's.
func (t *taskTable) find(owner session.Owner, id string) (clientTask, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.byID[taskKey{owner, id}]
	if known == nil {
		return clientTask{}, false
	}
	t.order.MoveToFront(known.all)
	t.of[owner.Principal].order.MoveToFront(known.mine)
	return known.clientTask, true
}

// note notes that the task is the owner's. The client goes on to hear the id that it has
// used last.
func (t *taskTable) note(owner session.Owner, id string, task clientTask) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := taskKey{owner, id}
	if known := t.byID[key]; known != nil {
		t.drop(known)
	}
	share := t.of[owner.Principal]
	if share == nil {
		share = &taskShare{order: list.New()}
		t.of[owner.Principal] = share
	}
	known := &knownTask{clientTask: task, key: key}
	known.all, known.mine = t.order.PushFront(known), share.order.PushFront(known)
	t.byID[key] = known
	t.bytes, share.bytes = t.bytes+known.size(), share.bytes+known.size()
	for share.bytes > t.mostEach {
		t.drop(share.order.Back().Value.(*knownTask))
	}
	for t.bytes > t.most {
		t.drop(t.order.Back().Value.(*knownTask))
	}
}

// drop forgets a task. t.mu is held.
func (t *taskTable) drop(known *knownTask) {
	principal := known.key.owner.Principal
	share := t.of[principal]
	share.order.Remove(known.mine)
	t.order.Remove(known.all)
	delete(t.byID, known.key)
	t.bytes, share.bytes = t.bytes-known.size(), share.bytes-known.size()
	if share.order.Len() == 0 {
		delete(t.of, principal)
	}
}

// size is about how much memory the task takes, in bytes.
func (k *knownTask) size() int {
	const fixed = 512
	return fixed + len(k.key.id) + len(k.text) + len(k.tool)
}
