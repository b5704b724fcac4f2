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
	"errors"
	"strconv"
	"time"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// MaxTTL is how long a client may keep a filtered list: a tool that was taken
// from it goes on being listed for so long at most.
const MaxTTL = 30 * time.Second

// errNoList: the result's tools are not an array, so nothing can be said about what it
// lists.
var errNoList = errors.New("a list of tools that is not an array")

// filter is one run over one message.
type filter struct {
	jsonscan.Scanner
	message []byte
	allows  func(tool string) bool

	lists bool          // the result has tools
	cut   bool          // some of them are cut out
	tools jsonscan.Part // the array's content, and what is left of it

	scope, ttl jsonscan.Span
	resultEnd  int // offset of the result's closing brace
}

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
	if err := f.Members(messageKeys, f.result); err != nil {
		return nil, err
	}
	if err := f.End(); err != nil {
		return nil, err
	}
	if !f.lists {
		return message, nil
	}
	edits := f.edits()
	if len(edits) == 0 {
		return message, nil
	}
	out := make([]byte, 0, len(message)+len(addedScope)+len(privateScope))
	return jsonscan.Replace(out, message, edits...), nil
}

// Keys of what matters. Their order is that of the cases below.
var (
	messageKeys = []string{"result"}
	resultKeys  = []string{"tools", "cacheScope", "ttlMs"}
	toolKeys    = []string{"name"}
)

// result reads what answers a request.
func (f *filter) result(int) error {
	if f.Peek() != '{' {
		return f.Skip()
	}
	err := f.Members(resultKeys, f.resultMember)
	f.resultEnd = f.Pos() - 1
	return err
}

func (f *filter) resultMember(key int) (err error) {
	switch key {
	case 0:
		f.lists = true
		return f.list()
	case 1:
		f.scope, err = f.Value()
	default:
		f.ttl, err = f.Value()
	}
	return err
}

// list reads the array of tools.
func (f *filter) list() error {
	if f.Peek() != '[' {
		return errNoList
	}
	if err := f.Enter('['); err != nil {
		return err
	}
	f.tools.Start = f.Pos()
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
			f.cut = true
			continue
		}
		if len(kept) > 0 {
			kept = append(kept, ',')
		}
		kept = append(kept, f.message[start:f.Pos()]...)
	}
	f.tools.End, f.tools.Text = f.Pos()-1, kept
	return nil
}

// tool reads one tool and reports whether the client may see it. One whose name
// is not certain is not shown.
func (f *filter) tool() (keep bool, err error) {
	if f.Peek() != '{' {
		return false, f.Skip()
	}
	var name []byte
	named := false
	certain, err := f.MembersAnyway(toolKeys, func(int) error {
		if f.Peek() != '"' {
			return f.Skip()
		}
		value, err := f.String()
		if err == nil {
			var uncertain error
			name, uncertain = value.Bytes()
			named = uncertain == nil
		}
		return err
	})
	return certain && named && f.allows(string(name)), err
}

// Texts of a scope that is this client's alone.
const (
	privateScope = `"private"`
	addedScope   = `,"cacheScope":` + privateScope
)

// edits returns what to change in a message that lists tools.
func (f *filter) edits() []jsonscan.Part {
	var edits []jsonscan.Part
	if f.cut {
		edits = append(edits, f.tools)
	}
	// A filtered list is this client's alone. Where no scope is given, a result
	// that may be kept is public.
	if !f.scope.None() {
		edits = append(edits, jsonscan.Part{Span: f.scope, Text: []byte(privateScope)})
	} else if !f.ttl.None() {
		at := jsonscan.Span{Start: f.resultEnd, End: f.resultEnd}
		edits = append(edits, jsonscan.Part{Span: at, Text: []byte(addedScope)})
	}
	if !f.ttl.None() && !shortTTL(f.ttl.Of(f.message)) {
		limit := strconv.FormatInt(MaxTTL.Milliseconds(), 10)
		edits = append(edits, jsonscan.Part{Span: f.ttl, Text: []byte(limit)})
	}
	return edits
}

// shortTTL reports whether a ttlMs is a number of at most MaxTTL.
func shortTTL(raw []byte) bool {
	ms, err := strconv.ParseFloat(string(raw), 64)
	return err == nil && ms <= float64(MaxTTL.Milliseconds())
}
