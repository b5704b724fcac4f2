package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/taskids"
	"vault-plugin-secrets-mcp/gateway/mcp/serverside"
)

// reasonTask is the reason of refusals of tasks that are not the client's.
const reasonTask = "unknown-task"

// openTasks puts the server's ids of tasks into the message, and refuses a message about a
// task that is not the client's. An id that only says which task a response or a
// notification belongs to may be one that the client has given to a task of its own: it
// stays if it is no task of the server's.
func (x *exchange) openTasks(ctx context.Context, tasks *taskIDs) *access.Refusal {
	if x.body == nil {
		return nil
	}
	switch method := x.message.Method; {
	case strings.HasPrefix(method, protocol.PrefixTasks):
		if f := x.openTask(ctx, tasks); f != nil {
			return f
		}
	case method == protocol.MethodListen:
		if f := x.openListened(ctx, tasks); f != nil {
			return f
		}
	}
	if x.message.RelatedTask.None() {
		return nil
	}
	at, err := memberOf(x.body.data, x.message.RelatedTask, "taskId")
	if err == nil && at.None() {
		return nil
	}
	if err == nil {
		_, _, err = x.openAt(ctx, tasks, at)
	}
	if errors.Is(err, errTask) && x.message.Kind != envelope.Request {
		return nil
	}
	return x.taskRefusal(err)
}

// openTask opens the id of a message about a task. The era without sessions has no list of
// tasks, and gives their results with their status.
func (x *exchange) openTask(ctx context.Context, tasks *taskIDs) *access.Refusal {
	if method := x.message.Method; method == protocol.MethodTasksList || method == protocol.MethodTasksResult {
		if x.stateless {
			f := serverside.BadRequest(x.id(), http.StatusNotFound, "This method is of versions with sessions.")
			f.Code = protocol.CodeMethodNotFound
			return f
		}
		if method == protocol.MethodTasksList {
			return nil
		}
	}
	if x.message.TaskID.None() {
		return x.taskRefusal(errTask)
	}
	id, tool, err := x.openAt(ctx, tasks, x.message.TaskID)
	if err != nil {
		return x.taskRefusal(err)
	}
	if tool != "" { // the request, which may wait for the result, ends if the tool is denied
		if f := x.request.Uses(x.grant, policy.Tool, tool); f != nil {
			return x.unknownTask()
		}
	}
	x.message.Name = id
	if x.header[protocol.HeaderName] != nil {
		x.header = x.header.Clone()
		x.header[protocol.HeaderName] = []string{envelope.EncodeName(id)}
	}
	return nil
}

// openAt opens the id at that place of the message.
func (x *exchange) openAt(ctx context.Context, tasks *taskIDs, at envelope.Span) (id, tool string, err error) {
	text, ok := textAt(x.body.data, at)
	if !ok {
		return "", "", errTask
	}
	if id, tool, err = x.openID(ctx, tasks, text); err != nil {
		return "", "", err
	}
	return id, tool, x.replace(envelope.Part{Span: at, Text: protocol.AppendString(nil, id)})
}

// openID opens an id. A task is gone with the right to call the tool that has created it.
func (x *exchange) openID(ctx context.Context, tasks *taskIDs, text string) (id, tool string, err error) {
	id, tool, err = tasks.open(ctx, x.ownerOf(), text)
	if err == nil && !x.mayCall(tool) {
		return "", "", errTask
	}
	if err == nil && tool != "" {
		x.request.NameItem(policy.Tool, access.AuditedName(policy.Tool, tool))
	}
	return id, tool, err
}

// mayCall reports whether the client's rules let it call the tool. A tool that is not known, "", may
// be a denied one.
func (x *exchange) mayCall(tool string) bool {
	return x.rules == nil || x.rules.Tools == nil || tool != "" && x.rules.Tools.Allows(tool)
}

// openListened opens the ids of those tasks of which the client wants to hear, and leaves
// out those that are not its own.
func (x *exchange) openListened(ctx context.Context, tasks *taskIDs) *access.Refusal {
	wanted, err := memberOf(x.body.data, x.message.Params, "notifications")
	if err != nil || wanted.None() || !isObject(wanted.Of(x.body.data)) {
		return x.taskRefusal(err)
	}
	at, err := memberOf(x.body.data, wanted, "taskIds")
	if err != nil || at.None() {
		return x.taskRefusal(err)
	}
	var texts []json.RawMessage
	if json.Unmarshal(at.Of(x.body.data), &texts) != nil {
		return x.taskRefusal(errTask)
	}
	ids := []string{}
	for _, raw := range texts {
		text, ok := textAt(raw, envelope.Span{Start: 0, End: len(raw)})
		if !ok {
			continue
		}
		id, _, err := x.openID(ctx, tasks, text)
		if errors.Is(err, errTask) {
			continue
		}
		if err != nil {
			return x.taskRefusal(err)
		}
		ids = append(ids, id)
	}
	return x.taskRefusal(x.replace(envelope.Part{Span: at, Text: protocol.Strings(ids)}))
}

// taskRefusal is the answer where an id was not opened; nil without an error.
func (x *exchange) taskRefusal(err error) *access.Refusal {
	full := new(access.Refusal)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &full):
		return full
	case errors.Is(err, errTask):
		return x.unknownTask()
	case errors.Is(err, jsonscan.ErrAmbiguous):
		return x.malformed(&envelope.Error{Code: protocol.CodeInvalidRequest, Reason: "params name a task, and could be read in two ways", ID: x.message.ID})
	}
	f := x.noSession(err)
	f.Message = "The gateway cannot serve tasks at the moment."
	return f
}

// unknownTask is the answer about a task that is not the client's. It is the same whether
// there is such a task or not.
func (x *exchange) unknownTask() *access.Refusal {
	f := &access.Refusal{
		Status: http.StatusOK, Reason: reasonTask, RPCID: x.id(),
		Code: protocol.CodeInvalidParams, Message: serverside.MessageNoTask,
	}
	if x.stateless && !serverside.DeclaresTasks(x.body.data, x.message.Params) {
		f = serverside.NeedsTasks(x.id())
	}
	if x.message.Kind == envelope.Notification {
		f.Status = http.StatusAccepted // nobody waits for an answer
	}
	return f
}

// replace replaces a part of the message. The error is a refusal if there is no room.
func (x *exchange) replace(part envelope.Part) error {
	old := x.body.data
	size := int64(len(old) + len(part.Text))
	b := &buffer{}
	if size > smallMessage {
		size = bufferSize(size)
		if err := x.request.Reserve(size); err != nil {
			return err
		}
		b = newBuffer(size)
	}
	b.data = envelope.Replace(b.data, old, part)
	x.message = x.message.Edited(part)
	x.release()
	x.body, x.borrowed = b, false
	return nil
}

// mayNameTasks reports whether the answer may have ids of tasks: those to messages about
// tasks, streams of what the server says of its own accord, and calls that may create
// tasks. Where a call hides that it may, only its own client has a task that it cannot
// name.
func (x *exchange) mayNameTasks() bool {
	switch method := x.message.Method; {
	case x.method == http.MethodGet:
		return protocol.First(x.header, protocol.HeaderSession) != "" // without a session, a server knows no tasks of the client's
	case method == protocol.MethodListen, strings.HasPrefix(method, protocol.PrefixTasks):
		return true
	case method != protocol.MethodToolsCall:
		return false
	}
	capabilities := x.message.Capabilities.Of(x.body.data)
	return x.message.AsksTask || bytes.Contains(capabilities, []byte(protocol.ExtensionTasks)) && serverside.DeclaresTasks(x.body.data, x.message.Params)
}

// sealTasks puts the client's ids of tasks into a server's message. Nil means that the
// client does not get the message.
func (a *Answer) sealTasks(message []byte) ([]byte, error) {
	if !a.tasks {
		return message, nil
	}
	tool := ""
	if a.message.Method == protocol.MethodToolsCall {
		tool = a.message.Name
	}
	return taskids.Answer(message, a.handler.tasks.replace(a.ownerOf(), tool, a.mayCall))
}

// memberOf returns the place of an object's member; none if the object does not have it.
func memberOf(message []byte, object envelope.Span, key string) (at envelope.Span, err error) {
	if object.None() {
		return at, nil
	}
	text := object.Of(message)
	scanner, err := jsonscan.New(text)
	if err != nil {
		return at, err
	}
	err = scanner.MembersIfAny([]string{key}, func(int) (err error) {
		at, err = scanner.Value()
		return err
	})
	if !at.None() {
		at.Start, at.End = object.Start+at.Start, object.Start+at.End
	}
	return at, err
}

// textAt returns the value of the string at that place.
func textAt(message []byte, at envelope.Span) (text string, ok bool) {
	scanner, err := jsonscan.New(at.Of(message))
	if err != nil || scanner.Peek() != '"' {
		return "", false
	}
	value, err := scanner.String()
	if err != nil {
		return "", false
	}
	raw, err := value.Bytes()
	return string(raw), err == nil
}

func isObject(raw []byte) bool { return len(raw) > 0 && raw[0] == '{' }
