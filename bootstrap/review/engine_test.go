package review

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend"
)

// engine is the real engine in this process, behind as much of Vault's HTTP API as a review
// uses.
type engine struct {
	t       testing.TB
	backend logical.Backend
	storage logical.Storage
	vault   *api.Client

	mu       sync.Mutex
	now      time.Time
	requests int
}

type data = map[string]any

func newEngine(t testing.TB) *engine {
	t.Helper()
	e := &engine{t: t, storage: &logical.InmemStorage{}, now: at}
	b, err := backend.New(t.Context(), &logical.BackendConfig{
		Logger: hclog.NewNullLogger(), System: logical.TestSystemView(), StorageView: e.storage,
	}, backend.Options{Now: e.time})
	require.NoError(t, err)
	e.backend = b
	t.Cleanup(func() { b.Cleanup(t.Context()) })
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	e.vault, err = api.NewClient(&api.Config{Address: server.URL})
	require.NoError(t, err)
	e.vault.SetToken("hvs.test")
	return e
}

func (e *engine) time() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now
}

// nextDay moves the engine's clock.
func (e *engine) nextDay() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now = e.now.Add(24 * time.Hour)
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	e.requests++
	e.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	answer := data{"initialized": true, "sealed": false, "cluster_name": "test", "server_time_utc": e.time().Unix()}
	if path != "sys/health" {
		resp, err := e.handle(r, strings.TrimPrefix(path, "mcp/"))
		switch {
		case errors.Is(err, logical.ErrUnsupportedPath), err == nil && resp == nil && r.Method == http.MethodGet:
			http.Error(w, `{"errors":[]}`, http.StatusNotFound)
			return
		case err != nil, resp.IsError():
			http.Error(w, fmt.Sprintf(`{"errors":[%q]}`, errors.Join(err, resp.Error()).Error()), http.StatusBadRequest)
			return
		case resp == nil:
			w.WriteHeader(http.StatusNoContent)
			return
		}
		answer = data{"data": resp.Data}
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		e.t.Error(err)
	}
}

func (e *engine) handle(r *http.Request, path string) (*logical.Response, error) {
	req := &logical.Request{Path: path, Storage: e.storage, MountPoint: "mcp/"}
	body, err := io.ReadAll(r.Body)
	if err == nil && len(body) > 0 {
		err = json.Unmarshal(body, &req.Data)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case r.Method == "LIST" || r.URL.Query().Get("list") == "true":
		req.Operation, req.Path = logical.ListOperation, path+"/"
	case r.Method == http.MethodGet:
		req.Operation = logical.ReadOperation
	case r.Method == http.MethodDelete:
		req.Operation = logical.DeleteOperation
	default:
		req.Operation, req.MountAccessor = logical.UpdateOperation, "mcp_1"
		found, exists, err := e.backend.HandleExistenceCheck(r.Context(), req)
		if err != nil {
			return nil, err
		}
		if found && !exists {
			req.Operation = logical.CreateOperation
		}
	}
	return e.backend.HandleRequest(r.Context(), req)
}

func (e *engine) write(path string, d data) data {
	e.t.Helper()
	secret, err := e.vault.Logical().WriteWithContext(e.t.Context(), "mcp/"+path, d)
	require.NoError(e.t, err, "%s %v", path, d)
	if secret == nil {
		return nil
	}
	return secret.Data
}

func (e *engine) read(path string) data {
	e.t.Helper()
	secret, err := e.vault.Logical().ReadWithContext(e.t.Context(), "mcp/"+path)
	require.NoError(e.t, err)
	require.NotNil(e.t, secret, path)
	return secret.Data
}

// evaluate is the engine's own decision.
func (e *engine) evaluate(d data) (allowed bool, decision string) {
	e.t.Helper()
	answer := e.write("evaluate", d)
	return answer["allowed"].(bool), answer["decision"].(string)
}

// report is a gateway's last report of today.
func (e *engine) report(clients data) {
	e.t.Helper()
	answer := e.write("gateway/usage", data{"gateway": "gateway000000001", "day": e.time().Format(day), "clients": clients, "closed": true})
	require.EqualValues(e.t, json.Number("0"), answer["refused"])
}

func (e *engine) review(days int) *Review {
	e.t.Helper()
	s, err := Read(e.t.Context(), e.vault, "mcp")
	require.NoError(e.t, err)
	return New(s, days)
}
