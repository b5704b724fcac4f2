package mcp

import (
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/itemlist"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/names"
	"vault-plugin-secrets-mcp/gateway/pins"
)

// judgeNow returns the judge by the pins that the server has now: a stream may be older than they
// are. It is nil if there are none.
func (a *Answer) judgeNow() *pins.Judge { return a.handler.Judge(a.server) }

var notApprovedReasons = map[policy.Item]string{
	policy.Tool: access.ReasonToolNotApproved, policy.Prompt: access.ReasonPromptNotApproved, policy.Resource: access.ReasonResourceNotApproved,
}

// definitionsBy returns the judge of the definitions in the answer.
func (a *Answer) definitionsBy(judge *pins.Judge) itemlist.Definitions {
	if a.keepsInstructions {
		return butInstructions{judge}
	}
	return judge
}

// butInstructions leaves instructions to the caller of [Handler.Call].
type butInstructions struct{ *pins.Judge }

// Pins is false for instructions.
func (b butInstructions) Pins(kind pin.Kind) bool {
	return kind != pin.Instructions && b.Judge.Pins(kind)
}

var kinds = pin.Kinds()

// enforces reports whether some definitions must not pass without approval.
func enforces(judge *pins.Judge) bool {
	return judge != nil && slices.ContainsFunc(kinds, judge.Enforces)
}

// approvedBy reports whether somebody has approved a definition that the item names, or no
// definition of its kind needs an approval. A completion names a template, or a resource in its place.
func (i *item) approvedBy(judge *pins.Judge) bool {
	switch {
	case i.kind == policy.Tool:
		return judge.Names(pin.Tool, i.name)
	case i.kind == policy.Prompt:
		return !judge.Pins(pin.Prompt) || i.clear && judge.Names(pin.Prompt, i.name)
	case i.kind == "":
		return !judge.Pins(pin.Prompt) && !judge.Pins(pin.Template)
	case i.pattern:
		return !judge.Pins(pin.Template) || i.clear && (judge.Names(pin.Template, i.name) || judge.Pins(pin.Resource) && judge.Names(pin.Resource, i.name))
	}
	return !judge.Pins(pin.Resource) || i.clear && judge.Names(pin.Resource, i.name)
}

// notApproved is the refusal of a message for the item that it names. A client gets it for a name that
// the server does not have, too.
func (i *item) notApproved() *access.Refusal {
	f := i.notAllowed()
	if reason := notApprovedReasons[i.kind]; reason != "" {
		f.Reason, f.Message = reason, "This "+string(i.kind)+" is not available here: nobody has approved its definition."
	}
	return f
}

// asked is what the answer's messages answer. On a stream that is no answer to a read, a server
// could answer any of the client's requests, also one for a page.
func (x *exchange) asked() itemlist.Asked {
	switch scheme := len(names.UIScheme); {
	case x.message.Method != protocol.MethodResourcesRead:
		return itemlist.AskedAnything
	case len(x.message.Name) >= scheme && strings.EqualFold(x.message.Name[:scheme], names.UIScheme):
		return itemlist.AskedPage
	}
	return itemlist.AskedOther
}
