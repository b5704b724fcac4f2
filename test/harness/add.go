package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Add calls the tool of the demo calculator once, in the era without sessions, for tests that call
// it again and again with a client of their own. The error is that of an answer which is none:
// one that breaks off, or a 200 without the sum. There may be a status even so.
func Add(ctx context.Context, client *http.Client, url, token string) (status int, retryAfter string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(CallBody("add", `{"a":40,"b":2}`)))
	if err != nil {
		return 0, "", err
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + token, "Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"Mcp-Protocol-Version": StatelessEra, "Mcp-Method": "tools/call", "Mcp-Name": "add",
	} {
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode == http.StatusOK && !strings.Contains(string(body), "42") {
		err = fmt.Errorf("the answer is not 42, but %s", body)
	}
	return response.StatusCode, response.Header.Get("Retry-After"), err
}
