// Package envelope reads the parts of a JSON-RPC message that decisions need, and no
// others.
//
// The gateway decides on bytes, and then another program with another parser acts on
// them. Parsers differ: which of two equal keys counts, whether "NAME" is "name",
// whether anything may follow the first document. An attacker could make the gateway
// read one thing and the server another. So the gateway refuses a message that could be
// read in two ways, and forwards an accepted one as the very bytes that it read.
package envelope

import (
	"errors"
	"fmt"
	"strings"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// Kind is the kind of a JSON-RPC message.
type Kind uint8

// Kinds of message.
const (
	Request      Kind = iota + 1 // method and id
	Notification                 // method, no id
	Response                     // id, and result or error
)

// Span is a part of a message's bytes.
type Span = jsonscan.Span

// Part is a part of a message, and its replacement.
type Part = jsonscan.Part

// Replace appends the message to dst, with the parts replaced and all other bytes
// kept. See [jsonscan.Replace].
func Replace(dst, message []byte, parts ...Part) []byte {
	return jsonscan.Replace(dst, message, parts...)
}

// Envelope has the parts of a message that decisions need.
type Envelope struct {
	Kind   Kind
	Method string // "" for a response
	ID     Span   // as in the message, with quotes; none in a notification

	// Name is params.name of tools/call and prompts/get, params.uri of resources/read,
	// and params.taskId of tasks/…, which may lack it. Other methods do not have it.
	Name string

	// Version is the protocol version that params._meta declares, if it does.
	Version string

	// Parts that a bridge or the aggregate may replace, as in the message.
	MetaProgressToken Span // params._meta.progressToken, of a request
	ProgressToken     Span // params.progressToken, of notifications/progress
	RequestID         Span // params.requestId, of notifications/cancelled
	NameAt            Span // params.name, if it is a string
	URI               Span // params.uri, if it is a string
	TaskID            Span // params.taskId, if it is a string
	RefName, RefURI   Span // params.ref.name and params.ref.uri, if they are strings
	Params            Span // params, if they are an object
	RequestState      Span // params.requestState, of a call that goes on after questions
	InputResponses    Span // params.inputResponses, likewise
	Capabilities      Span // the client's, in params._meta
	SubscriptionID    Span // subscriptionId in params._meta, or in result._meta
	RelatedTask       Span // the task that the message belongs to, in params._meta or in result._meta

	// AsksTask: params.task, with which a call asks for a task.
	AsksTask bool

	// Failed: the response has an error. ErrorCode is its error.code; 0 if that is
	// not an integer.
	Failed    bool
	ErrorCode int

	// Names: the message may name a resource or a task, at any depth.
	Names bool
}

// NameKeys are the keys of all members in which the protocol has such a name.
var NameKeys = jsonscan.Watch("uri", "taskId", "taskIds", "resourceSubscriptions", "resourceUri", "ui/resourceUri", "openai/outputTemplate")

// An Error is the reason for a refusal. Its text names members of the protocol, and
// never quotes a value of the message.
type Error struct {
	Code   int    // of JSON-RPC
	Reason string // a phrase
	ID     Span   // of the refused message, if it comes before the mistake
}

func (e *Error) Error() string { return e.Reason }

// Parse reads one message to its end. The error is an [*Error].
//
// It is for both directions, though its refusals address clients. It refuses members
// that could be read in two ways at the top, in params, params._meta and params.ref, in
// error and in result._meta.
func Parse(message []byte) (Envelope, error) {
	var p parser
	scanner, err := jsonscan.New(message)
	if err == nil {
		p.Scanner = scanner
		p.Watch(NameKeys)
		err = p.message()
	}
	if err == nil {
		p.out.Names = p.Met()
		return p.out, nil
	}
	var refused *Error
	if !errors.As(err, &refused) {
		refused = &Error{Code: protocol.CodeParseError, Reason: err.Error()}
	}
	refused.ID = p.out.ID
	return Envelope{}, refused
}

func invalid(format string, args ...any) error {
	return &Error{Code: protocol.CodeInvalidRequest, Reason: fmt.Sprintf(format, args...)}
}

// IDOf returns the id as in the message, or nil.
func (e *Envelope) IDOf(message []byte) []byte {
	if e.ID.None() {
		return nil
	}
	return e.ID.Of(message)
}

// message reads the whole text.
func (p *parser) message() error {
	switch p.Peek() {
	case '{':
	case '[':
		return invalid("batches are not supported: send each message on its own")
	default:
		if err := p.Skip(); err != nil {
			return err
		}
	}
	if err := p.object(inMessage); err != nil {
		return err
	}
	if err := p.End(); err != nil {
		return err
	}
	return p.classify()
}

// classify finds the kind of the message, and refuses one that is not exactly of that
// kind.
func (p *parser) classify() error {
	out := &p.out
	if !p.versioned {
		return invalid(`"jsonrpc" must be "2.0"`)
	}
	switch {
	case out.Method != "" && (p.hasResult || p.hasError):
		return invalid("a message is a request or a response, not both")
	case out.Method != "" && out.ID.None():
		out.Kind = Notification
	case out.Method != "":
		if p.nullID {
			return invalid(`"id" of a request must not be null`)
		}
		out.Kind = Request
	case p.hasResult == p.hasError:
		return invalid(`a message has a "method", or one of "result" and "error"`)
	case out.ID.None() || p.nullID && p.hasResult:
		return invalid(`a response has an "id"`)
	case p.hasParams:
		return invalid(`a response has no "params"`)
	default:
		out.Kind = Response
		return nil
	}
	return p.pickName()
}

// pickName takes the name that the method acts on. It requires one for three methods
// only: the params of the others are the server's to judge.
func (p *parser) pickName() error {
	key, value, found := "name", p.name, p.hasName
	switch p.out.Method {
	case protocol.MethodToolsCall, protocol.MethodPromptsGet:
	case protocol.MethodResourcesRead:
		key, value, found = "uri", p.uri, p.hasURI
	default:
		if !strings.HasPrefix(p.out.Method, protocol.PrefixTasks) {
			return nil
		}
		if p.oddTask {
			return invalid(`params has a key that resembles "taskId"`)
		}
		if p.out.TaskID.None() {
			return nil
		}
		key, value, found = "taskId", p.task, true
	}
	if !found {
		return invalid(`%s must have a string "params.%s"`, p.out.Method, key)
	}
	name, err := value.Bytes()
	if err != nil {
		return invalid(`"params.%s": %v`, key, err)
	}
	p.out.Name = string(name)
	return nil
}

// Edited returns the envelope of the message after the replacement of the part. The part
// must be inside a member that the envelope knows, or be that member, or be outside of
// all of them.
func (e Envelope) Edited(p Part) Envelope {
	for _, at := range [...]*Span{
		&e.ID, &e.MetaProgressToken, &e.ProgressToken, &e.RequestID, &e.NameAt, &e.URI, &e.TaskID,
		&e.RefName, &e.RefURI, &e.Params, &e.RequestState, &e.InputResponses, &e.Capabilities, &e.SubscriptionID, &e.RelatedTask,
	} {
		if at.None() {
			continue
		}
		longer := len(p.Text) - (p.End - p.Start)
		if at.Start >= p.End {
			at.Start += longer
		}
		if at.End >= p.End {
			at.End += longer
		}
	}
	return e
}
