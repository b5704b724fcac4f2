package rewrite

import (
	"slices"
	"strconv"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
)

// Keys of what may hold the URI of a resource. Their order is that of the
// cases below.
var (
	messageKeys  = []string{"result", "error", "method", "params"}
	resultKeys   = []string{"content", "contents", "messages"}
	promptKeys   = []string{"content"}
	blockKeys    = []string{"type", "uri", "resource"}
	resourceKeys = []string{"uri"}
	errorKeys    = []string{"code", "data"}
)

// answer is one run over one message.
type answer struct {
	reader
	message []byte
	marks   []int // offsets at which URIs start
}

// Answer returns the message of the server, a JSON-RPC message of any kind, in
// the form that it has for the client: with the URIs of the server's resources
// prefixed, all other bytes kept. A message without any is returned as it is.
// An error means that the message must not be passed on.
//
// It goes by the message's shape, and not by the request that it answers: then
// it does not matter on which of the protocol's streams, or after how many
// reconnections, an answer arrives. What may hold a resource is the result of
// tools/call, prompts/get and resources/read, an error about a resource that is
// not there, and what a server notifies of resources. What the server asks of
// the client is left as it is.
func Answer(message []byte, server string) ([]byte, error) {
	r, err := newReader(message)
	if err != nil {
		return nil, err
	}
	a := answer{reader: r, message: message}
	if err := a.read(); err != nil {
		return nil, err
	}
	if len(a.marks) == 0 {
		return message, nil
	}
	return a.apply(names.URIPrefix(server)), nil
}

// apply inserts the prefix at each mark.
func (a *answer) apply(prefix string) []byte {
	slices.Sort(a.marks)
	out := make([]byte, 0, len(a.message)+len(a.marks)*len(prefix))
	at := 0
	for _, mark := range a.marks {
		out = append(out, a.message[at:mark]...)
		out = append(out, prefix...)
		at = mark
	}
	return append(out, a.message[at:]...)
}

func (a *answer) read() error {
	var params, method [2]int
	err := a.object(messageKeys, func(key int) (err error) {
		switch key {
		case 0:
			err = a.result()
		case 1:
			err = a.failure()
		case 2:
			method[0], method[1], err = a.value()
		default:
			params[0], params[1], err = a.value()
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

// result reads a result, and marks what resources it holds.
func (a *answer) result() error {
	return a.members(resultKeys, func(key int) error {
		switch key {
		case 0:
			return a.each(a.block)
		case 1:
			return a.each(a.resource)
		default:
			return a.each(a.prompt)
		}
	})
}

// each has element read every element of the array that comes next, or the
// value that stands in its place.
func (a *answer) each(element func() error) error {
	if a.Peek() != '[' {
		return element()
	}
	if err := a.Enter('['); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := a.Element(first)
		if err != nil || !more {
			return err
		}
		if err := element(); err != nil {
			return err
		}
	}
}

// prompt reads a message of a prompt.
func (a *answer) prompt() error {
	return a.members(promptKeys, func(int) error { return a.each(a.block) })
}

// block reads a block of content. Of what kind it is may stand behind the URI.
func (a *answer) block() error {
	before := len(a.marks)
	var isLink, isResource, hasURI bool
	var uri int
	err := a.members(blockKeys, func(key int) (err error) {
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

// resource reads what stands for a resource by its URI, and marks that.
func (a *answer) resource() error {
	return a.members(resourceKeys, func(int) error { return a.mark() })
}

// mark marks the string that comes next, and passes over anything else.
func (a *answer) mark() error {
	start, ok, err := a.stringAt()
	if ok && err == nil {
		a.marks = append(a.marks, start)
	}
	return err
}

// failure reads an error, and marks the resource that it says is not there.
// Which error it is may stand behind its data.
func (a *answer) failure() error {
	before := len(a.marks)
	code := 0
	err := a.members(errorKeys, func(key int) error {
		if key != 0 {
			return a.resource()
		}
		start, end, err := a.value()
		if err == nil {
			// A code that is no integer is the client's to complain about.
			code, _ = strconv.Atoi(string(a.message[start:end]))
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
	subscribedKeys   = []string{"resourceSubscriptions"}
)

// notification marks the resources that a notification is about. What its
// method is may stand behind its params, so they were passed over at first.
func (a *answer) notification(method, params [2]int) error {
	if method[1] == 0 || params[1] == 0 {
		return nil
	}
	part := answer{message: a.message[params[0]:params[1]]}
	var err error
	if part.reader, err = newReader(part.message); err != nil {
		return err
	}
	switch {
	case is(a.message[method[0]:method[1]], protocol.MethodUpdated):
		err = part.members(updatedKeys, func(int) error { return part.mark() })
	case is(a.message[method[0]:method[1]], protocol.MethodAcknowledged):
		err = part.members(acknowledgedKeys, func(int) error {
			return part.members(subscribedKeys, func(int) error { return part.each(part.mark) })
		})
	}
	for _, mark := range part.marks {
		a.marks = append(a.marks, params[0]+mark)
	}
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
