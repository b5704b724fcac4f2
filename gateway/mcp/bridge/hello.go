package bridge

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
)

// sharedHandshake is that of channels that all clients share.
var sharedHandshake = sha256.Sum256([]byte("shared"))

// handshake is the beginning of a channel with sessions. The first session's
// goes to the server; the others hear the same answer.
type handshake struct {
	mu        sync.Mutex
	begun     bool
	confirmed bool // the server was told that the client is ready

	done    chan struct{} // closed when the answer is there
	once    sync.Once
	answer  []byte // the server's, with the channel's id
	id      envelope.Span
	version envelope.Span // in the answer's result
	refused bool          // the answer is an error, of this code
	code    int
	err     error // there is no answer: the server is gone
}

// errNoHello is a timeout to who asks.
var errNoHello = fmt.Errorf("the server has not answered the handshake: %w", os.ErrDeadlineExceeded)

// finish sets the outcome. The first one counts.
func (h *handshake) finish(answer []byte, e *envelope.Envelope, err error) {
	h.once.Do(func() {
		h.err = err
		if err == nil {
			h.answer, h.id, h.refused, h.code = clone(answer), e.ID, e.Failed, e.ErrorCode
			h.version = versionIn(h.answer)
		}
		close(h.done)
	})
}

// fail tells that there is no answer.
func (h *handshake) fail(err error) { h.finish(nil, nil, err) }

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
		p.awaitHello()
		if !p.bridge.Shared {
			return p.helloCall(s, in)
		}
		go p.greetForAll()
	}
	select {
	case <-p.hello.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p.hello.err != nil {
		return nil, p.hello.err
	}
	c := newCall(p, s, in)
	c.queue.put(p.hello.item(c, in, p.bridge.Shared))
	return c, nil
}

// awaitHello ends a channel whose server does not answer the handshake in time.
func (p *peer) awaitHello() {
	if p.bridge.HelloTimeout <= 0 {
		return
	}
	timer := time.AfterFunc(p.bridge.HelloTimeout, func() { p.finish(errNoHello, true) })
	go func() {
		<-p.hello.done
		timer.Stop()
	}()
}

// item is the server's answer, for one client's handshake.
func (h *handshake) item(c *Call, in Incoming, shared bool) Item {
	parts := [2]envelope.Part{{Span: h.id, Text: c.clientID}}
	if asked := versionAsked(in); shared && asked != "" && !h.version.None() {
		if answered := string(h.version.Of(h.answer)); asked < answered && isSessionVersion(answered) {
			parts[1] = envelope.Part{Span: h.version, Text: []byte(asked)}
		}
	}
	return Item{Message: envelope.Replace(nil, h.answer, parts[:]...), Final: true, Failed: h.refused, Code: h.code}
}

// versionAsked is the version that the client asks for, quoted; "" if it is not one
// that the gateway knows.
func versionAsked(in Incoming) string {
	var params struct {
		Version string `json:"protocolVersion"`
	}
	if in.Envelope.Params.None() || json.Unmarshal(in.Envelope.Params.Of(in.Message), &params) != nil {
		return ""
	}
	if !protocol.IsSessionVersion(params.Version) {
		return ""
	}
	return strconv.Quote(params.Version)
}

func isSessionVersion(quoted string) bool {
	version, err := strconv.Unquote(quoted)
	return err == nil && protocol.IsSessionVersion(version)
}

// versionIn finds the version, with its quotes, in a server's answer to the handshake.
func versionIn(answer []byte) envelope.Span {
	s, err := jsonscan.New(answer)
	if err != nil || !member(&s, "result") || !member(&s, "protocolVersion") || s.Peek() != '"' {
		return envelope.Span{}
	}
	start := s.Pos()
	if s.Skip() != nil {
		return envelope.Span{}
	}
	return envelope.Span{Start: start, End: s.Pos()}
}

// member steps to the value of a member of the object that comes next, and reports
// whether there is one.
func member(s *jsonscan.Scanner, name string) bool {
	if s.Enter('{') != nil {
		return false
	}
	for first := true; ; first = false {
		key, more, err := s.Member(first)
		if err != nil || !more {
			return false
		}
		if key.Is(name) {
			return true
		}
		if s.Skip() != nil {
			return false
		}
	}
}

// helloCall sends the client's own handshake.
func (p *peer) helloCall(s *Session, in Incoming) (*Call, error) {
	c := newCall(p, s, in)
	c.hello = func(answer []byte, e *envelope.Envelope) { p.hello.finish(answer, e, nil) }
	err := p.register(c)
	if err == nil {
		err = c.send(in)
	}
	if err != nil {
		p.hello.fail(err)
		return nil, err
	}
	return c, nil
}

// greetForAll shakes hands in the gateway's own name, so that what one client is
// binds no other: with the newest version that the server takes, and without
// capabilities, since what the server would ask a client, it could ask any of them.
func (p *peer) greetForAll() {
	for i, version := range protocol.SessionVersions {
		answer, e, err := p.offer(version)
		switch {
		case err != nil:
			p.hello.fail(err)
			return
		case e.Failed && i < len(protocol.SessionVersions)-1:
			continue // there are servers that refuse a version instead of naming another
		}
		p.hello.finish(answer, e, nil)
		if e.Failed {
			p.end(ErrRefused)
			return
		}
		break
	}
	if p.hello.confirm() {
		_ = p.send(protocol.Notification(protocol.MethodInitialized, nil)) // an error has ended the channel
	}
}

// offer has the server say what it thinks of a version.
func (p *peer) offer(version string) ([]byte, *envelope.Envelope, error) {
	var answer []byte
	var of envelope.Envelope
	answered := make(chan struct{})
	c := &Call{peer: p, queue: newQueue(), hello: func(m []byte, e *envelope.Envelope) {
		answer, of = clone(m), *e
		close(answered)
	}}
	if err := p.register(c); err != nil {
		return nil, nil, err
	}
	message := protocol.Request(idText(c.id), protocol.MethodInitialize, protocol.InitializeParams(version, clientInfo))
	if err := p.send(message); err != nil {
		return nil, nil, err
	}
	select {
	case <-answered:
		return answer, &of, nil
	case <-p.hello.done: // the channel has ended
		return nil, nil, p.hello.err
	}
}

// clientInfo is the gateway's name for itself.
var clientInfo = protocol.Implementation("mcp-gateway", "1")

func idText(id int64) []byte { return strconv.AppendInt(nil, id, 10) }
