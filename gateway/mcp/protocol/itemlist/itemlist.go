// Package itemlist removes from a server's messages tools, prompts, resources and resource
// templates in lists, by the client's rules; these and other definitions of the server, by its
// pins; and notifications about resources. The check of the request
// protects an item; a filtered list keeps the client from trying, and its model from reading.
//
// It recognises a message by its shape, a result with tools, prompts and so on, and not by the
// request that it answers. So it works on any of the protocol's streams, and after any
// number of reconnections. It keeps all bytes but those of removed parts and of caching hints.
package itemlist

import (
	"errors"
	"strconv"
	"time"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// MaxTTL is the time for which a client may cache a filtered result. So a client has
// what it has lost for this long at most.
const MaxTTL = 30 * time.Second

// errNoList: the result's list is not an array, so the gateway cannot check it.
var errNoList = errors.New("the list is not an array")

// Filter decides which parts of a server's messages a client may have.
type Filter struct {
	Rules       *policy.Rules // the client's; nil: they let it have everything
	Definitions Definitions   // nil: everything that the server says passes

	Server string // its registered name
	Asked  Asked  // what the message answers
}

// Apply returns the server's message as the client may have it: without the entries of its
// lists that the rules do not allow, and without definitions that nobody has approved, of which
// it returns the number. It returns a message without any of these as it is, and nil for a
// notification about a resource that the client may not have. An error means that the caller
// must not forward the message.
func (f *Filter) Apply(message []byte) (filtered []byte, unapproved int, err error) {
	r, err := newRun(message)
	if err != nil {
		return nil, 0, err
	}
	r.filter = f
	r.guardLists()
	r.guardDefinitions()
	r.guard("cacheScope", func() (err error) {
		r.scope, err = r.Value()
		return err
	})
	r.guard("ttlMs", func() (err error) {
		r.ttl, err = r.Value()
		return err
	})
	if pass, err := r.read(); err != nil || !pass {
		return nil, r.unapproved, err
	}
	if r.judged {
		r.limitCaching()
	}
	if len(r.edits) == 0 {
		return message, r.unapproved, nil
	}
	out := make([]byte, 0, len(message)+len(addedScope)+len(privateScope))
	return jsonscan.Replace(out, message, r.edits...), r.unapproved, nil
}

// run is one run over one message.
type run struct {
	jsonscan.Scanner
	message []byte
	filter  *Filter

	keys    []string       // of the result's members that matter
	members []func() error // that read their values, in the order of the keys

	judged     bool // the result has something that is cut if the client may not have it
	unapproved int  // definitions that nobody has approved
	edits      []jsonscan.Part

	scope, ttl jsonscan.Span
	resultEnd  int // offset of the result's closing brace
}

func newRun(message []byte) (*run, error) {
	scanner, err := jsonscan.New(message)
	if err != nil {
		return nil, err
	}
	return &run{Scanner: scanner, message: message, filter: &Filter{}}, nil
}

// guard has member called to read the value of the result's member with the key.
func (r *run) guard(key string, member func() error) {
	r.keys, r.members = append(r.keys, key), append(r.members, member)
}

// Keys of the members that matter, in the order of the cases below.
var (
	messageKeys = []string{"result", "method", "params"}
	updatedKeys = []string{"uri"}
)

// read reads the message, and reports whether the client gets any of it.
func (r *run) read() (pass bool, err error) {
	var method, params jsonscan.Span
	err = r.Members(messageKeys, func(key int) (err error) {
		switch key {
		case 0:
			err = r.result()
		case 1:
			method, err = r.Value()
		default:
			params, err = r.Value()
		}
		return err
	})
	if err == nil {
		err = r.End()
	}
	if err != nil || method.None() || !r.filter.judgesUpdates() {
		return true, err
	}
	return r.notification(method, params)
}

// result reads the result of a response.
func (r *run) result() error {
	if r.Peek() != '{' {
		return r.Skip()
	}
	err := r.Members(r.keys, func(key int) error { return r.members[key]() })
	r.resultEnd = r.Pos() - 1
	return err
}

// judgesUpdates reports whether notifications about some resources do not pass.
func (f *Filter) judgesUpdates() bool {
	return f.Rules != nil && f.Rules.Resources != nil || f.Definitions != nil
}

// admits reports whether the client may hear of a resource.
func (f *Filter) admits(uri string) bool {
	return (f.Rules == nil || f.Rules.Resources == nil || f.Rules.Resources.Allows(uri)) &&
		(f.Definitions == nil || f.Definitions.Admits(pin.Resource, uri))
}

// notification reports whether the client gets a notification.
func (r *run) notification(method, params jsonscan.Span) (pass bool, err error) {
	if name, ok := jsonscan.Text(method.Of(r.message)); ok && name != protocol.MethodUpdated {
		return true, nil
	}
	if params.None() {
		return false, nil
	}
	of := r.At(params)
	err = of.MembersIfAny(updatedKeys, func(int) error {
		at, err := of.Value()
		uri, ok := jsonscan.Text(at.Of(r.message))
		pass = ok && r.filter.admits(uri)
		return err
	})
	return pass, err
}

// Texts of a cache scope for this client only.
const (
	privateScope = `"private"`
	addedScope   = `,"cacheScope":` + privateScope
)

func (r *run) replace(at jsonscan.Span, text string) {
	r.edits = append(r.edits, jsonscan.Part{Span: at, Text: []byte(text)})
}

// limitCaching has a filtered result cached by this client only, and not for long. A cacheable
// result without a scope is public.
func (r *run) limitCaching() {
	if !r.scope.None() {
		r.replace(r.scope, privateScope)
	} else if !r.ttl.None() {
		r.replace(jsonscan.Span{Start: r.resultEnd, End: r.resultEnd}, addedScope)
	}
	if !r.ttl.None() && !shortTTL(r.ttl.Of(r.message)) {
		r.replace(r.ttl, strconv.FormatInt(MaxTTL.Milliseconds(), 10))
	}
}

// shortTTL reports whether a ttlMs is a number of at most MaxTTL.
func shortTTL(raw []byte) bool {
	ms, err := strconv.ParseFloat(string(raw), 64)
	return err == nil && ms <= float64(MaxTTL.Milliseconds())
}
