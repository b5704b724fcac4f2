package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// examine returns the difference between our reading of a stream and that of others. With a step
// it is read in pieces as well; without a node Node is not asked.
func examine(in []byte, step int, n *node) error {
	requests, err := compareWithNetHTTP(in, step)
	if err != nil || n == nil || len(requests) == 0 {
		return err
	}
	readings, err := n.read([][][]byte{pieces(in, requests)})
	if err != nil {
		return err
	}
	return compareWithNode(in, requests, readings[0])
}

// compareWithNetHTTP reads a stream, and has net/http read each request where we take it to start.
// It returns all requests, those as well that no handler gets.
func compareWithNetHTTP(in []byte, step int) (all []received, err error) {
	ours := readAll(in, len(in)+1)
	if step > 0 {
		if err := compareReadings(ours, readAll(in, max(step, len(in)/256))); err != nil {
			return nil, fmt.Errorf("what is read depends on how it comes: %w", err)
		}
	}
	start := 0
	for i := 0; i < len(ours); {
		theirs, err := readTheirs(in, start)
		if err != nil {
			return nil, fmt.Errorf("net/http refuses what is accepted: %w", err)
		}
		if r := theirs.request; r.Method == http.MethodOptions && r.RequestURI == "*" && theirs.err == nil {
			all, start = append(all, *theirs), theirs.next // no handler gets it
			continue
		}
		if err := compareRequests(theirs, &ours[i]); err != nil {
			return nil, fmt.Errorf("net/http reads the request at %d in another way: %w", start, err)
		}
		if i++; ours[i-1].err != nil && i < len(ours) {
			return nil, errors.New("a request follows a body that is not valid")
		}
		all, start = append(all, ours[i-1]), theirs.next
	}
	return all, nil
}

// compareReadings compares two readings of our own.
func compareReadings(a, b []received) error {
	if len(a) != len(b) {
		return fmt.Errorf("%d requests and %d", len(a), len(b))
	}
	for i := range a {
		if err := errors.Join(compareRequests(&a[i], &b[i]), compareRequests(&b[i], &a[i])); err != nil {
			return err
		}
	}
	return nil
}

var cacheControl = regexp.MustCompile(`(?i)\ncache-control:`)

// readTheirs has net/http read the request that starts at a place in a stream.
func readTheirs(in []byte, start int) (*received, error) {
	rest := bytes.TrimPrefix(in[start:], []byte("\r\n"))
	if bytes.HasPrefix(rest, []byte("\r\n")) {
		return nil, errors.New("two empty lines are no request")
	}
	reader := bytes.NewReader(rest)
	buffered := bufio.NewReader(reader)
	request, err := http.ReadRequest(buffered)
	if err != nil {
		return nil, err
	}
	head, _, _ := bytes.Cut(rest, []byte("\r\n\r\n"))
	got := &received{request: request}
	got.body, got.err = io.ReadAll(request.Body)
	got.next = len(in) - reader.Len() - buffered.Buffered()
	header := request.Header
	delete(header, "Host") // http.Server deletes it
	if request.ProtoMinor == 0 {
		request.Close = true // keep-alive is not offered there
	}
	if header.Get("Pragma") == "no-cache" && len(header["Cache-Control"]) == 1 && !cacheControl.Match(head) {
		delete(header, "Cache-Control") // net/http has added it
	}
	return got, nil
}

// compareRequests compares a request as somebody else reads it with ours. We may refuse a body that
// others take, but must not wait for more of it.
func compareRequests(theirs, ours *received) error {
	a, b := theirs.request, ours.request
	for _, part := range []struct {
		name string
		same bool
	}{
		{"method", a.Method == b.Method},
		{"target", a.RequestURI == b.RequestURI && reflect.DeepEqual(a.URL, b.URL)},
		{"version", a.Proto == b.Proto && a.ProtoMajor == b.ProtoMajor && a.ProtoMinor == b.ProtoMinor},
		{"host", a.Host == b.Host},
		{"length", a.ContentLength == b.ContentLength && slices.Equal(a.TransferEncoding, b.TransferEncoding)},
		{"end of the connection", a.Close == b.Close},
		{"header", maps.EqualFunc(a.Header, b.Header, slices.Equal)},
		{"trailer", ours.err != nil || len(a.Trailer) == 0 && b.Trailer == nil},
		{"body", samePrefix(theirs.body, ours.body)},
		{"body's end", sameEnd(theirs, ours)},
	} {
		if !part.same {
			return fmt.Errorf("another %s: %+v, %q, %d, %w; ours: %+v, %q, %d, %w", part.name, a, theirs.body, theirs.next, theirs.err, b, ours.body, ours.next, ours.err)
		}
	}
	return nil
}

// samePrefix compares bodies as far as both have been read.
func samePrefix(a, b []byte) bool {
	n := min(len(a), len(b))
	return bytes.Equal(a[:n], b[:n])
}

func sameEnd(theirs, ours *received) bool {
	switch {
	case ours.err == nil:
		return theirs.err == nil && len(theirs.body) == len(ours.body) && theirs.next == ours.next
	case errors.Is(ours.err, io.ErrUnexpectedEOF):
		return theirs.err != nil
	default:
		return true
	}
}

// pieces cuts a stream where we take requests to end, and before the last byte of each.
func pieces(in []byte, requests []received) (all [][]byte) {
	start := 0
	for _, r := range requests {
		if r.err != nil {
			return append(all, in[start:])
		}
		all = append(all, in[start:r.next-1], in[r.next-1:r.next])
		start = r.next
	}
	return all
}

// compareWithNode compares requests with Node's reading of their pieces.
func compareWithNode(in []byte, requests []received, reading nodeReading) error {
	start := 0
	for i := range requests {
		ours := &requests[i]
		if i >= len(reading.messages) {
			if borneByUs(reading.refusal, in[:start], ours.request) {
				return nil
			}
			return fmt.Errorf("node refuses the request at %d (%s)", start, reading.refusal)
		}
		if err := compareMessages(&reading.messages[i], ours, 2*i); err != nil {
			if !reading.messages[i].complete && borneByUs(reading.refusal, in[:start], ours.request) {
				return nil
			}
			return fmt.Errorf("node reads the request at %d in another way: %w (%s)", start, err, reading.refusal)
		}
		start = ours.next
	}
	return nil
}

// compareMessages compares a request with Node's reading. Its last byte is the next piece.
func compareMessages(m *nodeMessage, ours *received, piece int) error {
	r := ours.request
	header := make(http.Header, len(m.header))
	for name, values := range m.header {
		header[name] = values
	}
	host := header["Host"]
	delete(header, "Host")
	if ours.request.ContentLength < 0 {
		delete(header, "Transfer-Encoding")
	}
	headEnd, complete := piece, ours.err == nil
	if complete && r.ContentLength == 0 {
		headEnd++
	}
	var same bool
	switch {
	case !complete && errors.Is(ours.err, io.ErrUnexpectedEOF):
		same = !m.complete && m.headEnd == headEnd
	case !complete:
		same = m.headEnd == headEnd
	default:
		same = m.complete && m.headEnd == headEnd && m.end == piece+1 && len(m.body) == len(ours.body)
	}
	switch {
	case m.method != r.Method || m.target != r.RequestURI || m.major != r.ProtoMajor || m.minor != r.ProtoMinor:
		return fmt.Errorf("another request line: %q %q", m.method, m.target)
	case !maps.EqualFunc(header, r.Header, slices.Equal):
		return fmt.Errorf("another header: %q; ours: %q", header, r.Header)
	case r.URL.Host == "" && r.Host != strings.Join(host, ","):
		return fmt.Errorf("another host: %q; ours: %q", host, r.Host)
	case !samePrefix([]byte(m.body), ours.body):
		return fmt.Errorf("another body: %q; ours: %q", m.body, ours.body)
	case !same:
		return fmt.Errorf("another end: %+v; ours: %d, %w", m, ours.next, ours.err)
	}
	return nil
}

// otherProtocols are methods that Node takes for those of RTSP and of Icecast, behind which it wants
// these protocols' names.
var otherProtocols = []string{
	"ANNOUNCE", "DESCRIBE", "FLUSH", "GET_PARAMETER", "PAUSE", "PLAY", "RECORD", "REDIRECT", "SETUP", "SET_PARAMETER", "SOURCE", "TEARDOWN",
}

var proxyConnection = regexp.MustCompile(`(?i)\nproxy-connection:.*close`)

// borneByUs lists what Node refuses and we do not, with the reason.
func borneByUs(refusal string, before []byte, r *http.Request) bool {
	if r.Method == "PRI" {
		return true // HTTP/2 begins with it, and Node waits for the rest of that
	}
	switch refusal {
	case "HPE_INVALID_METHOD": // it has a list of methods; ours is any token (RFC 9110, section 9.1)
		return true
	case "HPE_INVALID_CONSTANT":
		return slices.Contains(otherProtocols, r.Method)
	case "HPE_CLOSED_CONNECTION": // to Node, Proxy-Connection is Connection; it is no field of HTTP
		return proxyConnection.Match(before)
	}
	return false
}

// requireSame is for tests of single requests.
func requireSame(t *testing.T, theirs, ours *received) {
	t.Helper()
	require.NoError(t, compareRequests(theirs, ours))
}
