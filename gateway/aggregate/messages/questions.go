package messages

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
)

// A server may ask its client in the middle of a call: for a form that a person fills in, for
// the answer of a model, for its roots. A server with sessions sends a request then, and waits
// for the response. One without sessions ends the call with its questions, and the client calls
// again with the answers. The gateway translates between the two: see askable.go and
// askclient.go of the package above. It declares to a server what the client can answer, and no more.

// Questions is a set of what a client can be asked. Only that is in it which both eras have in
// the same form: elicitation by URL is not, since servers with sessions tell the client when
// that is done, and the others cannot.
type Questions uint8

const (
	AsksForm  Questions = 1 << iota // elicitation, with a form
	AsksModel                       // sampling
	AsksTools                       // sampling with tools
	AsksRoots

	ShowsApps // no question: the client shows the pages of MCP Apps, and servers tell it of them
)

// Any reports whether the client can be asked anything.
func (q Questions) Any() bool { return q&^ShowsApps != 0 }

// showing are the settings of a client that shows pages of MCP Apps. Hosts have no other kind
// of page so far.
var showing = protocol.Object(protocol.Member("mimeTypes", protocol.Strings([]string{"text/html;profile=mcp-app"})))

// QuestionsIn returns what a client with these capabilities can be asked. Capabilities that
// could be read in two ways are none.
func QuestionsIn(capabilities []byte) (q Questions) {
	if !IsObject(capabilities) {
		return 0
	}
	top, err := ReadObject(capabilities, Whole(capabilities), "elicitation", "sampling", "roots", "extensions")
	if err != nil {
		return 0
	}
	member := func(at envelope.Span, keys ...string) (o Object, ok bool) {
		if !IsObject(at.Of(capabilities)) {
			return o, false
		}
		o, err := ReadObject(capabilities, at, keys...)
		return o, err == nil
	}
	if modes, ok := member(top.Values[0], "form", "url"); ok && (!modes.Values[0].None() || modes.Values[1].None()) {
		q |= AsksForm // without a mode, too
	}
	if kinds, ok := member(top.Values[1], "tools"); ok {
		q |= AsksModel
		if IsObject(kinds.Values[0].Of(capabilities)) {
			q |= AsksTools
		}
	}
	if _, ok := member(top.Values[2]); ok {
		q |= AsksRoots
	}
	if extensions, ok := member(top.Values[3], protocol.ExtensionApps); ok && IsObject(extensions.Values[0].Of(capabilities)) {
		q |= ShowsApps
	}
	return q
}

// Capabilities declares to a server what its client can be asked.
func (q Questions) Capabilities() []byte {
	none := []byte("{}")
	var list [][]byte
	if q&AsksForm != 0 {
		list = append(list, protocol.Member("elicitation", none)) // without a mode: by form, in all revisions
	}
	switch {
	case q&AsksTools != 0:
		list = append(list, protocol.Member("sampling", protocol.Object(protocol.Member("tools", none))))
	case q&AsksModel != 0:
		list = append(list, protocol.Member("sampling", none))
	}
	if q&AsksRoots != 0 {
		list = append(list, protocol.Member("roots", none))
	}
	if q&ShowsApps != 0 {
		list = append(list, protocol.Member("extensions", protocol.Object(protocol.Member(protocol.ExtensionApps, showing))))
	}
	return protocol.Object(list...)
}

// MayBeAsked reports whether the protocol lets a server ask in the middle of such a request.
//
// https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr#supported-requests
func MayBeAsked(method string) bool {
	switch method {
	case protocol.MethodToolsCall, protocol.MethodPromptsGet, protocol.MethodResourcesRead:
		return true
	}
	return false
}

// Question is what a server asks its client.
type Question struct {
	Method string
	Params []byte // an object
}

// QuestionError says to a server, or to a client, why a question is not asked.
type QuestionError string

func (e QuestionError) Error() string { return string(e) }

// Why questions are not asked.
const (
	ErrUndeclared  = QuestionError("The client has not declared that it can be asked this.")
	ErrUnknownAsk  = QuestionError("This gateway does not translate such a request to the client between protocol versions.")
	ErrURLMode     = QuestionError("Elicitation by URL is not translated between protocol versions: only forms are.")
	ErrAskTask     = QuestionError("A task that the client would have is not translated between protocol versions.")
	ErrAskUnclear  = QuestionError("The params of the request to the client cannot be read.")
	ErrAskTools    = QuestionError("The client has not declared that its model can use tools.")
	ErrOldContent  = QuestionError("More than one block of content in a message is not known in the protocol version of the other side.")
	ErrOldForm     = QuestionError("A form with a list to choose from that has titles or takes several choices is not known in the protocol version of the client.")
	ErrNoCallAsked = QuestionError("A request to the client is translated between protocol versions only while one call of the session is in flight.")
)

// Translate checks that a client which can be asked q may be asked this, and returns the
// question as both eras have it.
func (q Questions) Translate(method string, params []byte) (Question, error) {
	var needs Questions
	keys := []string{"_meta", "task"}
	switch method {
	case protocol.MethodElicit:
		needs, keys = AsksForm, append(keys, "mode")
	case protocol.MethodSample:
		needs, keys = AsksModel, append(keys, "includeContext", "tools", "toolChoice")
	case protocol.MethodRootsList:
		if q&AsksRoots == 0 {
			return Question{}, ErrUndeclared
		}
		return Question{Method: method, Params: []byte("{}")}, nil // its params have no meaning
	default:
		return Question{}, ErrUnknownAsk
	}
	if !IsObject(params) {
		return Question{}, ErrAskUnclear
	}
	members, err := ReadObject(params, Whole(params), keys...)
	if err != nil {
		return Question{}, ErrAskUnclear
	}
	value := func(i int) []byte { return members.Values[i].Of(params) }
	kept := members.Others
	switch {
	case len(value(1)) > 0:
		return Question{}, ErrAskTask
	case needs == AsksForm && len(value(2)) > 0:
		if mode, _ := StringOf(value(2)); mode != "form" {
			return Question{}, ErrURLMode
		}
	}
	if q&needs == 0 {
		return Question{}, ErrUndeclared
	}
	if needs == AsksModel {
		// includeContext is left out: a client may ignore it, and to the client all servers of
		// /mcp would be "this server".
		tools, choice := value(3), value(4)
		if q&AsksTools == 0 && (len(tools) > 0 || len(choice) > 0) {
			return Question{}, ErrAskTools
		}
		if len(tools) > 0 {
			kept = append(kept, protocol.Member("tools", tools))
		}
		if len(choice) > 0 {
			kept = append(kept, protocol.Member("toolChoice", choice))
		}
	}
	return Question{Method: method, Params: protocol.Object(kept...)}, nil
}

// OneBlock is the first version of the protocol in which a message of sampling may have more than
// one block of content, and a form more than plain lists to choose from.
const OneBlock = "2025-11-25"

// ForVersion returns the question for a client with a session of that version, in which it may not
// be known.
func (a Question) ForVersion(version string) (Question, error) {
	if version >= OneBlock {
		return a, nil
	}
	switch a.Method {
	case protocol.MethodSample:
		var err error
		a.Params, err = WithOneBlock(a.Params, "messages")
		return a, err
	case protocol.MethodElicit:
		return a, plainForm(a.Params)
	}
	return a, nil
}

// WithOneBlock makes each message's content one block, where it is a list of one. key names the
// list of messages; "" stands for the object itself.
func WithOneBlock(text []byte, key string) ([]byte, error) {
	var parts []envelope.Part
	one := func(message json.RawMessage, at int) error {
		if !IsObject(message) {
			return ErrAskUnclear
		}
		o, err := ReadObject(message, Whole(message), "content")
		if err != nil {
			return ErrAskUnclear
		}
		content := o.Values[0]
		var blocks []json.RawMessage
		if raw := content.Of(message); len(raw) == 0 || raw[0] != '[' {
			return nil
		} else if json.Unmarshal(raw, &blocks) != nil || len(blocks) != 1 {
			return ErrOldContent
		}
		parts = append(parts, envelope.Part{Span: envelope.Span{Start: at + content.Start, End: at + content.End}, Text: blocks[0]})
		return nil
	}
	if key == "" {
		if err := one(text, 0); err != nil {
			return nil, err
		}
		return envelope.Replace(nil, text, parts...), nil
	}
	o, err := ReadObject(text, Whole(text), key)
	if err != nil {
		return nil, ErrAskUnclear
	}
	list := o.Values[0]
	var messages []json.RawMessage
	if json.Unmarshal(list.Of(text), &messages) != nil {
		return nil, ErrAskUnclear
	}
	at := list.Start
	for _, message := range messages {
		at += bytes.Index(text[at:], message)
		if err := one(message, at); err != nil {
			return nil, err
		}
		at += len(message)
	}
	return envelope.Replace(nil, text, parts...), nil
}

// plainForm refuses a form that older versions do not know.
func plainForm(params []byte) error {
	var form struct {
		RequestedSchema struct {
			Properties map[string]struct {
				Type  string
				OneOf []json.RawMessage
			}
		}
	}
	if json.Unmarshal(params, &form) != nil {
		return ErrAskUnclear
	}
	for _, field := range form.RequestedSchema.Properties {
		if field.Type == "array" || field.OneOf != nil {
			return ErrOldForm
		}
	}
	return nil
}

// Response builds a server's answer to a question that is not asked. -32602 is the code that the
// protocol has for an elicitation in a mode that was not declared.
func (e QuestionError) Response(id []byte) []byte {
	code := protocol.CodeInvalidParams
	if slices.Contains([]QuestionError{ErrUndeclared, ErrUnknownAsk, ErrNoCallAsked}, e) {
		code = protocol.CodeMethodNotFound
	}
	return protocol.Error(id, code, string(e))
}

// AsQuestionError returns the reason why a question is not asked.
func AsQuestionError(err error) QuestionError {
	var e QuestionError
	if errors.As(err, &e) {
		return e
	}
	return ErrAskUnclear
}

// Repeat is the call with the answers. The protocol wants another id for it.
func Repeat(message []byte, e *envelope.Envelope, answers [][]byte, state []byte, round int) ([]byte, error) {
	params, err := ReadObject(message, e.Params, "inputResponses", "requestState")
	if err != nil {
		return nil, err
	}
	list := params.Others
	if answers != nil {
		list = append(list, protocol.Member("inputResponses", protocol.Object(answers...)))
	}
	if len(state) > 0 {
		list = append(list, protocol.Member("requestState", state))
	}
	return envelope.Replace(nil, message,
		envelope.Part{Span: e.ID, Text: protocol.AppendString(nil, "gateway-round-"+strconv.Itoa(round+1))},
		envelope.Part{Span: e.Params, Text: protocol.Object(list...)}), nil
}
