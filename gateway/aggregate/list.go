package aggregate

import (
	"context"
	"net/http"
	"time"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol/rewrite"
)

// fetchTimeout bounds the asking of one server, which goes on when the client
// has got its list without it: a server that is just being started takes its
// time.
const fetchTimeout = 2 * time.Minute

// Bounds of one page of a merged list. Clients that do not follow cursors see
// the first of them alone.
var pageLimits = rewrite.Limits{MaxEntries: 10_000, MaxBytes: 8 << 20, MaxTTL: 30 * time.Second}

// detached returns a context for what goes on when the client's request has
// been answered. It ends with the client's access: see [access.Request.SubRequest].
func (x *exchange) detached() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.r.Context()), fetchTimeout)
	stop := context.AfterFunc(x.handler.closing, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// list answers with the lists of all servers as one.
func (x *exchange) list(kind rewrite.Kind) *access.Refusal {
	text, f := x.cursor()
	if f != nil {
		return f
	}
	var cursor *rewrite.Cursor // nil: the list's beginning
	if text != "" {
		parsed, err := rewrite.ParseCursor(kind, text)
		if err != nil {
			return x.badCursor()
		}
		cursor = &parsed
	}
	servers, f := x.request.Servers()
	if f != nil {
		return f
	}
	if f := x.decide(); f != nil {
		return f
	}
	inquiries := x.inquire(kind, cursor, servers)
	if x.r.Context().Err() != nil {
		return access.Cut(x.r.Context())
	}
	parts := make([]rewrite.Part, 0, len(inquiries))
	for _, q := range inquiries {
		if page, there := q.result(); there {
			parts = append(parts, rewrite.Part{Position: q.position, Page: page, Allows: q.allows()})
		}
	}
	limits := pageLimits
	limits.Hints = x.session == nil
	size := 1 << 10
	for _, part := range parts {
		if part.Page != nil {
			size += sizeOf(part.Page)
		}
	}
	answer := x.beginResult(make([]byte, 0, min(size, limits.MaxBytes+64<<10)))
	answer = rewrite.Merge(answer, kind, parts, limits).Result
	x.answerJSON(http.StatusOK, protocol.EndResult(answer))
	return nil
}
