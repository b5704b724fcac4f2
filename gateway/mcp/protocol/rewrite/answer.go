package rewrite

import (
	"bytes"
	"slices"
	"strconv"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// Keys of members that may name a resource or a task, in the order of the cases below.
var (
	messageKeys  = []string{"result", "error", "method", "params"}
	resultKeys   = []string{"content", "contents", "messages", "_meta", "taskId", "task", "result"}
	promptKeys   = []string{"content"}
	blockKeys    = []string{"type", "uri", "resource"}
	resourceKeys = []string{"uri"}
	errorKeys    = []string{"code", "data"}
)

// answer is one run over one message.
type answer struct {
	jsonscan.Scanner
	message []byte
	marks   []mark
}

// Answer returns a server's message, a JSON-RPC message of any kind, in the client's
// form: with prefixes in the URIs of the server's resources and before the ids of its
// tasks, and all other bytes kept. It returns a message without such names as it is. An
// error means that the caller must not forward the message.
//
// It looks at the message's shape, and not at the request that it answers. So it works
// on any of the protocol's streams, and after any number of reconnections. The results
// of tools/call, prompts/get and resources/read may name resources, and so may errors
// about a missing resource and notifications about resources. Those of tools/call and
// tasks/… may name tasks and have another result within, and so may notifications about
// tasks. Of a server's requests to the client, Answer changes only the task that they
// belong to.
func Answer(message []byte, server string) ([]byte, error) {
	scanner, err := jsonscan.New(message)
	if err != nil {
		return nil, err
	}
	a := answer{Scanner: scanner, message: message}
	if err := a.read(); err != nil {
		return nil, err
	}
	if len(a.marks) == 0 {
		return message, nil
	}
	return apply(make([]byte, 0, len(message)+len(a.marks)*len(resourcePrefix.of(server))), message, server, a.marks), nil
}

// apply appends the message to dst, with the server's prefix at each mark.
func apply(dst, message []byte, server string, marks []mark) []byte {
	slices.SortFunc(marks, func(a, b mark) int { return a.at - b.at })
	out := jsonscan.Splice(dst, message)
	for _, m := range marks {
		out.Put(jsonscan.Span{Start: m.at, End: m.at}, []byte(m.kind.of(server)))
	}
	return out.End()
}

func (a *answer) read() error {
	var params, method jsonscan.Span
	err := a.Members(messageKeys, func(key int) (err error) {
		switch key {
		case 0:
			err = a.result()
		case 1:
			err = a.failure()
		case 2:
			method, err = a.Value()
		default:
			params, err = a.Value()
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := a.End(); err != nil {
		return err
	}
	return a.notification(method, params)
}

// result reads a result, and marks its resources and its task.
func (a *answer) result() error {
	return a.MembersIfAny(resultKeys, func(key int) error {
		switch key {
		case 0:
			return a.Each(a.block)
		case 1:
			return a.Each(a.resource)
		case 2:
			return a.Each(a.prompt)
		case 3:
			return a.meta().read()
		case 4:
			return a.meta().task()
		case 5: // a new task of 2025-11-25
			return a.meta().members(taskKeys, func(int) error { return a.meta().task() })
		default: // of a task of 2026-07-28 that is complete
			return a.result()
		}
	})
}

// meta reads with the same scanner, and marks among the same marks.
func (a *answer) meta() metaReader { return metaReader{&a.Scanner, a.message, &a.marks} }

// prompt reads a message of a prompt.
func (a *answer) prompt() error {
	return a.MembersIfAny(promptKeys, func(int) error { return a.Each(a.block) })
}

// block reads a block of content. Its type may come after the URI.
func (a *answer) block() error {
	before := len(a.marks)
	var isLink, isResource, hasURI bool
	var uri mark
	err := a.MembersIfAny(blockKeys, func(key int) (err error) {
		switch key {
		case 0:
			isLink, isResource, err = a.blockType()
		case 1:
			uri, hasURI, err = a.stringAt()
		default:
			err = a.resource()
		}
		return err
	})
	if !isResource {
		a.marks = a.marks[:before]
	}
	if isLink && hasURI {
		a.marks = append(a.marks, uri)
	}
	return err
}

func (a *answer) blockType() (isLink, isResource bool, err error) {
	if a.Peek() != '"' {
		return false, false, a.Skip()
	}
	kind, err := a.String()
	return kind.Is("resource_link"), kind.Is("resource"), err
}

// resource reads an object with the URI of a resource, and marks that.
func (a *answer) resource() error {
	return a.MembersIfAny(resourceKeys, func(int) error { return a.mark() })
}

// mark marks the next value if it is a string, and skips it otherwise.
func (a *answer) mark() error {
	uri, ok, err := a.stringAt()
	if ok && err == nil {
		a.marks = append(a.marks, uri)
	}
	return err
}

// failure reads an error, and marks the missing resource that it names. The code may
// come after the data.
func (a *answer) failure() error {
	before := len(a.marks)
	code := 0
	err := a.MembersIfAny(errorKeys, func(key int) error {
		if key != 0 {
			return a.resource()
		}
		value, err := a.Value()
		if err == nil {
			// The client judges a code that is not an integer.
			code, _ = strconv.Atoi(string(value.Of(a.message)))
		}
		return err
	})
	if code != protocol.CodeInvalidParams && code != protocol.CodeResourceNotFound {
		a.marks = a.marks[:before]
	}
	return err
}

// Keys of the notifications below.
var (
	updatedKeys      = []string{"uri"}
	acknowledgedKeys = []string{"notifications"}
	subscribedKeys   = []string{"resourceSubscriptions", "taskIds"}
	statusKeys       = []string{"taskId", "result"}
	paramsKeys       = []string{"_meta"}
)

// notification marks the names in a notification, and the task that a notification or a
// request belongs to. The method may come after the params, so the first pass skipped
// these.
func (a *answer) notification(method, params jsonscan.Span) error {
	if method.None() || params.None() {
		return nil
	}
	part := answer{message: a.message[:params.End]}
	part.Scanner = a.At(params)
	var err error
	switch {
	case is(method.Of(a.message), protocol.MethodUpdated):
		err = part.MembersIfAny(updatedKeys, func(int) error { return part.mark() })
	case is(method.Of(a.message), protocol.MethodAcknowledged):
		err = part.MembersIfAny(acknowledgedKeys, func(int) error {
			return part.MembersIfAny(subscribedKeys, func(key int) error {
				if key == 0 {
					return part.Each(part.mark)
				}
				return part.Each(part.meta().task)
			})
		})
	case is(method.Of(a.message), protocol.MethodTaskStatus), is(method.Of(a.message), protocol.MethodTaskChanged):
		err = part.MembersIfAny(statusKeys, func(key int) error {
			if key == 0 {
				return part.meta().task()
			}
			return part.result()
		})
	case bytes.Contains(params.Of(a.message), []byte(protocol.MetaRelatedTask)):
		err = part.MembersIfAny(paramsKeys, func(int) error { return part.meta().read() })
	}
	a.marks = append(a.marks, part.marks...)
	return err
}

// is reports whether the JSON text is that string.
func is(text []byte, want string) bool {
	scanner, err := jsonscan.New(text)
	if err != nil {
		return false
	}
	value, err := scanner.String()
	return err == nil && value.Is(want)
}

// stringAt steps over the next value. If it is a string, ok is true and uri is its mark as
// a URI.
func (a *answer) stringAt() (uri mark, ok bool, err error) {
	if a.Peek() != '"' {
		return mark{}, false, a.Skip()
	}
	start := a.Pos() + len(`"`)
	err = a.Skip()
	return markOfURI(a.message, start), true, err
}
