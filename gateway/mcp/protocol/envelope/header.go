package envelope

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// Stateless reports whether the message belongs to the stateless era.
func (e *Envelope) Stateless(h http.Header) bool {
	return protocol.IsStateless(protocol.First(h, protocol.HeaderVersion)) || protocol.IsStateless(e.Version)
}

// CheckHeader refuses a request whose headers contradict its body, and a request of the
// stateless era without a required header. The gateway decides on the body alone. But
// the server, and programs on the way to it, may use the headers, so the two must agree
// in any era. The error is an [*Error] with [protocol.CodeHeaderMismatch].
//
// The server judges a stateless request without a version in its body, since the
// specification prescribes its answer. It also judges Mcp-Param-… headers: the tool's
// schema says which arguments they repeat, which the gateway does not know, and no
// decision of the gateway depends on them.
//
// https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http#server-validation
func (e *Envelope) CheckHeader(h http.Header) error {
	for _, key := range [...]string{protocol.HeaderVersion, protocol.HeaderMethod, protocol.HeaderName} {
		if len(h[key]) > 1 {
			return e.mismatch("%s occurs twice", key)
		}
	}
	version, stateless := protocol.First(h, protocol.HeaderVersion), e.Stateless(h)
	if stateless && e.Version != "" && e.Version != version {
		return e.mismatch("%s does not match the version in params._meta", protocol.HeaderVersion)
	}
	// The specification defines no headers for notifications.
	required := stateless && e.Kind == Request
	if method := h[protocol.HeaderMethod]; len(method) > 0 && method[0] != e.Method {
		return e.mismatch("%s does not match the method", protocol.HeaderMethod)
	} else if len(method) == 0 && required {
		return e.mismatch("%s is required", protocol.HeaderMethod)
	}
	return e.checkName(h[protocol.HeaderName], required)
}

func (e *Envelope) checkName(header []string, required bool) error {
	switch e.Method {
	case protocol.MethodToolsCall, protocol.MethodPromptsGet, protocol.MethodResourcesRead:
	case protocol.MethodTasksGet, protocol.MethodTasksUpdate, protocol.MethodTasksCancel:
		required = required && e.Name != "" // the server says what is missing
	default:
		return nil // in extensions the header may repeat something else
	}
	if len(header) == 0 {
		if required {
			return e.mismatch("%s is required", protocol.HeaderName)
		}
		return nil
	}
	name, err := decodeHeader(header[0])
	if err != nil {
		return e.mismatch("%s is not valid base64", protocol.HeaderName)
	}
	if name != e.Name {
		return e.mismatch("%s does not match the params", protocol.HeaderName)
	}
	return nil
}

func (e *Envelope) mismatch(format string, args ...any) error {
	return &Error{
		Code:   protocol.CodeHeaderMismatch,
		Reason: "Header mismatch: " + fmt.Sprintf(format, args...),
		ID:     e.ID,
	}
}

// decodeHeader decodes the form =?base64?…?= of values that a header cannot hold. The
// markers are case-sensitive. It returns other values as they are.
func decodeHeader(value string) (string, error) {
	encoded, found := strings.CutPrefix(value, "=?base64?")
	if !found {
		return value, nil
	}
	if encoded, found = strings.CutSuffix(encoded, "?="); !found {
		return value, nil
	}
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	return string(decoded), err
}

// EncodeName returns the value of [protocol.HeaderName] for the name: the name itself, or
// the form =?base64?…?= where a header cannot hold the name, or where the name has that
// form.
func EncodeName(name string) string {
	if strings.HasPrefix(name, " ") || strings.HasSuffix(name, " ") || strings.HasPrefix(name, "=?base64?") {
		return encodeHeader(name)
	}
	for i := range len(name) {
		if c := name[i]; c < ' ' || c >= 0x7f {
			return encodeHeader(name)
		}
	}
	return name
}

func encodeHeader(value string) string {
	return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(value)) + "?="
}
