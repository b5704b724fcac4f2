package bridge

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strconv"
	"sync"

	"vault-plugin-secrets-mcp/gateway/mcp/envelope"
)

// sharedHandshake is that of channels that all clients share.
var sharedHandshake = sha256.Sum256([]byte("shared"))

// handshake is the beginning of a channel with sessions. The first session's
// goes to the server; the others hear the same answer.
type handshake struct {
	mu        sync.Mutex
	begun     bool
	confirmed bool // the server was told that the client is ready

	done   chan struct{} // closed when the answer is there
	once   sync.Once
	answer []byte // the server's, with the channel's id
	id     envelope.Span
	err    error // the server refused, or is gone
}

var errRefused = errors.New("the server has refused the handshake")

// finish sets the outcome. The first one counts.
func (h *handshake) finish(answer []byte, e envelope.Envelope, err error) {
	h.once.Do(func() {
		h.answer, h.id, h.err = clone(answer), e.ID, err
		if e.Failed {
			h.err = errRefused
		}
		close(h.done)
	})
}

// begin reports whether the caller is the first, who shakes hands.
func (h *handshake) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := !h.begun
	h.begun = true
	return first
}

// confirm reports whether the server has still to be told that the client is
// ready.
func (h *handshake) confirm() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := !h.confirmed
	h.confirmed = true
	return first
}

// greet shakes hands with the server for a new session, or repeats what it
// answered.
func (p *peer) greet(ctx context.Context, s *Session, in Incoming) (*Call, error) {
	if p.hello.begin() {
		if !p.bridge.Shared {
			return p.helloCall(s, in)
		}
		go p.greetForAll(in)
	}
	select {
	case <-p.hello.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p.hello.err != nil && !errors.Is(p.hello.err, errRefused) {
		return nil, p.hello.err
	}
	c := newCall(p, s, in)
	c.queue.put(Item{
		Message: envelope.Replace(nil, p.hello.answer, envelope.Part{Span: p.hello.id, Text: c.clientID}),
		Final:   true,
		Failed:  p.hello.err != nil,
	})
	return c, nil
}

// helloCall sends the client's own handshake.
func (p *peer) helloCall(s *Session, in Incoming) (*Call, error) {
	c := newCall(p, s, in)
	c.hello = true
	err := p.register(c)
	if err == nil {
		err = c.send(in)
	}
	if err != nil {
		p.hello.finish(nil, envelope.Envelope{}, err)
		return nil, err
	}
	return c, nil
}

// greetForAll shakes hands in the gateway's own name, with the version that the
// first client asked for, and without capabilities: what the server would ask a
// client, it could ask any of them.
func (p *peer) greetForAll(in Incoming) {
	var params struct {
		Version string `json:"protocolVersion"`
	}
	if !in.Envelope.Params.None() {
		// What cannot be read is left to the server to refuse.
		_ = json.Unmarshal(in.Envelope.Params.Of(in.Message), &params)
	}
	c := &Call{peer: p, queue: newQueue(), hello: true}
	if err := p.register(c); err != nil {
		p.hello.finish(nil, envelope.Envelope{}, err)
		return
	}
	version, err := json.Marshal(params.Version)
	if err != nil { // strings always marshal
		version = []byte(`""`)
	}
	message := append([]byte(`{"jsonrpc":"2.0","id":`), idText(c.id)...)
	message = append(message, `,"method":"initialize","params":{"protocolVersion":`...)
	message = append(message, version...)
	message = append(message, `,"capabilities":{},"clientInfo":`+clientInfo+`}}`...)
	if err := p.send(message); err != nil {
		return // the channel has ended, and the handshake with it
	}
	<-p.hello.done
	if p.hello.err == nil && p.hello.confirm() {
		_ = p.send([]byte(`{"jsonrpc":"2.0","method":"` + methodInitialized + `"}`))
	}
}

// clientInfo is what the gateway calls itself.
const clientInfo = `{"name":"mcp-gateway","version":"1"}`

func idText(id int64) []byte { return strconv.AppendInt(nil, id, 10) }
