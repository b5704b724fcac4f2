package syslog

import (
	"strconv"

	"vault-plugin-secrets-mcp/gateway/config"
)

// framing says where one message ends and the next begins.
type framing int

const (
	octetCounting framing = iota // RFC 6587 section 3.4.1, RFC 5425 section 4.3
	lineFeed                     // RFC 6587 section 3.4.2; no message has a line feed in it
	datagrams
)

func framingOf(socketType string) framing {
	switch socketType {
	case config.SocketUnix:
		return lineFeed
	case config.SocketUnixDatagram:
		return datagrams
	}
	return octetCounting
}

// batch is the messages that are sent together.
type batch struct {
	text    []byte
	ends    []int  // of each message in text
	sent    int    // messages
	scratch []byte // one message
}

func (b *batch) add(f framing, h *header, m *Message) {
	b.scratch = h.append(b.scratch[:0], m)
	if f == octetCounting {
		b.text = strconv.AppendInt(b.text, int64(len(b.scratch)), 10)
		b.text = append(b.text, ' ')
	}
	b.text = append(b.text, b.scratch...)
	if f == lineFeed {
		b.text = append(b.text, '\n')
	}
	b.ends = append(b.ends, len(b.text))
}

// left is how many messages are not sent yet.
func (b *batch) left() int { return len(b.ends) - b.sent }

// start is where the first message begins that is not sent.
func (b *batch) start() int {
	if b.sent == 0 {
		return 0
	}
	return b.ends[b.sent-1]
}

// skip leaves the first message out.
func (b *batch) skip() { b.sent++ }

// advance notes that all messages are sent that end at or before the place.
func (b *batch) advance(to int) {
	for b.left() > 0 && b.ends[b.sent] <= to {
		b.sent++
	}
}

// maxKept is how much space a batch keeps for the next, in bytes.
const maxKept = 1 << 20

func (b *batch) reset() {
	b.sent = 0
	if cap(b.text)+8*cap(b.ends) > maxKept {
		b.text, b.ends = nil, nil
		return
	}
	b.text, b.ends = b.text[:0], b.ends[:0]
}
