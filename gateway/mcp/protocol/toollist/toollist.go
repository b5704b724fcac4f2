// Package toollist cuts tools that a client may not call out of the lists that
// servers answer with. What protects a tool is the check of the call; a
// filtered list keeps the client from trying.
//
// Lists are recognised by their shape, a result with tools, and not by the
// request that they answer: then it does not matter on which of the protocol's
// streams, or after how many reconnections, an answer arrives. All bytes but
// those of the tools cut out, and of the caching hints, stay what they are.
package toollist

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// MaxTTL is how long a client may keep a filtered list: a tool that was taken
// from it goes on being listed for so long at most.
const MaxTTL = 30 * time.Second

// ErrAmbiguous: the message could be read in two ways, so nothing can be said
// about what it lists.
var ErrAmbiguous = errors.New("a list that could be read in two ways")

// edit replaces message[start:end] with text.
type edit struct {
	start, end int
	text       []byte
}

// filter is one run over one message.
type filter struct {
	jsonscan.Scanner
	message []byte
	allows  func(tool string) bool

	lists bool // the result has tools
	tools edit // the array's new content; text nil means unchanged

	scope, ttl       span
	hasScope, hasTTL bool
	resultEnd        int // offset of the result's closing brace
}

type span struct{ start, end int }

// Filter returns the message, a JSON-RPC message of a server, with those tools
// cut out of its list that allows does not let pass. A message that lists no
// tools is returned as it is. An error means that the message must not be
// passed on.
func Filter(message []byte, allows func(tool string) bool) ([]byte, error) {
	scanner, err := jsonscan.New(message)
	if err != nil {
		return nil, err
	}
	f := &filter{Scanner: scanner, message: message, allows: allows}
	if err := f.object(messageKeys, f.messageMember); err != nil {
		return nil, err
	}
	if err := f.End(); err != nil {
		return nil, err
	}
	if !f.lists {
		return message, nil
	}
	return apply(message, f.edits()), nil
}

var (
	messageKeys = []string{"result"}
	resultKeys  = []string{"tools", "cacheScope", "ttlMs"}
	toolKeys    = []string{"name"}
)

// object reads an object and hands those members to member whose key is one of
// keys. A key that is there twice, or that only resembles one, is refused:
// clients would not agree on which of them counts.
func (f *filter) object(keys []string, member func(key string) error) error {
	if err := f.Enter('{'); err != nil {
		return err
	}
	var seen [4]bool
	for first := true; ; first = false {
		name, more, err := f.Member(first)
		if err != nil || !more {
			return err
		}
		i, err := find(name, keys)
		if err != nil {
			return err
		}
		switch {
		case i < 0:
			err = f.Skip()
		case seen[i]:
			err = ErrAmbiguous
		default:
			seen[i] = true
			err = member(keys[i])
		}
		if err != nil {
			return err
		}
	}
}

// find returns the index of the key among keys, or -1.
func find(key jsonscan.String, keys []string) (int, error) {
	value, err := key.Bytes()
	if err != nil {
		return 0, err
	}
	for i, want := range keys {
		if string(value) == want {
			return i, nil
		}
	}
	if cut := bytes.IndexByte(value, 0); cut >= 0 {
		value = value[:cut]
	}
	value = bytes.TrimSpace(value)
	for _, want := range keys {
		if bytes.EqualFold(value, []byte(want)) {
			return 0, ErrAmbiguous
		}
	}
	return -1, nil
}

func (f *filter) messageMember(string) error {
	if f.Peek() != '{' {
		return f.Skip()
	}
	err := f.object(resultKeys, f.resultMember)
	f.resultEnd = f.Pos() - 1
	return err
}

func (f *filter) resultMember(key string) error {
	f.Peek()
	start := f.Pos()
	switch key {
	case "tools":
		f.lists = true
		return f.list()
	case "cacheScope":
		f.hasScope = true
		err := f.Skip()
		f.scope = span{start, f.Pos()}
		return err
	default:
		f.hasTTL = true
		err := f.Skip()
		f.ttl = span{start, f.Pos()}
		return err
	}
}

// list reads the array of tools.
func (f *filter) list() error {
	if f.Peek() != '[' {
		return fmt.Errorf("a list of tools: %w", ErrAmbiguous)
	}
	if err := f.Enter('['); err != nil {
		return err
	}
	f.tools.start = f.Pos()
	cut := false
	kept := []byte{}
	for first := true; ; first = false {
		more, err := f.Element(first)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		start := f.Pos()
		keep, err := f.tool()
		if err != nil {
			return err
		}
		if !keep {
			cut = true
			continue
		}
		if len(kept) > 0 {
			kept = append(kept, ',')
		}
		kept = append(kept, f.message[start:f.Pos()]...)
	}
	f.tools.end = f.Pos() - 1
	if cut {
		f.tools.text = kept
	}
	return nil
}

// tool reads one tool and reports whether the client may see it. One whose name
// is not certain is not shown.
func (f *filter) tool() (keep bool, err error) {
	if f.Peek() != '{' {
		return false, f.Skip()
	}
	// The name's check must not end the reading of the rest.
	start := f.Pos()
	if err := f.Skip(); err != nil {
		return false, err
	}
	name, ok := toolName(f.message[start:f.Pos()])
	return ok && f.allows(name), nil
}

// toolName returns the name of the tool, an object that was checked to be JSON.
func toolName(tool []byte) (name string, ok bool) {
	scanner, err := jsonscan.New(tool)
	if err != nil {
		return "", false
	}
	t := &filter{Scanner: scanner}
	err = t.object(toolKeys, func(string) error {
		if t.Peek() != '"' {
			return t.Skip()
		}
		value, err := t.String()
		if err != nil {
			return err
		}
		raw, err := value.Bytes()
		name, ok = string(raw), err == nil
		return err
	})
	return name, ok && err == nil
}

// edits returns what to change in a message that lists tools, in order.
func (f *filter) edits() []edit {
	var edits []edit
	if f.tools.text != nil {
		edits = append(edits, f.tools)
	}
	// A filtered list is this client's alone. Where no scope is given, a result
	// that may be kept is public.
	if f.hasScope {
		edits = append(edits, edit{f.scope.start, f.scope.end, []byte(`"private"`)})
	} else if f.hasTTL {
		edits = append(edits, edit{f.resultEnd, f.resultEnd, []byte(`,"cacheScope":"private"`)})
	}
	if f.hasTTL && !shortTTL(f.message[f.ttl.start:f.ttl.end]) {
		limit := strconv.FormatInt(MaxTTL.Milliseconds(), 10)
		edits = append(edits, edit{f.ttl.start, f.ttl.end, []byte(limit)})
	}
	for i := 1; i < len(edits); i++ { // at most three
		for j := i; j > 0 && edits[j].start < edits[j-1].start; j-- {
			edits[j], edits[j-1] = edits[j-1], edits[j]
		}
	}
	return edits
}

// shortTTL reports whether a ttlMs is a number of at most MaxTTL.
func shortTTL(raw []byte) bool {
	ms, err := strconv.ParseFloat(string(raw), 64)
	return err == nil && ms <= float64(MaxTTL.Milliseconds())
}

func apply(message []byte, edits []edit) []byte {
	if len(edits) == 0 {
		return message
	}
	out := make([]byte, 0, len(message)+len(`,"cacheScope":"private"`)+len(`"private"`))
	at := 0
	for _, e := range edits {
		out = append(out, message[at:e.start]...)
		out = append(out, e.text...)
		at = e.end
	}
	return append(out, message[at:]...)
}
