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

// sharedHandshake is in the key of channels that all clients share.
var sharedHandshake = sha256.Sum256([]byte("shared"))

// handshake is the initialize request of a channel with sessions. The first session's
// goes to the server; the other sessions get the same answer.
type handshake struct {
	mu    sync.Mutex
	begun bool

	confirmed bool // the server got the notification "initialized"; guarded by channel.mu

	request *Incoming     // that the server got, where its connection may be replaced; else nil
	done    chan struct{} // closed when the answer is there
	once    sync.Once
	answer  []byte // the server's, with the channel's id
	id      envelope.Span
	version envelope.Span // in the answer's result
	refused bool          // the answer is an error, of this code
	code    int
	err     error // there is no answer: the server is gone
}

// errNoHandshake counts as a timeout.
var errNoHandshake = fmt.Errorf("the server has not answered the handshake: %w", os.ErrDeadlineExceeded)

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

// fail ends the handshake without an answer.
func (h *handshake) fail(err error) { h.finish(nil, nil, err) }

// begin reports whether the caller is the first. The first sends the handshake.
func (h *handshake) begin() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	first := !h.begun
	h.begun = true
	return first
}

// initialize sends a new session's handshake to the server, or repeats the answer to
// an earlier one.
func (ch *channel) initialize(ctx context.Context, s *Session, in Incoming) (*Call, error) {
	if ch.handshake.begin() {
		ch.awaitHandshake()
		if !ch.bridge.Shared {
			return ch.initializeCall(s, in)
		}
		go ch.initializeForAll()
	}
	select {
	case <-ch.handshake.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if ch.handshake.err != nil {
		return nil, unsent(ch.handshake.err)
	}
	c := newCall(ch, s, in)
	c.queue.put(ch.handshake.item(c, in, ch.bridge.Shared))
	return c, nil
}

// awaitHandshake ends a channel whose server does not answer the handshake in time.
func (ch *channel) awaitHandshake() {
	if ch.bridge.HandshakeTimeout <= 0 {
		return
	}
	timer := time.AfterFunc(ch.bridge.HandshakeTimeout, func() { ch.finish(errNoHandshake, true) })
	go func() {
		<-ch.handshake.done
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

// versionAsked is the version that the client asks for, quoted; "" if the gateway
// does not know it.
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

// versionIn finds the version, with its quotes, in a server's answer to the handshake. It
// finds none where the answer could be read in two ways.
func versionIn(answer []byte) (version envelope.Span) {
	s, err := jsonscan.New(answer)
	if err != nil {
		return envelope.Span{}
	}
	err = s.Members([]string{"result"}, func(int) error {
		return s.MembersIfAny([]string{"protocolVersion"}, func(int) (err error) {
			if s.Peek() != '"' {
				return s.Skip()
			}
			version, err = s.Value()
			return err
		})
	})
	if err != nil {
		return envelope.Span{}
	}
	return version
}

// initializeCall sends the client's own handshake.
func (ch *channel) initializeCall(s *Session, in Incoming) (*Call, error) {
	c := newCall(ch, s, in)
	c.onHandshake = func(answer []byte, e *envelope.Envelope) { ch.handshake.finish(answer, e, nil) }
	err := ch.register(c, &in)
	if err == nil && c.connection.credentials != nil {
		ch.handshake.request = in.clone()
	}
	if err == nil {
		err = c.send(in)
	}
	if err != nil {
		ch.handshake.fail(err)
		return nil, err
	}
	return c, nil
}

// initializeForAll sends the handshake in the gateway's own name, so that no client's
// properties bind another: with the newest version that the server accepts, and
// without capabilities, since the server could send its requests to any client.
func (ch *channel) initializeForAll() {
	for i, version := range protocol.SessionVersions {
		answer, e, err := ch.offer(version)
		switch {
		case err != nil:
			ch.handshake.fail(err)
			return
		case e.Failed && i < len(protocol.SessionVersions)-1:
			continue // some servers refuse a version instead of offering another
		}
		ch.handshake.finish(answer, e, nil)
		if e.Failed {
			ch.end(ErrRefused)
			return
		}
		break
	}
	_ = ch.confirm(protocol.Notification(protocol.MethodInitialized, nil)) // an error has ended the channel
}

// offer sends the server a handshake with this version, and returns the answer.
func (ch *channel) offer(version string) ([]byte, *envelope.Envelope, error) {
	var answer []byte
	var of envelope.Envelope
	answered := make(chan struct{})
	c := &Call{channel: ch, queue: newQueue(), onHandshake: func(m []byte, e *envelope.Envelope) {
		answer, of = clone(m), *e
		close(answered)
	}}
	if err := ch.register(c, nil); err != nil {
		return nil, nil, err
	}
	message := protocol.Request(idText(c.id), protocol.MethodInitialize, protocol.InitializeParams(version, clientInfo, nil))
	if err := c.connection.send(message); err != nil {
		return nil, nil, err
	}
	select {
	case <-answered:
		return answer, &of, nil
	case <-ch.handshake.done: // the channel has ended
		return nil, nil, ch.handshake.err
	}
}

// clientInfo is the gateway's name for itself.
var clientInfo = protocol.Implementation("mcp-gateway", "1")

func idText(id int64) []byte { return strconv.AppendInt(nil, id, 10) }
