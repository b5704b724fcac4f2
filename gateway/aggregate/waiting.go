package aggregate

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/aggregate/messages"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/envelope"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
	"vault-plugin-secrets-mcp/gateway/seal"
)

// Bounds of waiting calls. Each keeps a request to its server open. A client without sessions that
// gives up does not say so, hence the time: a person who fills in a form takes minutes, and most
// servers do not wait for longer than one. Beyond the bound of a principal, the call that has waited
// for the longest time ends; beyond the gateway's, nothing more is asked.
const (
	maxWaiting            = 1024
	maxWaitingOfPrincipal = 16
	maxWait               = 10 * time.Minute
)

const errWaiting = messages.QuestionError("Too many calls at this gateway wait for answers of their clients.")

// reasonAnswer is the reason of refusals, for the audit log.
const reasonAnswer = "unknown-question"

// waitingCalls are the calls of this gateway that wait for answers of their clients. The client
// keeps a sealed text for each, requestState. It is bound to the principal, to the registration of
// the server and to the call, and opens one round of questions at this gateway. Another gateway does
// not know the call.
type waitingCalls struct {
	sealer            *seal.Sealer
	most, ofPrincipal int
	wait              time.Duration

	mu          sync.Mutex
	byRound     map[[sha256.Size]byte]*waitingCall
	byPrincipal map[grants.Principal][]*waitingCall // the one that has waited for the longest time first
	closed      bool
}

// waitingCall is one round of questions of a call.
type waitingCall struct {
	*askableCall
	principal grants.Principal
	round     [sha256.Size]byte // a digest of what the client keeps
	timer     *time.Timer
}

func newWaitingCalls(sealer *seal.Sealer) *waitingCalls {
	return &waitingCalls{
		sealer: sealer, most: maxWaiting, ofPrincipal: maxWaitingOfPrincipal, wait: maxWait,
		byRound: make(map[[sha256.Size]byte]*waitingCall), byPrincipal: make(map[grants.Principal][]*waitingCall),
	}
}

// boundTo is what a requestState is bound to: the principal, the server and the call.
func boundTo(principal grants.Principal, serverID string, m *mcp.Message) ([]byte, error) {
	digest, err := digestOf(m)
	if err != nil {
		return nil, err
	}
	bound := principal.AppendTo(nil)
	for _, part := range [][]byte{[]byte(serverID), []byte(m.Method), digest} {
		bound = binary.BigEndian.AppendUint32(bound, uint32(len(part))) //nolint:gosec // bounded by a message
		bound = append(bound, part...)
	}
	return bound, nil
}

// digestOf is a digest of the params of the call, however the client writes them: without those that
// differ when it calls again.
func digestOf(m *mcp.Message) ([]byte, error) {
	var params map[string]any
	if !m.Params.None() {
		decoder := json.NewDecoder(bytes.NewReader(m.Params.Of(m.Data)))
		decoder.UseNumber()
		if err := decoder.Decode(&params); err != nil {
			return nil, err
		}
	}
	for _, key := range []string{"_meta", "inputResponses", "requestState"} {
		delete(params, key)
	}
	text, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	return sum[:], nil
}

// add lets the call wait, and returns what the client keeps for it.
func (w *waitingCalls) add(c *askableCall) (string, error) {
	principal := c.x.principal()
	bound, err := boundTo(principal, c.serverID, c.x.message)
	if err != nil {
		return "", messages.ErrAskUnclear
	}
	secret := []byte(rand.Text())
	state, err := w.sealer.Seal(seal.Call, bound, secret)
	if err != nil {
		return "", messages.QuestionError("The gateway cannot let the call wait for the client's answer at the moment.")
	}
	call := &waitingCall{askableCall: c, principal: principal, round: sha256.Sum256(secret)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if own := w.byPrincipal[principal]; len(own) >= w.ofPrincipal {
		oldest := own[0]
		w.forget(oldest)
		oldest.cancel(errDisplaced)
	}
	if w.closed || len(w.byRound) >= w.most {
		return "", errWaiting
	}
	w.byRound[call.round] = call
	w.byPrincipal[principal] = append(w.byPrincipal[principal], call)
	call.timer = time.AfterFunc(w.wait, func() {
		if w.take(call) {
			c.cancel(errUnanswered)
		}
	})
	return state, nil
}

// forget removes a call. w.mu is held.
func (w *waitingCalls) forget(call *waitingCall) {
	call.timer.Stop()
	delete(w.byRound, call.round)
	own := w.byPrincipal[call.principal]
	for i, other := range own {
		if other == call {
			own = append(own[:i:i], own[i+1:]...)
			break
		}
	}
	if w.byPrincipal[call.principal] = own; len(own) == 0 {
		delete(w.byPrincipal, call.principal)
	}
}

// find returns the call that waits for the answers that come with the request; nil without one.
func (w *waitingCalls) find(principal grants.Principal, serverID string, m *mcp.Message, state string) *waitingCall {
	bound, err := boundTo(principal, serverID, m)
	if err != nil {
		return nil
	}
	secret, err := w.sealer.Open(seal.Call, bound, state)
	if err != nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.byRound[sha256.Sum256(secret)]
}

// take removes the call from those that wait, and reports whether it was there: who takes it goes on
// with it, alone.
func (w *waitingCalls) take(call *waitingCall) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byRound[call.round] != call {
		return false
	}
	w.forget(call)
	return true
}

// remove removes a call that has ended.
func (w *waitingCalls) remove(c *askableCall) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, call := range w.byPrincipal[c.x.principal()] {
		if call.askableCall == c {
			w.forget(call)
			return
		}
	}
}

func (w *waitingCalls) size() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.byRound)
}

// close ends all calls that wait.
func (w *waitingCalls) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, call := range w.byRound {
		w.forget(call)
		call.cancel(errEnded)
	}
}

// answers are what a client sends with a call that was answered with questions.
type answers struct {
	state     string
	responses envelope.Span // none if there are none
}

// readAnswers returns the answers that come with a call of a client without sessions; nil if it is a
// new call. If the server has no sessions either, it knows what they are for.
func (x *exchange) readAnswers() *answers {
	m := x.message
	if x.session != nil || !messages.MayBeAsked(m.Method) || m.RequestState.None() && m.InputResponses.None() {
		return nil
	}
	a := &answers{responses: m.InputResponses}
	a.state, _ = messages.StringOf(m.RequestState.Of(m.Data)) // the empty text opens nothing
	return a
}

// callOn goes on with a call to a server with sessions that waits for the answers. The message is in the
// server's form.
func (x *exchange) callOn(s *subRequest, target rewrite.Target, message *mcp.Message) {
	if !s.admit(&route{mode: modeStateless, server: target.Server}, target, message) {
		return
	}
	call := x.handler.waiting.find(x.principal(), s.server().ID, message, x.given.state)
	if call == nil {
		x.waitsNoLonger(s)
		return
	}
	results, err := call.results(x.message.Data, x.given.responses)
	if err != nil {
		s.answerRefusal(x.invalidParams(access.ReasonBadRequest, "inputResponses", err.Error()))
		return
	}
	if !x.handler.waiting.take(call) {
		x.waitsNoLonger(s)
		return
	}
	if err := call.deliver(x, results); err != nil {
		call.cancel(err)
		s.answerRefusal(x.unreachable(target.Server, err))
		return
	}
	written, f := call.attend(x)
	if f != nil {
		s.answerRefusal(f)
		return
	}
	s.request.Outcome(http.StatusOK, written, nil)
}

// waitsNoLonger refuses answers for which no call waits. Whatever the reason is, the client is told
// the same.
func (x *exchange) waitsNoLonger(s *subRequest) {
	s.answerRefusal(x.invalidParams(reasonAnswer, "", "No call waits for this answer here: call again, without requestState and inputResponses."))
}

var errNoResponse = errors.New("params.inputResponses must have an object for each of inputRequests")

// results returns the client's results in the order of the questions.
func (c *askableCall) results(message []byte, responses envelope.Span) ([][]byte, error) {
	c.mu.Lock()
	keys := make([]string, c.given)
	for i := range keys {
		keys[i] = c.asked[i].key
	}
	c.mu.Unlock()
	if !messages.IsObject(responses.Of(message)) {
		return nil, errNoResponse
	}
	given, err := messages.ReadObject(message, responses, keys...)
	if err != nil {
		return nil, errNoResponse
	}
	results := make([][]byte, len(keys))
	for i, at := range given.Values {
		if results[i] = bytes.Clone(at.Of(message)); !messages.IsObject(results[i]) {
			return nil, errNoResponse
		}
	}
	return results, nil
}

// deliver gives the client's results to the server.
func (c *askableCall) deliver(x *exchange, results [][]byte) error {
	c.mu.Lock()
	asked, r := c.asked[:len(results)], c.route
	c.asked, c.given = slices.Clone(c.asked[len(results):]), 0
	over := c.answered
	c.mu.Unlock()
	if over {
		return nil // the server has not waited
	}
	for i := range asked {
		message := protocol.Result(asked[i].id, results[i])
		if asked[i].Method == protocol.MethodSample && r.version < messages.OneBlock {
			result, err := messages.WithOneBlock(results[i], "")
			if message = protocol.Result(asked[i].id, result); err != nil {
				message = messages.AsQuestionError(err).Response(asked[i].id)
			}
		}
		if err := x.send(x.r.Context(), r, message); err != nil {
			return fmt.Errorf("the client's answer was not delivered: %w", err)
		}
	}
	return nil
}
