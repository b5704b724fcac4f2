// Package itemlist removes tools, prompts, resources and resource templates that a client may
// not have from the lists of servers, and drops notifications about such resources. The check
// of the request protects an item; a filtered list keeps the client from trying.
//
// It recognises a list by its shape, a result with tools, prompts and so on, and not by the
// request that it answers. So it works on any of the protocol's streams, and after any number
// of reconnections. It keeps all bytes but those of removed entries and of caching hints.
package itemlist

import (
	"errors"
	"strconv"
	"time"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// MaxTTL is the time for which a client may cache a filtered list. So a client lists an
// item that it has lost for this long at most.
const MaxTTL = 30 * time.Second

// errNoList: the result's list is not an array, so the gateway cannot check it.
var errNoList = errors.New("the list is not an array")

// filter is one run over one message.
type filter struct {
	jsonscan.Scanner
	message   []byte
	resources *policy.Filter // judges notifications; nil: all of them pass

	keys   []string // of the result: those of judged lists, and two more
	judged []judged // in the order of their keys

	lists bool            // the result has a judged list
	cuts  []jsonscan.Part // the content of arrays, and its filtered form

	scope, ttl jsonscan.Span
	resultEnd  int // offset of the result's closing brace
}

// judged is a kind of list whose entries are judged.
type judged struct {
	key    string // of the member that names an entry
	allows func(name string) bool
}

// Filter returns the server's message as the rules let the client have it: without the
// entries of its lists that they do not allow. It returns a message without a list as it is,
// and nil for a notification about a resource that they do not allow. An error means that the
// caller must not forward the message.
func Filter(message []byte, rules *policy.Rules) ([]byte, error) {
	return filtered(message, rules.Resources, func(kind rewrite.Kind) func(string) bool { return Judge(kind, rules) })
}

// filtered is Filter with the rules about resources, and what judges the entries of a list;
// nil if all of them pass.
func filtered(message []byte, resources *policy.Filter, judge func(rewrite.Kind) func(string) bool) ([]byte, error) {
	scanner, err := jsonscan.New(message)
	if err != nil {
		return nil, err
	}
	f := &filter{Scanner: scanner, message: message, resources: resources}
	for kind := rewrite.Tools; kind <= rewrite.Templates; kind++ {
		if allows := judge(kind); allows != nil {
			f.keys, f.judged = append(f.keys, kind.Member()), append(f.judged, judged{kind.NameMember(), allows})
		}
	}
	f.keys = append(f.keys, "cacheScope", "ttlMs")
	if pass, err := f.read(); err != nil || !pass {
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

// Judge returns what judges the entries of a list, by the names that they have on their
// server; nil if all of them pass.
func Judge(kind rewrite.Kind, rules *policy.Rules) func(name string) bool {
	switch {
	case kind == rewrite.Tools && rules.Tools != nil:
		return rules.Tools.Allows
	case kind == rewrite.Prompts && rules.Prompts != nil:
		return rules.Prompts.Allows
	case kind == rewrite.Resources && rules.Resources != nil:
		return rules.Resources.Allows
	case kind == rewrite.Templates && rules.Resources != nil:
		return rules.Resources.AllowsTemplate
	}
	return nil
}

// Keys of the members that matter, in the order of the cases below.
var (
	messageKeys = []string{"result", "method", "params"}
	updatedKeys = []string{"uri"}
)

// read reads the message, and reports whether the client gets any of it.
func (f *filter) read() (pass bool, err error) {
	var method, params jsonscan.Span
	err = f.Members(messageKeys, func(key int) (err error) {
		switch key {
		case 0:
			err = f.result()
		case 1:
			method, err = f.Value()
		default:
			params, err = f.Value()
		}
		return err
	})
	if err == nil {
		err = f.End()
	}
	if err != nil || f.resources == nil || method.None() {
		return true, err
	}
	return f.notification(method, params)
}

// notification reports whether the client gets a notification.
func (f *filter) notification(method, params jsonscan.Span) (pass bool, err error) {
	if name, ok := jsonscan.Text(method.Of(f.message)); ok && name != protocol.MethodUpdated {
		return true, nil
	}
	if params.None() {
		return false, nil
	}
	of := filter{Scanner: f.At(params), message: f.message}
	err = of.MembersIfAny(updatedKeys, func(int) error {
		at, err := of.Value()
		uri, ok := jsonscan.Text(at.Of(f.message))
		pass = ok && f.resources.Allows(uri)
		return err
	})
	return pass, err
}

// result reads the result of a response.
func (f *filter) result() error {
	if f.Peek() != '{' {
		return f.Skip()
	}
	err := f.Members(f.keys, f.resultMember)
	f.resultEnd = f.Pos() - 1
	return err
}

func (f *filter) resultMember(key int) (err error) {
	switch key - len(f.judged) {
	case 0:
		f.scope, err = f.Value()
	case 1:
		f.ttl, err = f.Value()
	default:
		f.lists = true
		return f.list(&f.judged[key])
	}
	return err
}

// list reads an array of entries.
func (f *filter) list(of *judged) error {
	if f.Peek() != '[' {
		return errNoList
	}
	if err := f.Enter('['); err != nil {
		return err
	}
	content, kept, cut := jsonscan.Span{Start: f.Pos()}, []byte{}, false
	for first := true; ; first = false {
		more, err := f.Element(first)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		start := f.Pos()
		keep, err := f.entry(of)
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
	if cut {
		content.End = f.Pos() - 1
		f.cuts = append(f.cuts, jsonscan.Part{Span: content, Text: kept})
	}
	return nil
}

// entry reads one entry and reports whether the client may see it. It hides an entry whose
// name is ambiguous.
func (f *filter) entry(of *judged) (keep bool, err error) {
	if f.Peek() != '{' {
		return false, f.Skip()
	}
	var name string
	named := false
	keys := [...]string{of.key}
	certain, err := f.MembersAnyway(keys[:], func(int) error {
		at, err := f.Value()
		name, named = jsonscan.Text(at.Of(f.message))
		return err
	})
	return certain && named && of.allows(name), err
}

// Texts of a cache scope for this client only.
const (
	privateScope = `"private"`
	addedScope   = `,"cacheScope":` + privateScope
)

// edits returns the changes to a message with a judged list.
func (f *filter) edits() []jsonscan.Part {
	edits := f.cuts
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
