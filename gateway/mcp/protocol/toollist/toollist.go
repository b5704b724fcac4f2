// Package toollist removes tools that a client may not call from the lists of servers.
// The check of the call protects a tool; a filtered list keeps the client from trying.
//
// It recognises a list by its shape, a result with tools, and not by the request that it
// answers. So it works on any of the protocol's streams, and after any number of
// reconnections. It keeps all bytes but those of removed tools and of caching hints.
package toollist

import (
	"errors"
	"strconv"
	"time"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// MaxTTL is the time for which a client may cache a filtered list. So a client lists a
// tool that it has lost for this long at most.
const MaxTTL = 30 * time.Second

// errNoList: the result's tools are not an array, so the gateway cannot check them.
var errNoList = errors.New("the list of tools is not an array")

// filter is one run over one message.
type filter struct {
	jsonscan.Scanner
	message []byte
	allows  func(tool string) bool

	lists bool          // the result has tools
	cut   bool          // some of them are removed
	tools jsonscan.Part // the array's content, and its filtered form

	scope, ttl jsonscan.Span
	resultEnd  int // offset of the result's closing brace
}

// Filter returns the server's message without the tools in its list that allows
// rejects. It returns a message without a list of tools as it is. An error means that
// the caller must not forward the message.
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

// Keys of the members that matter, in the order of the cases below.
var (
	messageKeys = []string{"result"}
	resultKeys  = []string{"tools", "cacheScope", "ttlMs"}
	toolKeys    = []string{"name"}
)

// result reads the result of a response.
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

// tool reads one tool and reports whether the client may see it. It hides a tool whose
// name is ambiguous.
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

// Texts of a cache scope for this client only.
const (
	privateScope = `"private"`
	addedScope   = `,"cacheScope":` + privateScope
)

// edits returns the changes to a message with a list of tools.
func (f *filter) edits() []jsonscan.Part {
	var edits []jsonscan.Part
	if f.cut {
		edits = append(edits, f.tools)
	}
	// A filtered list is for this client only. A cacheable result without a scope
	// is public.
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
