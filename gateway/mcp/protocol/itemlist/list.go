package itemlist

import (
	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// Judge returns the function that judges the entries of a list, by the names that they have on their
// server; nil if all of them pass.
func Judge(kind rewrite.Kind, rules *policy.Rules) func(name string) bool {
	switch {
	case rules == nil:
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

// entries are those of one kind of list.
type entries struct {
	names  []string               // the key of the member that names an entry
	allows func(name string) bool // nil: every name
	kind   pin.Kind               // of the definitions; "": none of them are judged
}

// guardLists has the lists judged about which there are rules or pins.
func (r *run) guardLists() {
	for kind := rewrite.Tools; kind <= rewrite.Templates; kind++ {
		r.guardList(kind, Judge(kind, r.filter.Rules))
	}
}

func (r *run) guardList(list rewrite.Kind, allows func(name string) bool) {
	of := entries{names: []string{list.NameMember()}, allows: allows}
	if r.pins(list.Definition()) {
		of.kind = list.Definition()
	}
	if of.allows != nil || of.kind != "" {
		r.guard(list.Member(), func() error {
			r.judged = true
			return r.list(func() (bool, error) { return r.entry(&of) })
		})
	}
}

// list reads an array, and cuts the entries that entry does not keep.
func (r *run) list(entry func() (keep bool, err error)) error {
	if r.Peek() != '[' {
		return errNoList
	}
	content, kept, cut := jsonscan.Span{Start: r.Pos() + len(`[`)}, []jsonscan.Span{}, false
	err := r.Each(func() error {
		start := r.Pos()
		keep, err := entry()
		if keep {
			kept = append(kept, jsonscan.Span{Start: start, End: r.Pos()})
		}
		cut = cut || !keep
		return err
	})
	if err == nil && cut {
		content.End = r.Pos() - len(`]`)
		r.edits = append(r.edits, jsonscan.Part{Span: content, Text: join(r.message, kept)})
	}
	return err
}

// join is the content of an array with the entries.
func join(message []byte, kept []jsonscan.Span) []byte {
	size := len(kept)
	for _, at := range kept {
		size += at.End - at.Start
	}
	text := make([]byte, 0, size)
	for i, at := range kept {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, at.Of(message)...)
	}
	return text
}

// entry reads one entry and reports whether the client may see it. It hides an entry whose
// name is ambiguous.
func (r *run) entry(of *entries) (keep bool, err error) {
	if r.Peek() != '{' {
		return false, r.Skip()
	}
	var name jsonscan.Span
	start := r.Pos()
	certain, err := r.MembersAnyway(of.names, func(int) (err error) {
		name, err = r.Value()
		return err
	})
	if err != nil || of.kind != "" && !r.approved(of.kind, r.message[start:r.Pos()]) {
		return false, err
	}
	return certain && of.allowed(name.Of(r.message)), nil
}

// allowed reports whether the client may see the entry of that name, in JSON.
func (of *entries) allowed(raw []byte) bool {
	if of.allows == nil {
		return true
	}
	name, named := jsonscan.Text(raw)
	return named && of.allows(name)
}
