package access

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// Refuse answers a request with f, and records the true reason in the audit
// log. It is the one place where refusals are written, so that all of them
// carry the request's id and none of them says more than the client may know.
// Nothing may have been answered before.
func Refuse(w http.ResponseWriter, r *http.Request, f *Refusal) {
	refuse(w, FromContext(r.Context()), f)
}

func refuse(w http.ResponseWriter, req *Request, f *Refusal) {
	var id string
	if req != nil {
		id = req.ID
		req.refused(f)
	}
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if f.challenge != "" {
		header.Set("WWW-Authenticate", f.challenge)
	}
	if f.allow != "" {
		header.Set("Allow", f.allow)
	}
	if f.hangUp {
		header.Set("Connection", "close")
	}
	if f.RetryAfter > 0 {
		seconds := (f.RetryAfter + time.Second - 1) / time.Second
		header.Set("Retry-After", strconv.Itoa(int(seconds)))
	}
	if f.Status == http.StatusAccepted || f.Status == http.StatusNoContent {
		w.WriteHeader(f.Status)
		return
	}
	body := f.body(id)
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(f.Status)
	_, _ = w.Write(body) //nolint:gosec // JSON, sent as JSON; a client that is gone needs no answer
}

// body is {"error":{"message","request_id"}} or, with a code, a JSON-RPC error
// whose data holds the request id. Both show the message where MCP clients look
// for it.
func (f *Refusal) body(id string) []byte {
	b := make([]byte, 0, 256)
	if f.Code == 0 {
		b = append(b, `{"error":{"message":`...)
		b = appendString(b, f.Message)
		b = append(b, `,"request_id":`...)
		b = appendString(b, id)
		return append(b, "}}\n"...)
	}
	b = append(b, `{"jsonrpc":"2.0","id":`...)
	if len(f.RPCID) == 0 {
		b = append(b, "null"...)
	} else {
		b = append(b, f.RPCID...)
	}
	b = append(b, `,"error":{"code":`...)
	b = strconv.AppendInt(b, int64(f.Code), 10)
	b = append(b, `,"message":`...)
	b = appendString(b, f.Message)
	b = append(b, `,"data":{"request_id":`...)
	b = appendString(b, id)
	if f.Data != "" {
		b = append(b, ',')
		b = append(b, f.Data...)
	}
	return append(b, "}}}\n"...)
}

// retryAfter spreads the clients' return over a few seconds, so that they do
// not all come back at once.
func retryAfter() time.Duration {
	return time.Duration(1+rand.IntN(3)) * time.Second //nolint:gosec // spreading load needs no secrecy
}
