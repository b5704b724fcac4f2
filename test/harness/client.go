package harness

import (
	"io"
	"net/http"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Revisions of the protocol: the newest of the session era, and the first of
// the stateless one.
const (
	SessionEra   = "2025-11-25"
	StatelessEra = "2026-07-28"
)

// Response is an HTTP answer, read to its end.
type Response struct {
	Status int
	Header http.Header
	Body   string
}

// Do sends one HTTP request as it is told to, with nothing added but the bearer
// token, where there is one. For what the SDK's client would not send. Where Vault
// is slow, it is as patient as [Patient].
func (h *Harness) Do(method, url, token string, header http.Header, body string) Response {
	h.t.Helper()
	return h.do(func(next http.RoundTripper) http.RoundTripper { return &Patient{next} }, method, url, token, header, body)
}

// DoOnce is Do for where Vault does not answer: it returns the first answer.
func (h *Harness) DoOnce(method, url, token string, header http.Header, body string) Response {
	h.t.Helper()
	return h.do(func(next http.RoundTripper) http.RoundTripper { return next }, method, url, token, header, body)
}

func (h *Harness) do(with func(http.RoundTripper) http.RoundTripper, method, url, token string, header http.Header, body string) Response {
	h.t.Helper()
	request, err := http.NewRequestWithContext(h.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	for name, values := range header {
		if http.CanonicalHeaderKey(name) == "Host" {
			request.Host = values[0]
			continue
		}
		request.Header[name] = values
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	// A connection of its own: no test depends on another's.
	response, err := with(&http.Transport{DisableKeepAlives: true, DisableCompression: true}).RoundTrip(request)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return Response{Status: response.StatusCode, Header: response.Header, Body: string(content)}
}

// Post sends one message of the session era, without a session.
func (h *Harness) Post(url, token, body string) Response {
	h.t.Helper()
	return h.Do(http.MethodPost, url, token, http.Header{
		"Content-Type": {"application/json"},
		"Accept":       {"application/json, text/event-stream"},
	}, body)
}

// Call calls a tool in the stateless era: one POST, which says it all. The
// arguments are JSON.
func (h *Harness) Call(url, token, tool, arguments string) Response {
	h.t.Helper()
	return h.Do(http.MethodPost, url, token, http.Header{
		"Content-Type":         {"application/json"},
		"Accept":               {"application/json, text/event-stream"},
		"Mcp-Protocol-Version": {StatelessEra},
		"Mcp-Method":           {"tools/call"},
		"Mcp-Name":             {tool},
	}, CallBody(tool, arguments))
}

// CallBody is the body that Call posts.
func CallBody(tool, arguments string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"` + tool + `","arguments":` + arguments +
		`,"_meta":{"io.modelcontextprotocol/protocolVersion":"` + StatelessEra +
		`","io.modelcontextprotocol/clientInfo":{"name":"harness","version":"1"}` +
		`,"io.modelcontextprotocol/clientCapabilities":{}}}}`
}

// Connect opens a session of the SDK's client, which speaks the era it
// negotiates, with a bearer token.
func (h *Harness) Connect(url, token string) *mcp.ClientSession {
	h.t.Helper()
	session, err := h.TryConnect(url, token, ConnectOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return session
}

// ConnectOptions are for TryConnect. The zero value is a usual client.
type ConnectOptions struct {
	// Version is the revision of the protocol to ask for: SessionEra or
	// StatelessEra. Empty: the SDK chooses.
	Version string
	// Client has the client's callbacks.
	Client *mcp.ClientOptions
	// Header is sent with each request.
	Header http.Header
}

// TryConnect is Connect for what may fail.
func (h *Harness) TryConnect(url, token string, opts ConnectOptions) (*mcp.ClientSession, error) {
	h.t.Helper()
	header := opts.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	transport := &http.Transport{}
	h.t.Cleanup(transport.CloseIdleConnections)
	client := mcp.NewClient(&mcp.Implementation{Name: "harness", Version: "1"}, opts.Client)
	session, err := client.Connect(h.t.Context(), &mcp.StreamableClientTransport{
		Endpoint:   url,
		HTTPClient: &http.Client{Transport: &withHeader{header, &Patient{transport}}},
		MaxRetries: -1,
	}, &mcp.ClientSessionOptions{ProtocolVersion: opts.Version})
	if err != nil {
		return nil, err
	}
	h.t.Cleanup(func() { _ = session.Close() })
	return session, nil
}

// withHeader adds a header to each request.
type withHeader struct {
	header http.Header
	next   http.RoundTripper
}

func (w *withHeader) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, values := range w.header {
		r.Header[name] = values
	}
	return w.next.RoundTrip(r)
}
