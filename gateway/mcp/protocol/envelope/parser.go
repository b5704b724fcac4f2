package envelope

import (
	"strconv"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// parser is one run over one message.
type parser struct {
	jsonscan.Scanner
	out Envelope

	versioned, nullID              bool
	hasParams, hasResult, hasError bool

	name, uri       jsonscan.String // params' members of these names,
	hasName, hasURI bool            // if they are strings

	task    jsonscan.String // params.taskId, if it is a string
	oddTask bool            // params has a key that some parsers take for taskId
}

// scope is an object in which keys are guarded.
type scope uint8

const (
	inMessage scope = iota
	inParams
	inMeta // params._meta
	inRef  // params.ref, of completion/complete
	inError
	inResult
	inResultMeta
)

// String names the scope in errors.
func (sc scope) String() string {
	switch sc {
	case inMessage:
		return "the message"
	case inParams:
		return "params"
	case inMeta:
		return "params._meta"
	case inRef:
		return "params.ref"
	case inError:
		return "error"
	case inResult:
		return "result"
	default:
		return "result._meta"
	}
}

// guarded returns the keys that no other key of the scope may resemble.
func (sc scope) guarded() []string {
	switch sc {
	case inMessage:
		return messageKeys
	case inParams:
		return paramsKeys
	case inMeta, inResultMeta:
		return metaKeys
	case inRef:
		return refKeys
	case inError:
		return errorKeys
	default:
		return nil // no decision depends on a result
	}
}

var (
	messageKeys = []string{"jsonrpc", "id", "method", "params", "result", "error"}
	paramsKeys  = []string{"name", "uri", "ref", "_meta"}
	metaKeys    = []string{
		protocol.MetaProtocolVersion, protocol.MetaSubscriptionID, protocol.MetaProgressToken, protocol.MetaRelatedTask,
		protocol.MetaClientCapabilities,
	}
	refKeys   = []string{"type", "name", "uri"}
	errorKeys = []string{"code"}
)

// object reads the next object, refuses keys that could be read in two ways, and calls
// member for each member.
func (p *parser) object(sc scope) error {
	if p.Peek() != '{' {
		return invalid("%s must be an object", sc)
	}
	o, err := p.Object(sc.guarded())
	if err != nil {
		return err
	}
	var seen keySet
	for {
		_, more, err := p.Next(&o)
		if err != nil || !more {
			return err
		}
		if wrong := o.Ambiguous(); wrong != nil {
			return invalid("%s has %s", sc, wrong.Has)
		}
		if sc != inResult {
			if err := seen.add(o.Key, sc); err != nil {
				return err
			}
		}
		if err := p.member(sc, o.Key); err != nil {
			return err
		}
	}
}

// member reads the value of one member.
func (p *parser) member(sc scope, key []byte) error {
	switch sc {
	case inMessage:
		return p.messageMember(key)
	case inParams:
		return p.paramsMember(key)
	case inMeta:
		return p.metaMember(key)
	case inRef:
		return p.refMember(key)
	case inError:
		return p.errorMember(key)
	case inResult:
		if string(key) == "_meta" && p.Peek() == '{' {
			return p.object(inResultMeta)
		}
	case inResultMeta:
		switch string(key) {
		case protocol.MetaSubscriptionID:
			return p.span(&p.out.SubscriptionID)
		case protocol.MetaRelatedTask:
			return p.span(&p.out.RelatedTask)
		}
	}
	return p.Skip()
}

func (p *parser) messageMember(key []byte) error {
	switch string(key) {
	case "jsonrpc":
		if p.Peek() != '"' {
			return invalid(`"jsonrpc" must be "2.0"`)
		}
		version, err := p.String()
		p.versioned = version.Is("2.0")
		return err
	case "id":
		return p.id()
	case "method":
		return p.method()
	case "params":
		p.hasParams = true
		if p.Peek() == 'n' {
			return p.Skip() // null counts as absent
		}
		start := p.Pos()
		err := p.object(inParams)
		p.out.Params = Span{Start: start, End: p.Pos()}
		return err
	case "result":
		p.hasResult = true
		if p.Peek() == '{' {
			return p.object(inResult)
		}
	case "error":
		p.hasError, p.out.Failed = true, true
		return p.object(inError)
	}
	return p.Skip()
}

func (p *parser) id() error {
	switch p.Peek() {
	case '"', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
	case 'n':
		p.nullID = true
	default:
		return invalid(`"id" must be a string or a number`)
	}
	return p.span(&p.out.ID)
}

func (p *parser) method() error {
	if p.Peek() != '"' {
		return invalid(`"method" must be a string`)
	}
	value, err := p.String()
	if err != nil {
		return err
	}
	method, err := value.Bytes()
	if err != nil {
		return invalid(`"method": %v`, err)
	}
	if len(method) == 0 {
		return invalid(`"method" must not be empty`)
	}
	p.out.Method = protocol.Intern(method)
	return nil
}

func (p *parser) paramsMember(key []byte) error {
	switch string(key) {
	case "name":
		if p.Peek() == '"' {
			p.hasName = true
			return p.text(&p.name, &p.out.NameAt)
		}
	case "uri":
		if p.Peek() == '"' {
			p.hasURI = true
			return p.text(&p.uri, &p.out.URI)
		}
	case "_meta":
		if p.Peek() == '{' {
			return p.object(inMeta)
		}
	case "ref":
		if p.Peek() == '{' {
			return p.object(inRef)
		}
	case "taskId":
		if p.Peek() == '"' {
			return p.text(&p.task, &p.out.TaskID)
		}
	case "task":
		p.out.AsksTask = true
	case "requestId":
		return p.span(&p.out.RequestID)
	case "progressToken":
		return p.span(&p.out.ProgressToken)
	case "requestState":
		return p.span(&p.out.RequestState)
	case "inputResponses":
		return p.span(&p.out.InputResponses)
	default: // no guarded key, since methods that are nobody's may have one like it
		p.oddTask = p.oddTask || jsonscan.Resembles(key, "taskId")
	}
	return p.Skip()
}

func (p *parser) metaMember(key []byte) error {
	switch string(key) {
	case protocol.MetaProtocolVersion:
		if p.Peek() != '"' {
			return invalid("%q in params._meta must be a string", protocol.MetaProtocolVersion)
		}
		value, err := p.String()
		if err != nil {
			return err
		}
		version, err := value.Bytes()
		if err != nil {
			return invalid("%q in params._meta: %v", protocol.MetaProtocolVersion, err)
		}
		p.out.Version = protocol.Intern(version)
		return nil
	case protocol.MetaClientCapabilities:
		return p.span(&p.out.Capabilities)
	case protocol.MetaProgressToken:
		return p.span(&p.out.MetaProgressToken)
	case protocol.MetaSubscriptionID:
		return p.span(&p.out.SubscriptionID)
	case protocol.MetaRelatedTask:
		return p.span(&p.out.RelatedTask)
	}
	return p.Skip()
}

func (p *parser) errorMember(key []byte) error {
	if string(key) != "code" {
		return p.Skip()
	}
	raw, err := p.Raw()
	if err != nil {
		return err
	}
	// The receiver judges a code that is not an integer.
	p.out.ErrorCode, _ = strconv.Atoi(string(raw))
	return nil
}

// refMember reads the reference of a completion.
func (p *parser) refMember(key []byte) error {
	if p.Peek() == '"' {
		switch string(key) {
		case "name":
			return p.span(&p.out.RefName)
		case "uri":
			return p.span(&p.out.RefURI)
		}
	}
	return p.Skip()
}

// text reads the next string, and stores its place.
func (p *parser) text(value *jsonscan.String, at *Span) (err error) {
	start := p.Pos()
	*value, err = p.String()
	*at = Span{Start: start, End: p.Pos()}
	return err
}

// span reads a value and stores its place.
func (p *parser) span(at *Span) error {
	value, err := p.Value()
	if err == nil {
		*at = value
	}
	return err
}
