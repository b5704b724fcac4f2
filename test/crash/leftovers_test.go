package crash

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend"
	"vault-plugin-secrets-mcp/test/harness"
)

// tidyAge is above the age below which tidy spares entries that may still be in use.
const tidyAge = 11 * time.Minute

// checkLeftovers fails the test if tidy leaves entries behind that nothing needs. Tidy
// spares entries that are younger than ten minutes, so the test takes a copy of Vault's
// storage after the crashes, and runs the engine over it with a clock that is eleven
// minutes ahead. It also checks there that all answers stay the same.
func checkLeftovers(t *testing.T, h *harness.Harness, team []*worker) {
	t.Helper()
	storage := copyStorage(t, h)
	before := len(keys(t, storage, "token/")) + len(keys(t, storage, "lease/")) + len(keys(t, storage, "uid/"))
	e := startEngine(t, storage, tidyAge)
	e.tidy()
	after := len(keys(t, storage, "token/")) + len(keys(t, storage, "lease/")) + len(keys(t, storage, "uid/"))
	t.Logf("tidy removed %d of %d entries", before-after, before)

	for _, w := range team {
		if _, err := w.checkAll(t.Context(), e.lookup); err != nil {
			t.Error(err)
		}
	}
	e.checkStorage()
}

// copyStorage copies the mount's storage through sys/raw, decrypted.
func copyStorage(t *testing.T, h *harness.Harness) logical.Storage {
	t.Helper()
	mounts, err := h.Vault.Client().Sys().ListMounts()
	if err != nil {
		t.Fatal(err)
	}
	root := "sys/raw/logical/" + mounts[harness.Mount+"/"].UUID + "/"
	storage := &logical.InmemStorage{}
	var folder func(prefix string)
	folder = func(prefix string) {
		for _, name := range h.List(root + prefix) {
			if strings.HasSuffix(name, "/") {
				folder(prefix + name)
				continue
			}
			answer, err := h.Vault.Client().Logical().ReadWithData(root+prefix+name, map[string][]string{"encoding": {"base64"}, "compressed": {"false"}})
			if err != nil {
				t.Fatal(err)
			}
			value, err := base64.StdEncoding.DecodeString(answer.Data["value"].(string))
			if err != nil {
				t.Fatal(err)
			}
			if err := storage.Put(t.Context(), &logical.StorageEntry{Key: prefix + name, Value: value}); err != nil {
				t.Fatal(err)
			}
		}
	}
	folder("")
	return storage
}

func keys(t *testing.T, storage logical.Storage, prefix string) []string {
	t.Helper()
	found, err := logical.CollectKeysWithPrefix(t.Context(), storage, prefix)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// engine is the engine in the test's own process.
type engine struct {
	t       *testing.T
	backend logical.Backend
	storage logical.Storage
}

func startEngine(t *testing.T, storage logical.Storage, ahead time.Duration) *engine {
	t.Helper()
	b, err := backend.New(t.Context(), &logical.BackendConfig{
		Logger: hclog.NewNullLogger(), System: logical.TestSystemView(), StorageView: storage,
	}, backend.Options{Now: func() time.Time { return time.Now().Add(ahead) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Initialize(t.Context(), &logical.InitializationRequest{Storage: storage}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Cleanup(context.Background()) })
	return &engine{t: t, backend: b, storage: storage}
}

func (e *engine) ask(ctx context.Context, op logical.Operation, path string, d map[string]any) (map[string]any, error) {
	resp, err := e.backend.HandleRequest(ctx, &logical.Request{Operation: op, Path: path, Data: d, Storage: e.storage})
	if err == nil {
		err = resp.Error()
	}
	if err != nil || resp == nil {
		return nil, err
	}
	return resp.Data, nil
}

func (e *engine) lookup(ctx context.Context, token string) (bool, error) {
	found, err := e.ask(ctx, logical.UpdateOperation, "lookup", map[string]any{"token": token})
	return found["active"] == true, err
}

func (e *engine) list(path string) []string {
	e.t.Helper()
	found, err := e.ask(e.t.Context(), logical.ListOperation, path, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	names, _ := found["keys"].([]string)
	return names
}

func (e *engine) tidy() {
	e.t.Helper()
	if _, err := e.ask(e.t.Context(), logical.UpdateOperation, "tidy", nil); err != nil {
		e.t.Fatal(err)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		status, err := e.ask(e.t.Context(), logical.ReadOperation, "tidy/status", nil)
		if err != nil {
			e.t.Fatal(err)
		}
		switch status["state"] {
		case "running":
		case "finished":
			return
		default:
			e.t.Fatalf("tidy: %v", status)
		}
	}
}

// checkStorage fails the test if storage has an entry of a token that does not exist,
// or lacks one of a token that does.
func (e *engine) checkStorage() {
	e.t.Helper()
	listed := map[string]string{} // accessors that the API lists, with their kind
	ids := map[string]bool{}
	for _, name := range e.list("clients/") {
		client, err := e.ask(e.t.Context(), logical.ReadOperation, "clients/"+name, nil)
		if err != nil {
			e.t.Fatal(err)
		}
		ids[client["client_id"].(string)] = true
		for _, accessor := range e.list("clients/" + name + "/tokens/") {
			token, err := e.ask(e.t.Context(), logical.ReadOperation, "clients/"+name+"/tokens/"+accessor, nil)
			if err != nil || token == nil {
				e.t.Errorf("the token %s of %s is listed and cannot be read: %v", accessor, name, err)
				continue
			}
			if state := token["state"]; state != "active" && state != "grace" {
				e.t.Errorf("the token %s of %s is listed after tidy, and is %s", accessor, name, state)
			}
			listed[accessor] = token["kind"].(string)
		}
	}
	e.t.Logf("%d clients with %d tokens are left", len(ids), len(listed))

	pointers := map[string]bool{}
	for _, key := range keys(e.t, e.storage, "token/") {
		var p struct{ Accessor, Kind string }
		e.decode(key, &p)
		if listed[p.Accessor] != p.Kind {
			e.t.Errorf("%s leads to the token %s, which no client has", key, p.Accessor)
		}
		pointers[p.Accessor] = true
	}
	var leases []string
	for _, key := range keys(e.t, e.storage, "lease/") {
		accessor := strings.ReplaceAll(strings.TrimPrefix(key, "lease/"), "/", "")
		if listed[accessor] != "leased" {
			e.t.Errorf("%s is of no token", key)
		}
		leases = append(leases, accessor)
	}
	for accessor, kind := range listed {
		if !pointers[accessor] {
			e.t.Errorf("nothing leads to the token %s", accessor)
		}
		if kind == "leased" && !slices.Contains(leases, accessor) {
			e.t.Errorf("the leased token %s has no entry of its own", accessor)
		}
	}
	for _, key := range keys(e.t, e.storage, "uid/") {
		if !ids[strings.TrimPrefix(key, "uid/")] {
			e.t.Errorf("%s is of no client", key)
		}
	}
	if indexed := len(keys(e.t, e.storage, "uid/")); indexed != len(ids) {
		e.t.Errorf("%d clients have %d ids", len(ids), indexed)
	}
	for _, key := range keys(e.t, e.storage, "feed/event/") {
		var event struct{ Index uint64 }
		e.decode(key, &event)
		if event.Index == 0 {
			e.t.Errorf("%s was never published", key)
		}
	}
}

func (e *engine) decode(key string, v any) {
	e.t.Helper()
	entry, err := e.storage.Get(e.t.Context(), key)
	if err == nil {
		err = json.Unmarshal(entry.Value, v)
	}
	if err != nil {
		e.t.Fatal(fmt.Errorf("%s: %w", key, err))
	}
}
