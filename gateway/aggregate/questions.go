package aggregate

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
// askclient.go. It declares to a server what the client can answer, and no more.

// questions is a set of what a client can be asked. Only that is in it which both eras have in
// the same form: elicitation by URL is not, since servers with sessions tell the client when
// that is done, and the others cannot.
type questions uint8

const (
	asksForm  questions = 1 << iota // elicitation, with a form
	asksModel                       // sampling
	asksTools                       // sampling with tools
	asksRoots

	showsApps // no question: the client shows the pages of MCP Apps, and servers tell it of them
)

// any reports whether the client can be asked anything.
func (q questions) any() bool { return q&^showsApps != 0 }

// showing are the settings of a client that shows pages of MCP Apps. Hosts have no other kind
// of page so far.
var showing = protocol.Object(protocol.Member("mimeTypes", protocol.Strings([]string{"text/html;profile=mcp-app"})))

// questionsIn returns what a client with these capabilities can be asked. Capabilities that
// could be read in two ways are none.
func questionsIn(capabilities []byte) (q questions) {
	if !isObject(capabilities) {
		return 0
	}
	top, err := readObject(capabilities, whole(capabilities), "elicitation", "sampling", "roots", "extensions")
	if err != nil {
		return 0
	}
	member := func(at envelope.Span, keys ...string) (o object, ok bool) {
		if !isObject(at.Of(capabilities)) {
			return o, false
		}
		o, err := readObject(capabilities, at, keys...)
		return o, err == nil
	}
	if modes, ok := member(top.values[0], "form", "url"); ok && (!modes.values[0].None() || modes.values[1].None()) {
		q |= asksForm // without a mode, too
	}
	if kinds, ok := member(top.values[1], "tools"); ok {
		q |= asksModel
		if isObject(kinds.values[0].Of(capabilities)) {
			q |= asksTools
		}
	}
	if _, ok := member(top.values[2]); ok {
		q |= asksRoots
	}
	if extensions, ok := member(top.values[3], protocol.ExtensionApps); ok && isObject(extensions.values[0].Of(capabilities)) {
		q |= showsApps
	}
	return q
}

// capabilities declares to a server what its client can be asked.
func (q questions) capabilities() []byte {
	none := []byte("{}")
	var list [][]byte
	if q&asksForm != 0 {
		list = append(list, protocol.Member("elicitation", none)) // without a mode: by form, in all revisions
	}
	switch {
	case q&asksTools != 0:
		list = append(list, protocol.Member("sampling", protocol.Object(protocol.Member("tools", none))))
	case q&asksModel != 0:
		list = append(list, protocol.Member("sampling", none))
	}
	if q&asksRoots != 0 {
		list = append(list, protocol.Member("roots", none))
	}
	if q&showsApps != 0 {
		list = append(list, protocol.Member("extensions", protocol.Object(protocol.Member(protocol.ExtensionApps, showing))))
	}
	return protocol.Object(list...)
}

// mayBeAsked reports whether the protocol lets a server ask in the middle of such a request.
//
// https://modelcontextprotocol.io/specification/2026-07-28/basic/patterns/mrtr#supported-requests
func mayBeAsked(method string) bool {
	switch method {
	case protocol.MethodToolsCall, protocol.MethodPromptsGet, protocol.MethodResourcesRead:
		return true
	}
	return false
}

// question is what a server asks its client.
type question struct {
	method string
	params []byte // an object
}

// questionError says to a server, or to a client, why a question is not asked.
type questionError string

func (e questionError) Error() string { return string(e) }

// Why questions are not asked.
const (
	errUndeclared  = questionError("The client has not declared that it can be asked this.")
	errUnknownAsk  = questionError("This gateway does not translate such a request to the client between protocol versions.")
	errURLMode     = questionError("Elicitation by URL is not translated between protocol versions: only forms are.")
	errAskTask     = questionError("A task that the client would have is not translated between protocol versions.")
	errAskUnclear  = questionError("The params of the request to the client cannot be read.")
	errAskTools    = questionError("The client has not declared that its model can use tools.")
	errOldContent  = questionError("More than one block of content in a message is not known in the protocol version of the other side.")
	errOldForm     = questionError("A form with a list to choose from that has titles or takes several choices is not known in the protocol version of the client.")
	errNoCallAsked = questionError("A request to the client is translated between protocol versions only while one call of the session is in flight.")
)

// translate checks that a client which can be asked q may be asked this, and returns the
// question as both eras have it.
func (q questions) translate(method string, params []byte) (question, error) {
	var needs questions
	keys := []string{"_meta", "task"}
	switch method {
	case protocol.MethodElicit:
		needs, keys = asksForm, append(keys, "mode")
	case protocol.MethodSample:
		needs, keys = asksModel, append(keys, "includeContext", "tools", "toolChoice")
	case protocol.MethodRootsList:
		if q&asksRoots == 0 {
			return question{}, errUndeclared
		}
		return question{method: method, params: []byte("{}")}, nil // its params have no meaning
	default:
		return question{}, errUnknownAsk
	}
	if !isObject(params) {
		return question{}, errAskUnclear
	}
	members, err := readObject(params, whole(params), keys...)
	if err != nil {
		return question{}, errAskUnclear
	}
	value := func(i int) []byte { return members.values[i].Of(params) }
	kept := members.others
	switch {
	case len(value(1)) > 0:
		return question{}, errAskTask
	case needs == asksForm && len(value(2)) > 0:
		if mode, _ := stringOf(value(2)); mode != "form" {
			return question{}, errURLMode
		}
	}
	if q&needs == 0 {
		return question{}, errUndeclared
	}
	if needs == asksModel {
		// includeContext is left out: a client may ignore it, and to the client all servers of
		// /mcp would be "this server".
		tools, choice := value(3), value(4)
		if q&asksTools == 0 && (len(tools) > 0 || len(choice) > 0) {
			return question{}, errAskTools
		}
		if len(tools) > 0 {
			kept = append(kept, protocol.Member("tools", tools))
		}
		if len(choice) > 0 {
			kept = append(kept, protocol.Member("toolChoice", choice))
		}
	}
	return question{method: method, params: protocol.Object(kept...)}, nil
}

// oneBlock is the first version of the protocol in which a message of sampling may have more than
// one block of content, and a form more than plain lists to choose from.
const oneBlock = "2025-11-25"

// forVersion returns the question for a client with a session of that version, in which it may not
// be known.
func (a question) forVersion(version string) (question, error) {
	if version >= oneBlock {
		return a, nil
	}
	switch a.method {
	case protocol.MethodSample:
		var err error
		a.params, err = withOneBlock(a.params, "messages")
		return a, err
	case protocol.MethodElicit:
		return a, plainForm(a.params)
	}
	return a, nil
}

// withOneBlock makes each message's content one block, where it is a list of one. key names the
// list of messages; "" stands for the object itself.
func withOneBlock(text []byte, key string) ([]byte, error) {
	var parts []envelope.Part
	one := func(message json.RawMessage, at int) error {
		if !isObject(message) {
			return errAskUnclear
		}
		o, err := readObject(message, whole(message), "content")
		if err != nil {
			return errAskUnclear
		}
		content := o.values[0]
		var blocks []json.RawMessage
		if raw := content.Of(message); len(raw) == 0 || raw[0] != '[' {
			return nil
		} else if json.Unmarshal(raw, &blocks) != nil || len(blocks) != 1 {
			return errOldContent
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
	o, err := readObject(text, whole(text), key)
	if err != nil {
		return nil, errAskUnclear
	}
	list := o.values[0]
	var messages []json.RawMessage
	if json.Unmarshal(list.Of(text), &messages) != nil {
		return nil, errAskUnclear
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
		return errAskUnclear
	}
	for _, field := range form.RequestedSchema.Properties {
		if field.Type == "array" || field.OneOf != nil {
			return errOldForm
		}
	}
	return nil
}

// errorOf builds a server's answer to a question that is not asked. -32602 is the code that the
// protocol has for an elicitation in a mode that was not declared.
func (e questionError) response(id []byte) []byte {
	code := protocol.CodeInvalidParams
	if slices.Contains([]questionError{errUndeclared, errUnknownAsk, errNoCallAsked}, e) {
		code = protocol.CodeMethodNotFound
	}
	return protocol.Error(id, code, string(e))
}

// asQuestionError returns the reason why a question is not asked.
func asQuestionError(err error) questionError {
	var e questionError
	if errors.As(err, &e) {
		return e
	}
	return errAskUnclear
}

// repeated is the call with the answers. The protocol wants another id for it.
func repeated(message []byte, e *envelope.Envelope, answers [][]byte, state []byte, round int) ([]byte, error) {
	params, err := readObject(message, e.Params, "inputResponses", "requestState")
	if err != nil {
		return nil, err
	}
	list := params.others
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
