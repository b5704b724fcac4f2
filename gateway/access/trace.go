package access

import (
	"context"
	"net/http"
)

// Tracer makes a span of every request, where traces are wanted.
type Tracer interface {
	// Start begins the span. The context carries it.
	Start(r *http.Request) (context.Context, Span)
}

// Span is that of one request.
type Span interface {
	// TraceID names the trace in the audit log; "" if it is not recorded.
	TraceID() string
	// Upstream begins the span of what a server is asked, and names it in the
	// header that the server gets. The caller ends it, with the status that the
	// server answered or 0.
	Upstream(r *Request, header http.Header) (end func(status int, err error))
	// End is called when nothing more happens to the request. The outcome is
	// the one that an Observer is told.
	End(r *Request, outcome string)
}

// TraceUpstream begins the span of what a server is asked for this request. It
// does nothing where there are no traces: what the client says of its own trace
// then goes on to the server as it is.
func (r *Request) TraceUpstream(header http.Header) (end func(status int, err error)) {
	if r.span == nil {
		return endNothing
	}
	return r.span.Upstream(r, header)
}

func endNothing(int, error) {}

// Status is what the client was answered; 0 while that is not known.
func (r *Request) Status() int { return r.status }

func (r *Request) traceID() string {
	if r.span == nil {
		return ""
	}
	return r.span.TraceID()
}
