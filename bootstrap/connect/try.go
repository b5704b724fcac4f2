package connect

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// TryError is a gateway's answer to a client that a server could not be shown to.
type TryError struct {
	Status  int
	Message string // the gateway's text for the client
}

func (e *TryError) Error() string { return fmt.Sprintf("%d, %s", e.Status, e.Message) }

// maxAnswer bounds an answer.
const maxAnswer = 1 << 20

// hello begins a session, as clients do.
const hello = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"mcp-bootstrap","version":"1"}}}`

// Try begins a session with a server behind the gateway, as the client whose token it
// is, and ends it. The gateway is given by its URL without a path.
func Try(ctx context.Context, gateway, server, token string) error {
	response, err := speak(ctx, http.MethodPost, gateway, server, token, "", hello)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := firstMessage(response)
	if err != nil {
		return err
	}
	if session := response.Header.Get("Mcp-Session-Id"); session != "" {
		if end, err := speak(ctx, http.MethodDelete, gateway, server, token, session, ""); err == nil {
			_ = end.Body.Close()
		}
	}
	var message struct {
		Error *struct {
			Message string `json:"message"`
		} `json:"error"`
		Result json.RawMessage `json:"result"`
	}
	switch err := json.Unmarshal(answer, &message); {
	case err == nil && message.Error != nil:
		return &TryError{response.StatusCode, message.Error.Message}
	case response.StatusCode != http.StatusOK:
		return &TryError{response.StatusCode, http.StatusText(response.StatusCode)}
	case err != nil || message.Result == nil:
		return errors.New("it does not answer with a result")
	}
	return nil
}

func speak(ctx context.Context, method, gateway, server, token, session, body string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(gateway, "/")+"/servers/"+server+"/mcp", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Accept", "application/json, text/event-stream")
	request.Header.Set("Content-Type", "application/json")
	if session != "" {
		request.Header.Set("Mcp-Session-Id", session)
	}
	return http.DefaultClient.Do(request)
}

// firstMessage is the first one of an answer, whether that is JSON or a stream of events.
func firstMessage(response *http.Response) ([]byte, error) {
	body := io.LimitReader(response.Body, maxAnswer)
	if !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		return io.ReadAll(body)
	}
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxAnswer)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data:"); ok && strings.Contains(data, `"id"`) {
			return []byte(data), nil
		}
	}
	return nil, errors.Join(lines.Err(), errors.New("the stream of events ends without an answer"))
}
