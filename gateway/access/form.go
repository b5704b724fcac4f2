package access

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// checkForm refuses requests that no MCP client sends, and requests that two HTTP parsers
// in a row could read in two ways. The framing check looks for Content-Length beside
// Transfer-Encoding, since net/http has dropped one of them by now.
func checkForm(r *http.Request, maxBody int64) *Refusal {
	switch {
	case !plainTarget(r):
		return badRequest("the request target is neither a path nor an http or https URL")
	case len(r.Trailer) > 0:
		return badRequest("trailers are not supported")
	case len(r.TransferEncoding) > 1 || len(r.TransferEncoding) == 1 && r.TransferEncoding[0] != "chunked":
		return badRequest("a transfer coding other than chunked is not supported")
	}
	if f := checkHeaders(r.Header); f != nil {
		return f
	}
	switch r.Method {
	case http.MethodPost:
		if r.ContentLength > maxBody {
			return BodyRefusal(errBodyTooLarge)
		}
	case http.MethodGet, http.MethodDelete:
		if r.ContentLength != 0 {
			return badRequest(r.Method + " with a body")
		}
	}
	return nil
}

// checkMethod refuses the methods that no MCP client uses.
func checkMethod(r *http.Request) *Refusal {
	switch r.Method {
	case http.MethodPost, http.MethodGet, http.MethodDelete:
		return nil
	}
	return &Refusal{
		Status:  http.StatusMethodNotAllowed,
		Reason:  ReasonBadRequest,
		Detail:  "method",
		Message: "Use POST, GET or DELETE.",
		Allow:   "POST, GET, DELETE",
	}
}

// plainTarget reports whether the request target is a path, or a whole URL, as a
// proxy may send it. The host of a URL counts instead of the Host header (RFC
// 9112, section 3.2.2), and net/http has put it there.
func plainTarget(r *http.Request) bool {
	if r.RequestURI == "*" || r.URL.Opaque != "" || r.URL.User != nil || r.Method == http.MethodConnect {
		return false
	}
	if r.URL.Scheme == "" {
		return r.URL.Host == ""
	}
	return (r.URL.Scheme == "http" || r.URL.Scheme == "https") && r.URL.Host != ""
}

// dropAmbiguousHeaders drops the headers whose names programs do not agree on.
// Those behind CGI and its likes read "Mcp-Session_Id" as "Mcp-Session-Id", and
// some read every other character that is not a letter or digit so.
func dropAmbiguousHeaders(header http.Header) {
	for name := range header {
		if !PlainHeader(name) {
			delete(header, name)
		}
	}
}

// PlainHeader reports whether a header's name holds only letters, digits and "-",
// so that all programs read it alike.
func PlainHeader(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// checkHeaders passes over Upgrade: many proxies and clients offer another
// protocol with each request, and a server that does not want it ignores that
// (RFC 9110, section 7.8). The gateway makes its own request to the server, so
// nothing of the offer reaches it.
func checkHeaders(header http.Header) *Refusal {
	for name, values := range header {
		switch name {
		case "Connection":
			for _, value := range values {
				if !plainConnection(value) {
					return badRequest("the Connection header names a header that belongs to the request")
				}
			}
		case "Content-Encoding":
			if len(values) > 1 || !strings.EqualFold(values[0], "identity") {
				return &Refusal{
					Status:  http.StatusUnsupportedMediaType,
					Reason:  ReasonBadRequest,
					Detail:  "Content-Encoding",
					Message: "Send the body without a content encoding.",
				}
			}
		default:
			if len(values) > 1 && single(name) {
				return badRequest("more than one " + name + " header")
			}
		}
	}
	return nil
}

// single reports whether a header may stand in a request only once.
func single(name string) bool {
	switch name {
	case "Authorization", "Content-Type", "Last-Event-Id", "Origin":
		return true
	}
	return protocol.IsHeader(name)
}

// plainConnection reports whether a Connection header names nothing but options
// and headers of the connection itself. With others a client could make an
// intermediary remove a header that another one relies on.
func plainConnection(value string) bool {
	for option := range strings.SplitSeq(value, ",") {
		switch strings.ToLower(strings.TrimSpace(option)) {
		case "", "close", "keep-alive", "upgrade", "http2-settings", "te", "proxy-connection":
		default:
			return false
		}
	}
	return true
}

// Errors of reading a request's body.
var (
	errBodyTooLarge = errors.New("the body is too large")
	errTrailers     = errors.New("the body has trailers")
	errExpired      = errors.New("the token expired before the body was complete")
)

// body bounds a request's body, and refuses trailers that no header announced. A request
// begins when its body is complete: one whose token has expired by then is refused, and can
// be sent again with the next one.
type body struct {
	io.ReadCloser
	request *http.Request
	left    int64
	hold    *grants.Hold // nil: the request needs no token
}

func (b *body) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if int64(n) > b.left {
		return 0, errBodyTooLarge
	}
	b.left -= int64(n)
	switch {
	case !errors.Is(err, io.EOF):
	case len(b.request.Trailer) > 0:
		return n, errTrailers
	case b.hold != nil && b.hold.HasExpired():
		return n, errExpired
	}
	return n, err
}

// BodyRefusal is the answer to a request whose body could not be read.
func BodyRefusal(err error) *Refusal {
	var f *Refusal
	if errors.As(err, &f) { // of [Request.Reserve]
		f.hangUp = true // the rest of the body is not waited for
		return f
	}
	if errors.Is(err, errBodyTooLarge) {
		return &Refusal{
			Status:  http.StatusRequestEntityTooLarge,
			Reason:  ReasonBadRequest,
			Detail:  err.Error(),
			Message: "The request's body is too large.",
		}
	}
	if errors.Is(err, errTrailers) {
		return badRequest("trailers are not supported")
	}
	if errors.Is(err, errExpired) {
		f := invalidToken(ReasonInactiveToken)
		f.Detail = err.Error()
		return f
	}
	return badRequest("the body could not be read")
}
