package mcp

import (
	"net/http"
	"strconv"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// reasonMethod is a reason of a refusal, for the audit log: see methodNotAllowed.
const reasonMethod = "method-not-allowed"

// IsItemReason reports whether a request was refused for a tool, a prompt or a resource that
// the client may not have.
func IsItemReason(reason string) bool {
	switch reason {
	case policy.ToolNotAllowed, policy.PromptNotAllowed, policy.ResourceNotAllowed,
		access.ReasonToolNotApproved, access.ReasonPromptNotApproved, access.ReasonResourceNotApproved:
		return true
	}
	return false
}

// ruled holds the methods that a client with rules may use, and every client of a server whose
// pins are enforced. What they do is known: of all of them, those that itemOf knows, and
// subscriptions/listen, reach an item. Those about tasks reach what a call has begun, and
// openTasks judges the call's tool. Anything else might be another way to an item.
var ruled = map[string]bool{
	protocol.MethodInitialize:    true,
	protocol.MethodPing:          true,
	protocol.MethodDiscover:      true,
	protocol.MethodListen:        true,
	protocol.MethodToolsList:     true,
	protocol.MethodToolsCall:     true,
	protocol.MethodPromptsList:   true,
	protocol.MethodPromptsGet:    true,
	protocol.MethodResourcesList: true,
	protocol.MethodResourcesRead: true,
	protocol.MethodTemplatesList: true,
	protocol.MethodSubscribe:     true,
	protocol.MethodUnsubscribe:   true,
	protocol.MethodComplete:      true,
	protocol.MethodSetLevel:      true,
	protocol.MethodTasksGet:      true,
	protocol.MethodTasksResult:   true,
	protocol.MethodTasksUpdate:   true,
	protocol.MethodTasksCancel:   true,
	protocol.MethodTasksList:     true,
	protocol.MethodInitialized:   true,
	protocol.MethodCancelled:     true,
	protocol.MethodProgress:      true,
	protocol.MethodRootsChanged:  true,
}

// item is a tool, a prompt or a resource that a message names.
type item struct {
	kind    policy.Item // "": it is not clear what the message names
	name    string      // of a resource: its URI
	clear   bool        // the name can be read, and in one way only
	pattern bool        // the name may be a URI template, of which any expansion is meant
}

// itemOf returns what the message names; false if its method names nothing. A completion is
// about the prompt or the template whose arguments it completes.
func itemOf(e *envelope.Envelope, message []byte) (item, bool) {
	switch e.Method {
	case protocol.MethodToolsCall:
		return item{kind: policy.Tool, name: e.Name, clear: true}, true
	case protocol.MethodPromptsGet:
		return item{kind: policy.Prompt, name: e.Name, clear: true}, true
	case protocol.MethodResourcesRead:
		return item{kind: policy.Resource, name: e.Name, clear: true}, true
	case protocol.MethodSubscribe, protocol.MethodUnsubscribe:
		return itemAt(policy.Resource, e.URI, message), true
	case protocol.MethodComplete:
		switch {
		case e.RefName.None() == e.RefURI.None():
			return item{}, true
		case e.RefURI.None():
			return itemAt(policy.Prompt, e.RefName, message), true
		}
		i := itemAt(policy.Resource, e.RefURI, message)
		i.pattern = true
		return i, true
	}
	return item{}, false
}

// itemAt returns the item whose name is the string at that place.
func itemAt(kind policy.Item, at envelope.Span, message []byte) item {
	i := item{kind: kind}
	if !at.None() {
		i.name, i.clear = jsonscan.Text(at.Of(message))
	}
	return i
}

// allowedBy reports whether the rules let the client have the item. Where there are rules
// about its kind, they do not without a clear name.
func (i *item) allowedBy(rules *policy.Rules) bool {
	switch {
	case rules == nil:
		return true
	case i.kind == policy.Tool:
		return rules.Tools == nil || i.clear && rules.Tools.Allows(i.name)
	case i.kind == policy.Prompt:
		return rules.Prompts == nil || i.clear && rules.Prompts.Allows(i.name)
	case i.kind == "":
		return rules.Prompts == nil && rules.Resources == nil
	case i.pattern:
		return rules.Resources == nil || i.clear && rules.Resources.AllowsTemplate(i.name)
	}
	return rules.Resources == nil || i.clear && rules.Resources.Allows(i.name)
}

// rule refuses a message that the client's rules or the server's pins do not let pass. The client gets the
// same answer from every server, and cannot tell an item that it may not have from one that is
// not there. What passes is cut if the client's next rules do not admit it. Other pins cut
// nothing: the tool was approved when it was called.
func (x *exchange) rule() *access.Refusal {
	if x.body == nil || x.message.Kind == envelope.Response {
		return nil
	}
	i, names := itemOf(&x.message, x.body.data)
	switch {
	case x.rules == nil && x.pins == nil:
	case (x.rules != nil || x.enforced) && !ruled[x.message.Method]:
		return x.ruledOut(x.methodNotAllowed())
	case x.message.Method == protocol.MethodListen:
		return x.ruleListen()
	case names:
		if f := x.ruleItem(&i); f != nil {
			return f
		}
	}
	if names && i.clear && !i.pattern {
		return x.request.Uses(x.grant, i.kind, i.name)
	}
	return nil
}

// ruleItem refuses an item that the client may not have.
func (x *exchange) ruleItem(i *item) *access.Refusal {
	switch {
	case !i.allowedBy(x.rules):
		return x.ruledOut(i.notAllowed())
	case x.pins == nil || i.approvedBy(x.pins):
	case x.enforced:
		return x.ruledOut(i.notApproved())
	default:
		x.request.Unapproved(1)
	}
	return nil
}

// ruleListen refuses a subscriptions/listen that asks for changes of a resource that the
// client may not have.
func (x *exchange) ruleListen() *access.Refusal {
	byRules, pinned := x.rules != nil && x.rules.Resources != nil, x.pins.Pins(pin.Resource)
	if !byRules && !pinned {
		return nil
	}
	uris, err := rewrite.Subscriptions(&x.message, x.body.data)
	if err != nil && !byRules && !x.enforced {
		return nil
	}
	if err != nil {
		return x.ruledOut((&item{}).notAllowed())
	}
	for _, uri := range uris {
		if f := x.ruleItem(&item{kind: policy.Resource, name: uri, clear: true}); f != nil {
			return f
		}
	}
	return nil
}

// notAllowed is the refusal of a message for what it names.
func (i *item) notAllowed() *access.Refusal {
	f := &access.Refusal{Status: http.StatusOK, Code: protocol.CodeInvalidParams}
	switch i.kind {
	case policy.Tool:
		f.Reason, f.Message = policy.ToolNotAllowed, "This tool is not available to this client."
	case policy.Prompt:
		f.Reason, f.Message = policy.PromptNotAllowed, "This prompt is not available to this client."
	case policy.Resource:
		f.Reason, f.Message = policy.ResourceNotAllowed, "This resource is not available to this client."
	default:
		f.Reason, f.Message = reasonMessage, "The params do not name one prompt or resource."
		return f
	}
	f.Detail = string(i.kind) + " " + strconv.Quote(access.AuditedName(i.kind, i.name))
	return f
}

// methodNotAllowed is the refusal of a method of which it is not known what it reaches.
func (x *exchange) methodNotAllowed() *access.Refusal {
	f := &access.Refusal{
		Status:  http.StatusOK,
		Reason:  reasonMethod,
		Detail:  "method " + strconv.Quote(access.Bounded(x.message.Method)),
		Code:    protocol.CodeMethodNotFound,
		Message: "This method is not available to this client.",
	}
	if x.stateless {
		f.Status = http.StatusNotFound
	}
	return f
}

// ruledOut makes f the answer to the exchange's message.
func (x *exchange) ruledOut(f *access.Refusal) *access.Refusal {
	f.RPCID = x.id()
	if x.message.Kind == envelope.Notification {
		f.Status = http.StatusAccepted // nobody waits for an answer
	}
	return f
}
