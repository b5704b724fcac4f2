package http1

import (
	"bytes"
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"vault-plugin-secrets-mcp/gateway/http1/wire"
)

// problem is a reason not to take a request. Its answer ends the connection.
type problem struct {
	status int
	text   string
}

func (p *problem) Error() string { return strconv.Itoa(p.status) + " " + p.text }

func bad(text string) *problem { return &problem{http.StatusBadRequest, text} }

var (
	errRequestLine = bad("the request line is not valid")
	errField       = bad(wire.ErrField.Error())
	errCut         = bad("the request ends within its header")
	errTooLarge    = &problem{http.StatusRequestHeaderFieldsTooLarge, "the header is too large"}
)

// problemOf is what a client gets to know of an error of package wire.
func problemOf(err error) *problem {
	switch {
	case errors.Is(err, wire.ErrFirstLine):
		return errRequestLine
	case errors.Is(err, wire.ErrTooMany):
		return errTooLarge
	}
	return bad(err.Error())
}

// head is a request's header, read.
type head struct {
	request http.Request
	hosts   int // fields
	chunked bool
	expects bool // 100-continue
}

// parseHead reads a whole header. It changes the bytes: names get their canonical form.
func parseHead(b []byte, h *head) error {
	line := bytes.IndexByte(b, '\n') + 1
	var some [32]wire.Field
	fields, err := wire.SplitFields(b, line, some[:0])
	if err != nil {
		return problemOf(err)
	}
	text := string(b) // all strings of the request are parts of this one
	if err = h.requestLine(text[:line-2]); err == nil {
		err = h.fields(text, fields)
	}
	if err == nil {
		err = h.check()
	}
	return err
}

// requestLine reads the first line. Targets have no byte beyond ASCII (RFC 3986, section 2), and no
// fragment (RFC 9112, section 3.2).
func (h *head) requestLine(line string) error {
	for i := range len(line) {
		if c := line[i]; c < ' ' || c >= 0x7f || c == '#' {
			return errRequestLine
		}
	}
	method, rest, ok := strings.Cut(line, " ")
	target, version, found := strings.Cut(rest, " ")
	if !ok || !found || target == "" || !httpguts.ValidHeaderFieldName(method) {
		return errRequestLine
	}
	r := &h.request
	if r.ProtoMajor, r.ProtoMinor, ok = http.ParseHTTPVersion(version); !ok {
		return errRequestLine
	} else if r.ProtoMajor != 1 || r.ProtoMinor > 1 {
		return &problem{http.StatusHTTPVersionNotSupported, "use HTTP/1.1"}
	}
	if method == http.MethodConnect {
		return &problem{http.StatusMethodNotAllowed, "this server is no proxy"}
	}
	var err error
	if r.URL, err = url.ParseRequestURI(target); err != nil || !validTarget(target, r.URL) {
		return errRequestLine
	}
	r.Method, r.RequestURI, r.Proto = method, target, version
	return nil
}

// validTarget refuses what is neither a path, nor a star, nor a URL of HTTP (RFC 9112, section 3.2),
// and names and passwords in it (RFC 9110, section 4.2.4). Other parsers do not take them all.
func validTarget(target string, u *url.URL) bool {
	return target[0] == '/' || target == "*" ||
		(u.Scheme == "http" || u.Scheme == "https") && u.User == nil && u.Host != "" && httpguts.ValidHostHeader(u.Host)
}

// fields makes the map of the header. The values of all fields share one array. Host has a place of
// its own.
func (h *head) fields(text string, fields []wire.Field) error {
	header, values := make(http.Header, max(len(fields)-1, 0)), make([]string, len(fields))
	for i := range fields {
		name, value := fields[i].Name(text), fields[i].Value(text)
		if !httpguts.ValidHeaderFieldValue(value) || fields[i].Tabbed && (name == "Content-Length" || name == "Transfer-Encoding") {
			return errField // to some parsers, such as Node's, a tab is part of the value
		}
		if name == "Host" {
			h.hosts++
			h.request.Host = value
			continue
		}
		if had := header[name]; had != nil {
			header[name] = append(had, value)
			continue
		}
		values[i] = value
		header[name] = values[i : i+1 : i+1]
	}
	h.request.Header = header
	return nil
}

// check sets what the fields say of the request itself, and refuses what could be understood in
// two ways.
func (h *head) check() error {
	r := &h.request
	if h.hosts > 1 || h.hosts < r.ProtoMinor || !httpguts.ValidHostHeader(r.Host) {
		return bad("exactly one valid Host header is needed")
	}
	r.Host = cmp.Or(r.URL.Host, r.Host)
	if r.Header["Trailer"] != nil {
		return bad("trailers are not supported")
	}
	if err := h.framing(); err != nil {
		return err
	}
	r.Close = r.ProtoMinor == 0 || httpguts.HeaderValuesContainsToken(r.Header["Connection"], "close")
	switch expect := r.Header["Expect"]; {
	case len(expect) == 0:
	case len(expect) > 1 || !strings.EqualFold(expect[0], "100-continue"):
		return &problem{http.StatusExpectationFailed, "the only expectation is 100-continue"}
	default:
		h.expects = r.ProtoMinor > 0 && r.ContentLength != 0
	}
	return nil
}

// framing reads where the body ends (RFC 9112, section 6.3).
func (h *head) framing() error {
	r := &h.request
	lengths, codings := r.Header["Content-Length"], r.Header["Transfer-Encoding"]
	switch {
	case len(codings) > 0 && len(lengths) > 0:
		return bad("Content-Length and Transfer-Encoding exclude each other")
	case len(codings) > 0 && r.ProtoMinor == 0:
		return bad("HTTP/1.0 has no Transfer-Encoding")
	case len(codings) > 1 || len(codings) == 1 && !strings.EqualFold(codings[0], "chunked"):
		return &problem{http.StatusNotImplemented, "the only transfer coding is chunked"}
	case len(codings) == 1:
		delete(r.Header, "Transfer-Encoding")
		r.TransferEncoding, r.ContentLength, h.chunked = []string{"chunked"}, -1, true
	case len(lengths) > 0:
		n, err := strconv.ParseUint(lengths[0], 10, 63) // takes no sign
		if err != nil || len(lengths) > 1 {
			return bad("the Content-Length is not valid")
		}
		r.ContentLength = int64(n)
	}
	return nil
}
