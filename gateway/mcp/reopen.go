package mcp

import (
	"context"
	"errors"
	"net/http"
	"time"

	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/credentials"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// reopen opens the session's own stream again, where it ended because other credentials have
// taken the place of those that it was opened with. The client notices nothing.
func (q *proxied) reopen() bool {
	if q.method != http.MethodGet || !errors.Is(context.Cause(q.ctx), credentials.ErrReplaced) || q.client.Err() != nil {
		return false
	}
	q.endResponse()
	q.use.End()
	q.unlisted()
	over := q.restart()
	q.unlisted = q.handler.streams.Add(q.cancel, q.proxy.limits.MaxStreamAge)
	if !over && q.lease(q.client) == nil && q.decide() == nil && q.openAgain() {
		q.decoder = q.newDecoder()
		return true
	}
	q.cancel(credentials.ErrReplaced) // an orderly end: the client opens it itself
	return false
}

// restart gives the request to the server another context, and reports whether the stream has ended
// for good: what has ended it may have found the former context, which had ended.
func (q *proxied) restart() (over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ctx = &cut{Context: q.client}
	q.cancel = q.ctx.cut
	if q.over != nil {
		q.cancel(q.over)
	}
	return q.over != nil
}

// A server may have one stream for each session, and may take a while until it notices that
// the former one has ended. Until then it refuses another, with 409 mostly.
const reopenTries = 8

var reopenPause = backoff.Backoff{Min: 50 * time.Millisecond, Max: time.Second}

// openAgain sends the request until the server answers with a stream.
func (q *proxied) openAgain() bool {
	for tries := 1; q.sendOnce(q.client) == nil; tries++ {
		if q.isStream() {
			return true
		}
		status := q.response.StatusCode
		q.endResponse()
		mayPass := status == http.StatusConflict || status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
		if !mayPass || tries == reopenTries || backoff.Sleep(q.ctx, reopenPause.After(tries)) != nil {
			return false
		}
	}
	return false
}

// isStream reports whether the server's answer is a stream of events.
func (q *proxied) isStream() bool {
	media := mediaType(protocol.First(q.response.Header, protocol.HeaderContentType))
	return q.response.StatusCode == http.StatusOK && media == protocol.MediaEventStream
}
