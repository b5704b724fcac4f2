package mcp

import (
	"context"
	"io"
	"net/http"

	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/itemlist"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/jsonscan"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/sse"
)

// watchedBody is the body of an answer that passes as it comes. Where pins are observed, it is
// judged after it has passed: neither its bytes change nor the time at which the client has them. A
// stream
// that the server may fill for hours ends when its pins are enforced. The client opens another
// one then, which is filtered.
type watchedBody struct {
	io.ReadCloser
	answer *Answer
	cancel context.CancelCauseFunc
	limit  int

	events   *sse.Splitter // nil: the body is one message
	copied   []byte        // that was not judged yet
	reserved int64         // of the request's memory
	blind    bool          // nothing more is judged
}

// watch has an answer watched that is not filtered.
func (a *Answer) watch(response *http.Response, cancel context.CancelCauseFunc) {
	if a.isFiltered() || a.inEvents || a.judgeNow() == nil && !(a.Stream && a.idle()) {
		return
	}
	a.watched = &watchedBody{
		ReadCloser: response.Body, answer: a, cancel: cancel,
		limit: int(a.handler.settings().Limits.MaxList), blind: !isReadable(response),
	}
	if a.Stream {
		a.watched.events = sse.NewSplitter(a.watched.limit)
		a.watched.events.Reserve = a.request.Reserve
	}
	response.Body = a.watched
}

// isReadable reports whether an answer is one in which clients read messages.
func isReadable(response *http.Response) bool {
	for _, coding := range response.Header[protocol.HeaderContentEncoding] {
		if coding != "identity" {
			return false
		}
	}
	media := mediaType(protocol.First(response.Header, protocol.HeaderContentType))
	return media == protocol.MediaJSON || media == protocol.MediaEventStream
}

func (b *watchedBody) Read(p []byte) (int, error) {
	if b.events != nil {
		b.split() // the earlier bytes have passed by now
	}
	n, err := b.ReadCloser.Read(p)
	judge := b.answer.judgeNow()
	if b.answer.idle() && enforces(judge) {
		b.cancel(sse.ErrRules)
		return 0, sse.ErrRules
	}
	if judge != nil && !b.blind {
		b.copy(p[:n])
	}
	return n, err
}

// copy keeps the bytes that pass. A body that is too large for that is not judged.
func (b *watchedBody) copy(p []byte) {
	size := int64(len(b.copied) + len(p))
	if size > int64(b.limit) {
		b.drop()
		return
	}
	if size > b.reserved {
		if b.answer.request.Reserve(size-b.reserved) != nil {
			b.drop()
			return
		}
		b.reserved = size
	}
	b.copied = append(b.copied, p...)
}

func (b *watchedBody) drop() {
	b.copied, b.blind = nil, true
	_ = b.answer.request.Reserve(-b.reserved) // giving back does not fail
	b.reserved = 0
}

// split judges the events that have passed.
func (b *watchedBody) split() {
	if len(b.copied) == 0 {
		return
	}
	err := b.events.Split(b.copied, b.judgeEvent)
	if b.copied = b.copied[:0]; err != nil {
		b.drop()
	}
}

// finish judges the rest, once.
func (b *watchedBody) finish() {
	switch {
	case b.blind:
		return
	case b.events == nil:
		b.judge(b.copied)
	default:
		b.split()
		if rest := b.events.Rest(); rest != nil {
			b.judgeEvent(rest)
		}
	}
	b.drop()
}

func (b *watchedBody) judgeEvent(event *sse.Event) {
	if event.HasData && event.IsMessage() {
		b.judge(event.Data)
	}
}

func (b *watchedBody) judge(message []byte) {
	if judge := b.answer.judgeNow(); judge != nil && len(message) > 0 {
		b.answer.request.Unapproved(itemlist.Observe(jsonscan.WithoutMark(message), b.answer.definitionsBy(judge), b.answer.asked()))
	}
}
