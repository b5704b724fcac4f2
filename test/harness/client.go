package harness

import (
	"io"
	"net/http"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// Versions of the protocol: the newest of the session era, and the first of the
// stateless era.
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

// Do sends one HTTP request exactly as given, and adds only the bearer token, if there is
// one. It is for requests that the SDK's client would not send. It repeats requests as
// [Patient] does.
func (h *Harness) Do(method, url, token string, header http.Header, body string) Response {
	h.t.Helper()
	return h.do(func(next http.RoundTripper) http.RoundTripper { return &Patient{next} }, method, url, token, header, body)
}

// DoOnce is Do without repetition, for tests in which Vault does not answer.
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
	// Its own connection: no test depends on another's.
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

// Call calls a tool in the stateless era, with one POST. The arguments are JSON.
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

// CallBody is the body of Call's POST.
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
	// Version is the version of the protocol to ask for: SessionEra or
	// StatelessEra. Empty: the SDK chooses.
	Version string
	// Client has the client's callbacks.
	Client *mcp.ClientOptions
	// Roots are the client's.
	Roots []*mcp.Root //nolint:staticcheck // deprecated, and carried as long as they are in the protocol
	// Header is sent with each request.
	Header http.Header
}

// TryConnect is Connect that returns an error.
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
	client.AddRoots(opts.Roots...) //nolint:staticcheck // deprecated, and carried as long as they are in the protocol
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
