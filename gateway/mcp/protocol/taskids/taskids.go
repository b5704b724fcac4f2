// Package taskids replaces the ids of tasks in the messages of servers.
//
// It finds them by the message's shape, and not by the request that it answers. So it
// works on any of the protocol's streams, and after any number of reconnections. It knows
// the tasks of 2025-11-25 and those of the extension of 2026-07-28. It keeps all bytes but
// those of the ids, and of what a client must not get.
//
// https://modelcontextprotocol.io/specification/2025-11-25/basic/utilities/tasks
// https://modelcontextprotocol.io/extensions/tasks/overview
package taskids

import (
	"bytes"
	"errors"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// Replace returns the id that the client knows for a server's. created tells that the
// message is the answer to the call that has created the task. ok is false for a task that
// is not known to be the client's.
type Replace func(id string, created bool) (text string, ok bool, err error)

// errID: the id of a task has half a surrogate pair, or is a string of another kind.
var errID = errors.New("the id of a task could be read in two ways")

// Answer returns the server's message with the ids of tasks replaced. Of tasks that are not
// known to be the client's, it drops what tells about them: entries of a list, and
// notifications, for which it returns nil. Where only an id stands, it leaves that: an id
// of the server's own is of no use to a client.
//
// An error means that the caller must not forward the message.
func Answer(message []byte, replace Replace) ([]byte, error) {
	if !bytes.Contains(message, []byte("taskId")) {
		return message, nil
	}
	scanner, err := jsonscan.New(message)
	if err != nil {
		return nil, err
	}
	r := reader{Scanner: scanner, message: message, replace: replace}
	if err := r.read(); err != nil {
		return nil, err
	}
	switch {
	case r.drop:
		return nil, nil
	case len(r.parts) == 0:
		return message, nil
	}
	return jsonscan.Replace(make([]byte, 0, len(message)+len(r.parts)*typicalGrowth), message, r.parts...), nil
}

// typicalGrowth is about how much longer an id becomes.
const typicalGrowth = 128

// reader is one run over one message.
type reader struct {
	jsonscan.Scanner
	message []byte
	replace Replace
	parts   []jsonscan.Part
	drop    bool // the client does not get the message
}

// Keys of the members that matter, in the order of the cases below.
var (
	messageKeys = []string{"id", "method", "params", "result"}
	resultKeys  = []string{"taskId", "resultType", "task", "tasks", "_meta"}
	paramsKeys  = []string{"taskId", "notifications", "_meta"}
	listenKeys  = []string{"taskIds"}
	idKeys      = []string{"taskId"}
	metaKeys    = []string{protocol.MetaRelatedTask}
)

func (r *reader) read() error {
	var id, method, params jsonscan.Span
	err := r.Members(messageKeys, func(key int) (err error) {
		switch key {
		case 0:
			id, err = r.Value()
		case 1:
			method, err = r.Value()
		case 2:
			params, err = r.Value()
		default:
			err = r.result()
		}
		return err
	})
	if err == nil {
		err = r.End()
	}
	if err != nil || method.None() || params.None() {
		return err
	}
	of := *r
	of.Scanner = r.At(params)
	err = of.params(id.None(), textOf(method.Of(r.message)))
	r.parts, r.drop = of.parts, of.drop
	return err
}

// result reads a result. Its members may come in any order.
func (r *reader) result() error {
	var id, kind, task jsonscan.Span
	err := r.MembersIfAny(resultKeys, func(key int) (err error) {
		switch key {
		case 0:
			id, err = r.Value()
		case 1:
			kind, err = r.Value()
		case 2:
			task, err = r.Value()
		case 3:
			err = r.list()
		default:
			err = r.meta()
		}
		return err
	})
	if err != nil {
		return err
	}
	if !id.None() {
		if _, err := r.put(id, textOf(kind.Of(r.message)) == "task"); err != nil {
			return err
		}
	}
	if task.None() {
		return nil
	}
	of := *r
	of.Scanner = r.At(task)
	err = of.MembersIfAny(idKeys, func(int) error {
		at, err := of.Value()
		if err == nil {
			_, err = of.put(at, true)
		}
		return err
	})
	r.parts = of.parts
	return err
}

// params reads the params of a notification, or of a server's request. The tasks that a
// server asks its client about are the client's own.
func (r *reader) params(notifies bool, method string) error {
	return r.MembersIfAny(paramsKeys, func(key int) error {
		at, err := r.Value()
		switch {
		case err != nil:
			return err
		case key == 0 && notifies && (method == protocol.MethodTaskChanged || method == protocol.MethodTaskStatus):
			known, err := r.put(at, false)
			r.drop = r.drop || !known
			return err
		case key == 1 && notifies && method == protocol.MethodAcknowledged:
			return r.within(at, func(of *reader) error {
				return of.MembersIfAny(listenKeys, func(int) error { return of.strings() })
			})
		case key == 2:
			return r.within(at, (*reader).meta)
		}
		return nil
	})
}

// within reads a value that this reader has stepped over.
func (r *reader) within(at jsonscan.Span, read func(*reader) error) error {
	of := *r
	of.Scanner = r.At(at)
	err := read(&of)
	r.parts = of.parts
	return err
}

// meta reads _meta, which may name the task that the message belongs to. Others than the
// protocol's authors use that member, too: a key that only resembles the protocol's is
// another one.
func (r *reader) meta() error {
	if r.Peek() != '{' {
		return r.Skip()
	}
	_, err := r.MembersAnyway(metaKeys, func(int) error {
		return r.MembersIfAny(idKeys, func(int) error {
			at, err := r.Value()
			if err == nil {
				_, err = r.put(at, false)
			}
			return err
		})
	})
	return err
}

// list reads a list of tasks, and cuts out those that are not known to be the client's.
func (r *reader) list() error {
	if r.Peek() != '[' {
		return r.Skip()
	}
	return r.filter(func(of *reader) (keep bool, err error) {
		if of.Peek() != '{' {
			return false, of.Skip()
		}
		certain, err := of.MembersAnyway(idKeys, func(int) error {
			at, err := of.Value()
			if err == nil {
				keep, err = of.put(at, false)
			}
			return err
		})
		return keep && certain, err
	})
}

// strings reads a list of ids, and cuts out those of other tasks.
func (r *reader) strings() error {
	if r.Peek() != '[' {
		return r.Skip()
	}
	return r.filter(func(of *reader) (bool, error) {
		at, err := of.Value()
		if err != nil {
			return false, err
		}
		return of.put(at, false)
	})
}

// filter reads an array, and writes it anew with the elements that are kept.
func (r *reader) filter(element func(of *reader) (keep bool, err error)) error {
	if err := r.Enter('['); err != nil {
		return err
	}
	whole := jsonscan.Span{Start: r.Pos()}
	var kept []byte
	for first := true; ; first = false {
		more, err := r.Element(first)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		of, start := *r, r.Pos()
		of.parts = nil
		keep, err := element(&of)
		if err != nil {
			return err
		}
		r.Scanner = of.Scanner
		if !keep {
			continue
		}
		if len(kept) > 0 {
			kept = append(kept, ',')
		}
		for i := range of.parts {
			of.parts[i].Start, of.parts[i].End = of.parts[i].Start-start, of.parts[i].End-start
		}
		kept = jsonscan.Replace(kept, r.message[start:r.Pos()], of.parts...)
	}
	whole.End = r.Pos() - len("]")
	r.parts = append(r.parts, jsonscan.Part{Span: whole, Text: kept})
	return nil
}

// put replaces the id at that place, and reports whether the task is known to be the
// client's. What is no string is no id.
func (r *reader) put(at jsonscan.Span, created bool) (known bool, err error) {
	raw := at.Of(r.message)
	if len(raw) == 0 || raw[0] != '"' {
		return false, nil
	}
	id := textOf(raw)
	if id == "" && len(raw) > len(`""`) {
		return false, errID
	}
	text, ok, err := r.replace(id, created)
	if ok && err == nil {
		r.parts = append(r.parts, jsonscan.Part{Span: at, Text: protocol.AppendString(nil, text)})
	}
	return ok, err
}

// textOf returns the value of a JSON string; "" if it is another value, or has half a
// surrogate pair.
func textOf(raw []byte) string {
	if len(raw) == 0 || raw[0] != '"' {
		return ""
	}
	scanner, err := jsonscan.New(raw)
	if err != nil {
		return ""
	}
	value, err := scanner.String()
	if err != nil {
		return ""
	}
	text, err := value.Bytes()
	if err != nil {
		return ""
	}
	return string(text)
}
