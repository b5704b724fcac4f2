package direct

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"vault-plugin-secrets-mcp/gateway/http1/wire"
)

// What is wrong with an answer. None of it is quoted: it may hold anything.
var (
	errHeaderSize = errors.New("the header of the server's answer is too large")
	errStatus     = errors.New("the server's answer does not begin with a status line of HTTP/1.1")
	errField      = errors.New("the header of the server's answer has a line that is not valid")
	errFraming    = errors.New("the server's answer does not say in one way where it ends")
)

// errorOf is an error of package wire, said of a server's answer.
func errorOf(err error) error {
	switch {
	case errors.Is(err, wire.ErrTooMany):
		return errHeaderSize
	case errors.Is(err, wire.ErrField):
		return errField
	case errors.Is(err, wire.ErrFirstLine):
		return errStatus
	}
	return fmt.Errorf("the header of the server's answer: %w", err)
}

// answer is that of a server.
type answer struct {
	http.Response
	body body
}

// parse reads a whole header. It changes the bytes: names get their canonical form. All strings of the
// answer are parts of one copy.
func (a *answer) parse(b []byte, method string) error {
	first := bytes.IndexByte(b, '\n') + 1
	var some [16]wire.Field
	fields, err := wire.SplitFields(b, first, some[:0])
	if err != nil {
		return errorOf(err)
	}
	text := string(b)
	if !a.statusLine(text[:first-2]) {
		return errStatus
	}
	if !a.fields(text, fields) {
		return errField
	}
	return a.framing(method)
}

// statusLine reads the first line (RFC 9112, section 4).
func (a *answer) statusLine(line string) bool {
	const version = "HTTP/1.1"
	if len(line) < len("HTTP/1.1 200") || line[:7] != version[:7] || line[7] != '0' && line[7] != '1' || line[8] != ' ' {
		return false
	}
	code := line[9:12]
	for i := range code {
		if code[i] < '0' || code[i] > '9' {
			return false
		}
	}
	if len(line) > 12 && line[12] != ' ' || code[0] == '0' || !httpguts.ValidHeaderFieldValue(line) {
		return false
	}
	a.Proto, a.ProtoMajor, a.ProtoMinor = line[:8], 1, int(line[7]-'0')
	a.Status, a.StatusCode = line[9:], int(code[0]-'0')*100+int(code[1]-'0')*10+int(code[2]-'0')
	return true
}

// fields makes the map of the header. The values of all fields share one array.
func (a *answer) fields(text string, fields []wire.Field) bool {
	header, values := make(http.Header, len(fields)), make([]string, len(fields))
	for i := range fields {
		name, value := fields[i].Name(text), fields[i].Value(text)
		if !httpguts.ValidHeaderFieldValue(value) {
			return false
		}
		if had := header[name]; had != nil {
			header[name] = append(had, value)
			continue
		}
		values[i] = value
		header[name] = values[i : i+1 : i+1]
	}
	a.Header = header
	return true
}

// framing reads where the body ends (RFC 9112, section 6.3).
func (a *answer) framing(method string) error {
	lengths, codings := a.Header["Content-Length"], a.Header["Transfer-Encoding"]
	length := int64(-1)
	if len(lengths) > 0 {
		n, err := strconv.ParseUint(lengths[0], 10, 63) // it takes no sign
		if err != nil || len(lengths) > 1 {
			return errFraming
		}
		length = int64(n)
	}
	chunked := len(codings) > 0
	if chunked && (len(codings) > 1 || a.ProtoMinor == 0 || !strings.EqualFold(codings[0], "chunked")) {
		return errFraming
	}
	a.Close = a.ProtoMinor == 0 || a.StatusCode < 200 || httpguts.HeaderValuesContainsToken(a.Header["Connection"], "close")
	bodiless := a.StatusCode < 200 || a.StatusCode == http.StatusNoContent
	switch {
	case bodiless || a.StatusCode == http.StatusNotModified || method == http.MethodHead:
		// Whatever is said of a body, none follows.
		a.Close = a.Close || bodiless && (length > 0 || chunked)
		if a.ContentLength = 0; method == http.MethodHead && !chunked {
			a.ContentLength = length
		}
	case chunked:
		// Whoever says both may be understood in another way by somebody else.
		a.Close = a.Close || length >= 0
		delete(a.Header, "Content-Length")
		a.ContentLength, a.TransferEncoding = -1, chunkedCoding
		a.body.form = inChunks
	case length >= 0:
		a.ContentLength, a.body.left = length, length
	default:
		a.ContentLength, a.Close = -1, true
		a.body.form = toTheEnd
	}
	delete(a.Header, "Transfer-Encoding")
	return nil
}

var chunkedCoding = []string{"chunked"}
