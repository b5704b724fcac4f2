package servers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"vault-plugin-secrets-mcp/bootstrap/demo"
)

// Door stands before a server on HTTP, and refuses requests when it is told to.
type Door struct {
	mu     sync.Mutex
	refuse func(http.Header) bool
	next   http.Handler
}

// Refuse has the server answer 401 to every request for which refuse is true; nil ends it.
func (d *Door) Refuse(refuse func(http.Header) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = refuse
}

// Times refuses so many requests, and none after that.
func Times(n int) func(http.Header) bool {
	return func(http.Header) bool {
		n--
		return n >= 0
	}
}

func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	refused := d.refuse != nil && d.refuse(r.Header)
	d.mu.Unlock()
	if refused {
		http.Error(w, "these credentials are not good", http.StatusUnauthorized)
		return
	}
	d.next.ServeHTTP(w, r)
}

// HTTP is a server on streamable HTTP, of both eras.
func HTTP() *Door { return &Door{next: demo.Handler(newServer("http", nil))} }

// SSE is a server on HTTP+SSE. It shows the header of the request that has opened the
// channel: the SDK does not say which header a message came with.
func SSE() *Door {
	return &Door{next: mcp.NewSSEHandler(func(r *http.Request) *mcp.Server { return newServer("sse", r.Header.Clone()) }, nil)}
}

// Place is the argument of the tool "read": a path in Vault.
type Place struct {
	Path string `json:"path"`
}

// Reading is its answer.
type Reading struct {
	Status int            `json:"status"`
	Data   map[string]any `json:"data,omitempty"`
}

// Vault is a server on streamable HTTP that is a client of Vault: its tool "read" reads
// there with the token that its own request came with, in the header X-Vault-Token.
func Vault(address string) *Door {
	server := newServer("vault", nil)
	mcp.AddTool(server, &mcp.Tool{Name: "read"}, func(ctx context.Context, call *mcp.CallToolRequest, in Place) (*mcp.CallToolResult, Reading, error) {
		reading, err := readVault(ctx, address, in.Path, call.Extra.Header.Get("X-Vault-Token"))
		return nil, reading, err
	})
	return &Door{next: demo.Handler(server)}
}

func readVault(ctx context.Context, address, path, token string) (Reading, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/v1/"+path, http.NoBody)
	if err != nil {
		return Reading{}, err
	}
	request.Header.Set("X-Vault-Token", token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return Reading{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return Reading{}, err
	}
	reading := Reading{Status: response.StatusCode}
	var answer struct {
		Data map[string]any `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Reading{}, fmt.Errorf("cannot read the answer of Vault: %w", err)
	}
	reading.Data = answer.Data
	return reading, nil
}
