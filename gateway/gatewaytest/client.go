// Package gatewaytest has the helpers of most tests in the gateway's packages: an
// upstream that records its requests, a client, and their messages. The Vault behind
// them is in grantstest.
package gatewaytest

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Client sends requests to a gateway as an MCP client does.
type Client struct {
	URL       string // of the endpoint
	Token     string
	Transport http.RoundTripper // nil: that of every client
}

// Do sends one request: a POST of the body with the client's token, unless pairs say
// otherwise. These are names and values of headers, and of ":method" and ":token". A
// header with an empty value is left out.
func (c Client) Do(ctx context.Context, body string, pairs ...string) (*http.Response, error) {
	method, token := http.MethodPost, c.Token
	header := http.Header{"Accept": {"application/json, text/event-stream"}, "Content-Type": {"application/json"}}
	for i := 0; i < len(pairs); i += 2 {
		switch key, value := pairs[i], pairs[i+1]; {
		case key == ":method":
			method = value
		case key == ":token":
			token = value
		case value == "":
			header.Del(key)
		default:
			header.Add(key, value)
		}
	}
	header.Set("Authorization", "Bearer "+token)
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.URL, reader)
	if err != nil {
		return nil, err
	}
	request.Header = header
	transport := c.Transport
	if transport == nil {
		transport = http.DefaultTransport
	}
	return transport.RoundTrip(request)
}

// Answer is an answer that was read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   string
}

// Ask is Do for a request that is answered, and whose answer has an end.
func (c Client) Ask(t testing.TB, body string, pairs ...string) Answer {
	t.Helper()
	response, err := c.Do(t.Context(), body, pairs...)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return Answer{Status: response.StatusCode, Header: response.Header, Body: string(text)}
}
