package reliability

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"vault-plugin-secrets-mcp/test/harness"
)

// ask sends a request of the era of sessions.
func ask(ctx context.Context, transport *http.Transport, method, url, token, session string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": harness.SessionEra,
	} {
		request.Header.Set(name, value)
	}
	if session != "" {
		request.Header.Set("Mcp-Session-Id", session)
	}
	return transport.RoundTrip(request)
}

// step sends a request, wants its status, and reads the answer. It returns the
// session's id.
func step(ctx context.Context, transport *http.Transport, method, url, token, session, body string, status int) (string, error) {
	reader := io.Reader(http.NoBody)
	if body != "" {
		reader = strings.NewReader(body)
	}
	response, err := ask(ctx, transport, method, url, token, session, reader)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != status {
		return "", fmt.Errorf("%s is answered %d: %s", method, response.StatusCode, answer)
	}
	return response.Header.Get("Mcp-Session-Id"), nil
}

// open opens a session's stream, which ends with the context.
func open(ctx context.Context, transport *http.Transport, url, token, session string) error {
	response, err := ask(ctx, transport, http.MethodGet, url, token, session, http.NoBody)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("a stream is answered %d", response.StatusCode)
	}
	return nil
}
