package backend

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/helper/testhelpers/schema"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock {
	return &clock{now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// env is one mount over storage in memory.
type env struct {
	t       testing.TB
	b       *mcpBackend
	storage logical.Storage
	clock   *clock

	accessors map[string]string // of tokens that a test has looked up
}

type data = map[string]any

// testAccessor is the mount's.
const testAccessor = "vault-plugin-secrets-mcp_1a2b3c4d"

func newEnv(t testing.TB) *env {
	t.Helper()
	return newEnvOn(t, &logical.InmemStorage{}, newClock())
}

// newEnvOn starts the engine over storage that may hold an earlier run's entries.
func newEnvOn(t testing.TB, storage logical.Storage, c *clock) *env {
	t.Helper()
	system := logical.TestSystemView()
	system.PluginEnvironment = &logical.PluginEnvironment{VaultVersion: "1.21.0"}
	system.DefaultLeaseTTLVal, system.MaxLeaseTTLVal = time.Hour, 24*time.Hour
	b, err := New(context.Background(), &logical.BackendConfig{
		Logger: hclog.NewNullLogger(), System: system, StorageView: storage,
	}, Options{Now: c.Now})
	require.NoError(t, err)
	e := &env{t: t, b: b.(*mcpBackend), storage: storage, clock: c}
	t.Cleanup(func() { e.b.Cleanup(context.Background()) })
	return e
}

// restart is a new plugin process over the same storage.
func (e *env) restart() *env {
	e.t.Helper()
	e.b.Cleanup(context.Background())
	again := newEnvOn(e.t, e.storage, e.clock)
	require.NoError(e.t, again.b.Initialize(context.Background(), &logical.InitializationRequest{Storage: e.storage}))
	return again
}

// request sends one operation as Vault does: an existence check before a write
// decides between create and update.
func (e *env) request(ctx context.Context, op logical.Operation, path string, d data) (*logical.Response, error) {
	req := &logical.Request{
		Operation: op, Path: path, Data: d, Storage: e.storage, DisplayName: "tester", MountPoint: "mcp/",
		ClientTokenAccessor: "accessor-of-the-testers-vault-token",
	}
	if op == logical.UpdateOperation {
		req.MountAccessor = testAccessor // Vault sends it only where it has checked existence
		found, exists, err := e.b.HandleExistenceCheck(ctx, req)
		if err != nil {
			return nil, err
		}
		if found && !exists {
			req.Operation = logical.CreateOperation
		}
	}
	resp, err := e.b.HandleRequest(ctx, req)
	notFound := resp == nil && op == logical.ReadOperation
	if err == nil && !notFound && !resp.IsError() {
		e.checkSchema(req, resp)
	}
	return resp, err
}

// checkSchema compares a real answer with the path's schema of its answers.
func (e *env) checkSchema(req *logical.Request, resp *logical.Response) {
	e.t.Helper()
	t, ok := e.t.(*testing.T)
	if !ok {
		return
	}
	route := e.b.Route(req.Path)
	require.NotNil(t, route, req.Path)
	properties := route.Operations[req.Operation].Properties()
	if _, quiet := properties.Responses[204]; quiet && (resp == nil || len(resp.Data) == 0) {
		return
	}
	schema.ValidateResponse(t, schema.GetResponseSchema(t, route, req.Operation), resp, true)
}

func (e *env) must(op logical.Operation, path string, d data) *logical.Response {
	e.t.Helper()
	resp, err := e.request(context.Background(), op, path, d)
	require.NoError(e.t, err)
	if resp == nil {
		resp = &logical.Response{}
	}
	require.NoError(e.t, resp.Error())
	return resp
}

func (e *env) write(path string, d data) *logical.Response {
	e.t.Helper()
	return e.must(logical.UpdateOperation, path, d)
}

func (e *env) patch(path string, d data) *logical.Response {
	e.t.Helper()
	return e.must(logical.PatchOperation, path, d)
}

func (e *env) read(path string) data {
	e.t.Helper()
	return e.must(logical.ReadOperation, path, nil).Data
}

func (e *env) delete(path string) *logical.Response {
	e.t.Helper()
	return e.must(logical.DeleteOperation, path, nil)
}

func (e *env) list(path string) []string {
	e.t.Helper()
	keys, _ := e.must(logical.ListOperation, path, nil).Data["keys"].([]string)
	return keys
}

// refused sends a write and returns the text of the 400 that it must answer.
func (e *env) refused(op logical.Operation, path string, d data) string {
	e.t.Helper()
	resp, err := e.request(context.Background(), op, path, d)
	require.NoError(e.t, err)
	require.True(e.t, resp.IsError(), "the request was accepted: %+v", resp)
	return resp.Error().Error()
}

// client creates a client and returns its token. One as which people sign in has none of its
// own, and is given one.
func (e *env) client(name string, d data) string {
	e.t.Helper()
	token, has := e.write("clients/"+name, d).Data["token"].(string)
	if !has && d["sign_in"] == true {
		token, _ = e.write("rotate-client/"+name, nil).Data["token"].(string)
	}
	require.NotEmpty(e.t, token)
	return token
}

func (e *env) lookup(token string) data {
	e.t.Helper()
	return e.write("lookup", data{"token": token}).Data
}

func (e *env) active(token string) bool {
	e.t.Helper()
	return e.lookup(token)["active"].(bool)
}

// lease is a leased token as Vault's expiration manager holds it.
type lease struct {
	token  string
	secret *logical.Secret
	data   data
}

func (e *env) lease(name string, d data) *lease {
	e.t.Helper()
	resp := e.must(logical.ReadOperation, "creds/"+name, d)
	require.NotNil(e.t, resp.Secret)
	resp.Secret.IssueTime = e.clock.Now()
	return &lease{token: resp.Data["token"].(string), secret: resp.Secret, data: resp.Data}
}

func (e *env) renewLease(l *lease) (*logical.Response, error) {
	return e.b.HandleRequest(context.Background(), &logical.Request{
		Operation: logical.RenewOperation, Storage: e.storage, Secret: l.secret, Data: l.data,
	})
}

func (e *env) revokeLease(l *lease) error {
	_, err := e.b.HandleRequest(context.Background(), &logical.Request{
		Operation: logical.RevokeOperation, Storage: e.storage, Secret: l.secret, Data: l.data,
	})
	return err
}

// tidyToEnd runs tidy and waits for its end.
func (e *env) tidyToEnd() tidyStatus {
	e.t.Helper()
	e.write("tidy", nil)
	require.Eventually(e.t, func() bool { return e.b.tidying.read().State != "running" }, 10*time.Second, time.Millisecond)
	status := e.b.tidying.read()
	require.Equal(e.t, "finished", status.State, status.Error)
	return status
}

// keys returns every storage key below prefix.
func (e *env) keys(prefix string) []string {
	e.t.Helper()
	keys, err := logical.CollectKeysWithPrefix(context.Background(), e.storage, prefix)
	require.NoError(e.t, err)
	return keys
}

func (e *env) refusedWrite(path string, d data) string {
	e.t.Helper()
	return e.refused(logical.UpdateOperation, path, d)
}
