package aggregate

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
)

// part is what a request asks of one server: a request to that server's own
// endpoint.
type part struct {
	x       *exchange
	context context.Context
	request *access.Request
	method  string // of HTTP
	end     func() // must be called

	// refusal is why the client may not reach the server; nil if it may.
	refusal *access.Refusal
}

// part makes a part for the server of that name. id stands in its audit lines.
func (x *exchange) part(ctx context.Context, id, method, server string) *part {
	p := &part{x: x, method: method}
	p.context, p.end, p.refusal = x.request.SubRequest(ctx, id, method, server)
	p.request = access.FromContext(p.context)
	return p
}

// partID names a part that is one of several of its request.
func (x *exchange) partID(server string) string { return x.request.ID + "." + server }

func (p *part) server() *grants.Server { return p.request.Server }

// serve has the server's endpoint answer, to out. It reports whether the answer
// broke off.
func (p *part) serve(header http.Header, body []byte, out http.ResponseWriter) (aborted bool) {
	r := &http.Request{
		Method: p.method, URL: &url.URL{Path: "/servers/" + p.server().Name + "/mcp"}, Host: p.x.r.Host,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: http.NoBody,
	}
	if body != nil {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	defer func() {
		switch cause := recover(); cause {
		case nil:
		case http.ErrAbortHandler:
			aborted = true
		default: // on a goroutine that net/http does not look after
			p.x.handler.log.Error("panic while serving a part of a request", "cause", cause, "stack", string(debug.Stack()))
			aborted = true
		}
	}()
	p.x.handler.options.Next.ServeHTTP(out, r.WithContext(p.context))
	return false
}

// refuse answers the client's request in the part's name.
func (p *part) refuse(f *access.Refusal) {
	p.x.free()
	p.request.Method = p.x.request.Method
	access.Refuse(p.x.w, p.x.r.WithContext(p.context), f)
}

// known is what is known of the part's server.
func (p *part) known() *known { return p.x.handler.servers.of(p.server().ID) }

// requestHeader returns the client's header for a request to one server. What is
// not the server's to see is left out at its endpoint.
func (x *exchange) requestHeader() http.Header {
	header := make(http.Header, len(x.r.Header)+4)
	for key, values := range x.r.Header {
		switch key {
		case "Authorization", "Cookie", protocol.HeaderContentLength, protocol.HeaderContentType, protocol.HeaderSession, protocol.HeaderLastEventID:
		default:
			header[key] = values
		}
	}
	header[protocol.HeaderContentType] = valueJSON
	return header
}

// ownHeader returns the header of a request that the gateway makes of its own
// accord. Nothing of the client's is in it: what a server thinks of the request
// counts for all clients.
func (x *exchange) ownHeader() http.Header {
	return http.Header{
		"Accept":                   valueAny,
		protocol.HeaderContentType: valueJSON,
		protocol.HeaderUserAgent:   {"mcp-gateway/" + x.handler.options.Version},
	}
}
