package mcp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/taskids"
	"vault-plugin-secrets-mcp/gateway/mcp/session"
	"vault-plugin-secrets-mcp/gateway/seal"
)

// Whoever has the id of a task can read its result, answer its questions and end it. Most
// servers cannot tell one client of the gateway from another, so they cannot protect a
// task from other clients. Hence a client does not get the server's id. It gets that id and
// the called tool's name, sealed for its principal and the server's registration, as a
// session id is. Any gateway of the mount opens it, for the same client alone.

// Bounds of an id, in bytes: of the server's with the tool's name, and of the sealed one.
const (
	maxTaskID     = 4 << 10
	maxSealedTask = 6 << 10
)

// Why an id is not opened or sealed.
var (
	errTask     = errors.New("no such task")
	errTaskSize = fmt.Errorf("the id of a task is longer than %d bytes with the tool's name", maxTaskID)
)

// taskIDs seals and opens the ids of tasks. Any goroutine may use it.
type taskIDs struct {
	sealer  *seal.Sealer
	refresh func(context.Context) error // of the keys
	known   *taskTable
}

func newTaskIDs(registry Registry) *taskIDs {
	return &taskIDs{sealer: seal.New(registry.SessionKeys), refresh: registry.RefreshSessionKeys, known: newTaskTable()}
}

// open returns the server's id for the one that the client has sent, and the tool that has
// created the task. The error is errTask if there is no such task for this owner.
func (t *taskIDs) open(ctx context.Context, owner session.Owner, text string) (id, tool string, err error) {
	if len(text) > maxSealedTask {
		return "", "", errTask
	}
	plain, err := seal.WithNewerKey(ctx, t.refresh, func() ([]byte, error) {
		return t.sealer.Open(seal.Task, boundTo(owner), text)
	})
	if errors.Is(err, seal.ErrNotValid) {
		return "", "", errTask
	}
	if err != nil {
		return "", "", err
	}
	size, n := binary.Uvarint(plain)
	if n <= 0 || size > uint64(len(plain)-n) { //nolint:gosec // n is at most the length
		return "", "", errTask
	}
	plain = plain[n:]
	tool, id = string(plain[:size]), string(plain[size:])
	t.known.note(owner, id, clientTask{text, tool})
	return id, tool, nil
}

// created seals the id of a task that the owner's call of the tool has created.
func (t *taskIDs) created(owner session.Owner, id, tool string) (clientTask, error) {
	if len(id)+len(tool) > maxTaskID {
		return clientTask{}, errTaskSize
	}
	plain := binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen16+len(tool)+len(id)), uint64(len(tool)))
	plain = append(append(plain, tool...), id...)
	text, err := t.sealer.Seal(seal.Task, boundTo(owner), plain)
	if err != nil {
		return clientTask{}, err
	}
	task := clientTask{text, tool}
	t.known.note(owner, id, task)
	return task, nil
}

// replace returns what replaces the ids in the answer to the owner's request. tool is what
// the request calls, if it calls one. allows reports whether the client may still call a
// tool.
func (t *taskIDs) replace(owner session.Owner, tool string, allows func(tool string) bool) taskids.Replace {
	return func(id string, created bool) (string, bool, error) {
		task, ok := t.known.find(owner, id)
		if !ok && created {
			var err error
			if task, err = t.created(owner, id, tool); err != nil {
				return "", false, err
			}
			ok = true
		}
		return task.text, ok && allows(task.tool), nil
	}
}

// boundTo is what an id is sealed with: the owner.
func boundTo(owner session.Owner) []byte {
	bound := owner.Principal.AppendTo(make([]byte, 0, 128))
	bound = binary.BigEndian.AppendUint32(bound, uint32(len(owner.ServerID))) //nolint:gosec // an id of the engine's
	return append(bound, owner.ServerID...)
}

// ownerOf is the owner of what the request's client has at its server.
func (x *exchange) ownerOf() session.Owner {
	return session.Owner{Principal: x.request.Grant.Principal(), ServerID: x.server.ID}
}
