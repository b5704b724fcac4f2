package direct

import (
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

const (
	// headSize is the size of the buffer for the head of a request. A body that has room there as
	// well is sent with it.
	headSize = 8 << 10

	// sendPiece is how much of a body TLS encrypts at once, in bytes.
	sendPiece = 64 << 10

	// blockPatience is how long a server may take nothing before somebody else sends the rest.
	blockPatience = 20 * time.Millisecond

	// sentPatience bounds the wait for a message to be sent whose answer is read: it may be gone
	// already, and whoever has sent it not yet awake.
	sentPatience = 50 * time.Millisecond
)

var heads = sync.Pool{New: func() any { return new([headSize]byte) }}

// sending is a request on its way.
type sending struct {
	written bool        // something of it is on the way
	whole   bool        // all of it is; not before the helper has ended
	head    []byte      // of it, in a buffer from heads
	rest    [2][]byte   // with TLS, the bytes to be encrypted
	out     net.Buffers // the next bytes for the socket
	vector  [2][]byte   // that out is a part of
	helper  *helper     // nil: whoever asks sends
}

// helper sends the rest of a request.
type helper struct{ done chan struct{} }

// ask sends the request. Where the server takes no more at present, a helper does so meanwhile.
func (c *conn) ask(q question, wait time.Duration) error {
	c.sending = sending{head: q.appendHead(heads.Get().(*[headSize]byte)[:0])}
	body := q.Body
	if len(c.head)+len(body) <= headSize {
		c.head, body = append(c.head, body...), nil
	}
	if c.tls != nil {
		c.rest = [2][]byte{c.head, body}
		c.hold()
	} else {
		c.vector = [2][]byte{c.head, body}
		c.out = c.vector[:]
	}
	err := c.push(blockPatience, false)
	if late(err) {
		c.startHelper(q.Memory, wait)
		return nil
	}
	c.sent(err, wait)
	return err
}

func (c *conn) startHelper(memory Memory, wait time.Duration) {
	h := &helper{done: make(chan struct{})}
	c.helper = h
	if memory != nil {
		memory.Retain()
	}
	go func() {
		defer close(h.done)
		err := c.push(wait, true)
		if memory != nil {
			memory.Release()
		}
		c.sent(err, wait)
	}()
}

// sent ends the sending, and begins the wait for the answer.
func (c *conn) sent(err error, wait time.Duration) {
	if cap(c.head) == headSize {
		heads.Put((*[headSize]byte)(c.head[:headSize]))
	}
	c.head, c.rest, c.out, c.vector = nil, [2][]byte{}, nil, [2][]byte{}
	c.whole = err == nil
	switch {
	case late(err):
		wait = -1
	case err != nil:
		wait = unsentPatience
	}
	c.expect(wait, time.Now())
}

// push writes the rest of the request, until the server takes nothing for so long; 0: for ever.
// While it takes something, only a helper has more patience.
func (c *conn) push(patience time.Duration, helper bool) error {
	end := time.Now().Add(patience)
	if helper {
		c.writeUntil(end, patience)
	}
	for {
		if more, err := c.more(); !more {
			return err
		}
		n, err := c.out.WriteTo(c.Conn)
		c.written = c.written || n > 0
		if err != nil && !late(err) {
			return err
		}
		if now := time.Now(); helper && n > 0 {
			end = now.Add(patience)
		} else if err != nil && patience > 0 && !now.Before(end) {
			return os.ErrDeadlineExceeded
		}
		if err != nil {
			c.writeUntil(end, patience)
		}
	}
}

// writeUntil sets the deadline of writes.
func (c *conn) writeUntil(end time.Time, patience time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if patience == 0 {
		end = time.Time{}
	}
	c.stray = true
	_ = c.SetWriteDeadline(end)
}

// more reports whether there is something to be written.
func (c *conn) more() (bool, error) {
	if c.tls == nil || len(c.out) > 0 {
		return len(c.out) > 0, nil
	}
	for i, b := range c.rest {
		if len(b) > 0 {
			n, err := c.tls.Write(b[:min(len(b), sendPiece)])
			if c.rest[i] = b[n:]; err != nil {
				return false, err
			}
			break
		}
	}
	c.vector[0] = c.collected(len(c.rest[0])+len(c.rest[1]) == 0)
	if c.out = nil; len(c.vector[0]) > 0 {
		c.out = c.vector[:1]
	}
	return len(c.out) > 0, nil
}

// isSent reports whether all of the request is.
func (c *conn) isSent() bool {
	return (c.helper == nil || c.awaitSent()) && c.whole
}

// awaitSent waits a little for the helper, and reports whether it has ended.
func (c *conn) awaitSent() bool {
	select {
	case <-c.helper.done:
		return true
	default:
	}
	patience := time.NewTimer(sentPatience)
	defer patience.Stop()
	select {
	case <-c.helper.done:
		return true
	case <-patience.C:
		return false
	}
}

// awaitHelper waits for the helper's end, after that of the connection.
func (c *conn) awaitHelper() {
	if c.helper != nil {
		<-c.helper.done
	}
}

// question is a request to a server.
type question struct {
	*Request
	target string // of it, its version and Host, as they are sent
	once   bool   // the connection ends with the answer
}

// appendHead writes the head of the request. A name that is not valid is left out, and no value brings
// a line of its own.
func (q question) appendHead(b []byte) []byte {
	b = append(append(b, q.Method...), q.target...)
	for name, values := range q.Header {
		switch name {
		case "Connection", "Content-Length", "Host", "Trailer", "Transfer-Encoding":
			continue
		}
		if !httpguts.ValidHeaderFieldName(name) {
			continue
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				value = strings.Map(printable, value)
			}
			b = append(append(append(append(b, name...), ": "...), strings.Trim(value, " \t")...), "\r\n"...)
		}
	}
	if q.once {
		b = append(b, "Connection: close\r\n"...)
	}
	if q.Body != nil || q.Method == http.MethodPost {
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), int64(len(q.Body)), 10), "\r\n"...)
	}
	return append(b, "\r\n"...)
}

func printable(c rune) rune {
	if c < ' ' && c != '\t' || c == 0x7f {
		return ' '
	}
	return c
}
