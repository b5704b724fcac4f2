// Package grantstest has a Vault with the engine's API in its wire form, for
// tests of packages that use a [grants.Broker]. It decides nothing: tests set its
// tokens.
package grantstest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/grants"
)

// Data is a JSON object.
type Data = map[string]any

// Vault is a Vault with one mount of the engine, at mcp/.
type Vault struct {
	*httptest.Server
	t testing.TB

	mu      sync.Mutex
	tokens  map[string]Data
	servers map[string]Data
	pins    map[string]*pins // by name of the server
	changes []Data
	wake    chan struct{}
	failing int // status of every answer, if not 0
	lookups int
}

// New starts a Vault that ends with the test.
func New(t testing.TB) *Vault {
	t.Helper()
	v := &Vault{t: t, tokens: map[string]Data{}, servers: map[string]Data{}, pins: map[string]*pins{}, wake: make(chan struct{})}
	v.Server = httptest.NewServer(http.HandlerFunc(v.serve))
	t.Cleanup(v.CloseClientConnections) // requests for changes are held
	t.Cleanup(v.Close)
	return v
}

// AddServer registers an HTTP server.
func (v *Vault) AddServer(name, address string) {
	v.Register(name, Data{"transport": "http", "url": address})
}

// Register registers a server of any kind, as the registry has it. With disabled=true it is
// stopped.
func (v *Vault) Register(name string, entry Data) {
	server := Data{"id": "registration-" + name}
	for key, value := range entry {
		server[key] = value
	}
	v.set(func() { v.servers[name] = server })
	v.announce(Data{"type": "server", "operation": "update", "name": name})
}

// AddToken makes a token active, for a client of the name, with more fields of
// the lookup's answer if given.
func (v *Vault) AddToken(token, client string, more Data) {
	answer := Data{
		"active": true, "client": client, "client_id": "id-" + client, "accessor": "accessor-" + client,
		"allowed_servers": []string{"*"}, "answered_at": time.Now().UTC().Format(time.RFC3339Nano),
	}
	for key, value := range more {
		answer[key] = value
	}
	v.set(func() { v.tokens[token] = answer })
	v.announce(Data{"type": "token", "operation": "create", "client_id": answer["client_id"], "accessor": answer["accessor"]})
}

// Lease makes a token active that has a lease for so long, as the accessor of that name, with
// more fields of the lookup's answer if given. As in the engine, no change tells of its
// beginning, and none of its expiry.
func (v *Vault) Lease(token, client, accessor string, ttl time.Duration, more Data) {
	answer := Data{
		"active": true, "client": client, "client_id": "id-" + client, "accessor": accessor, "allowed_servers": []string{"*"},
		"kind": "leased", "expires_at": time.Now().Add(ttl).UTC().Format(time.RFC3339Nano),
	}
	for key, value := range more {
		answer[key] = value
	}
	v.set(func() { v.tokens[token] = answer })
}

// Shorten has the lease of a token end so soon, as a renewal with a shorter increment does: a
// change tells of it.
func (v *Vault) Shorten(token string, ttl time.Duration) {
	changed := Data{}
	v.set(func() {
		for key, value := range v.tokens[token] {
			changed[key] = value
		}
		changed["expires_at"] = time.Now().Add(ttl).UTC().Format(time.RFC3339Nano)
		v.tokens[token] = changed
	})
	v.announce(Data{"type": "token", "operation": "update", "client_id": changed["client_id"], "accessor": changed["accessor"]})
}

// OfSignIn has the fields of a lookup's answer that say that the token was leased in a sign-in:
// of the person with the application, for the resource.
func OfSignIn(signIn, person, application, resource string) Data {
	return Data{
		"sign_in": signIn, "person": person, "entity_id": "entity-" + person, "application": application,
		"login": "employees", "resource": resource,
	}
}

// Revoke ends a token.
func (v *Vault) Revoke(token string) {
	var ended Data
	v.set(func() {
		ended = v.tokens[token]
		delete(v.tokens, token)
	})
	v.announce(Data{
		"type": "token", "operation": "revoke", "client_id": ended["client_id"], "accessor": ended["accessor"], "sign_in": ended["sign_in"],
	})
}

// RevokeClient ends all tokens of a client.
func (v *Vault) RevokeClient(client string) {
	v.set(func() {
		for token, answer := range v.tokens {
			if answer["client"] == client {
				delete(v.tokens, token)
			}
		}
	})
	v.announce(Data{"type": "client", "operation": "revoke", "client_id": "id-" + client})
}

// WriteClient announces that somebody has written the client, which ends nothing.
func (v *Vault) WriteClient(client string) {
	v.announce(Data{"type": "client", "operation": "update", "client_id": "id-" + client})
}

// Fail has every request answered with the status; 0 ends it.
func (v *Vault) Fail(status int) { v.set(func() { v.failing = status }) }

// Lookups returns how many were asked.
func (v *Vault) Lookups() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.lookups
}

func (v *Vault) set(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
}

func (v *Vault) announce(change Data) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change["index"] = len(v.changes) + 1
	v.changes = append(v.changes, change)
	close(v.wake)
	v.wake = make(chan struct{})
}

func (v *Vault) serve(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	failing := v.failing
	v.mu.Unlock()
	if failing != 0 {
		w.WriteHeader(failing)
		_ = json.NewEncoder(w).Encode(Data{"errors": []string{"failing"}})
		return
	}
	switch r.URL.Path {
	case "/v1/auth/approle/login":
		_ = json.NewEncoder(w).Encode(Data{"auth": Data{"client_token": "gateway", "lease_duration": 3600, "renewable": true}})
	case "/v1/mcp/lookup":
		v.lookup(w, r)
	case "/v1/mcp/changes":
		v.follow(w, r)
	case "/v1/mcp/gateway/servers":
		v.mu.Lock()
		defer v.mu.Unlock()
		servers, pinned, disabled := Data{}, Data{}, []string{}
		for name, entry := range v.servers {
			entry, enforced := v.pins[name].of(entry)
			switch {
			case entry["disabled"] == true:
				disabled = append(disabled, name)
			case enforced:
				pinned[name] = entry
			default:
				servers[name] = entry
			}
		}
		v.answer(w, Data{"servers": servers, "pinned_servers": pinned, "disabled": disabled})
	case "/v1/mcp/gateway/keys":
		v.mu.Lock()
		defer v.mu.Unlock()
		v.answer(w, Data{"current_version": 1, "mount_id": "mount", "keys": Data{"1": Data{"key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}})
	default:
		if name, ok := strings.CutPrefix(r.URL.Path, "/v1/mcp/gateway/pins/"); ok {
			v.servePins(w, r, name)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}
}

// answer writes data with the feed's place. The lock is held.
func (v *Vault) answer(w http.ResponseWriter, data Data) {
	data["epoch"], data["index"] = "epoch", len(v.changes)
	_ = json.NewEncoder(w).Encode(Data{"data": data})
}

func (v *Vault) lookup(w http.ResponseWriter, r *http.Request) {
	var question struct{ Token string }
	_ = json.NewDecoder(r.Body).Decode(&question)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lookups++
	now := time.Now()
	answer := Data{"active": false}
	token := v.tokens[question.Token]
	if text, ok := token["expires_at"].(string); ok {
		if expires, err := time.Parse(time.RFC3339Nano, text); err != nil || !now.Before(expires) {
			token = nil
		}
	}
	for key, value := range token {
		answer[key] = value
	}
	answer["answered_at"] = now.UTC().Format(time.RFC3339Nano)
	v.answer(w, answer)
}

func (v *Vault) follow(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	index, err := strconv.Atoi(query.Get("index"))
	wait, _ := time.ParseDuration(query.Get("wait"))
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil || query.Get("epoch") != "epoch" || index > len(v.changes) {
		v.answer(w, Data{"reset": true})
		return
	}
	if index == len(v.changes) {
		wake := v.wake
		v.mu.Unlock()
		select {
		case <-wake:
		case <-time.After(wait):
		case <-r.Context().Done():
		}
		v.mu.Lock()
	}
	v.answer(w, Data{"changes": v.changes[index:]})
}

// Settings are those of a gateway that uses v.
func (v *Vault) Settings() config.Vault {
	v.t.Helper()
	secret := filepath.Join(v.t.TempDir(), "secret_id")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		v.t.Fatal(err)
	}
	address, err := url.Parse(v.URL)
	if err != nil {
		v.t.Fatal(err)
	}
	return config.Vault{
		VaultClient: config.VaultClient{Address: address, Timeout: time.Minute},
		Mount:       "mcp",
		Auth:        config.Auth{Method: config.AuthAppRole, Mount: "approle", RoleID: "role", SecretIDFile: secret},
	}
}

// Unlimited are settings of a cache under which no test waits for its turn.
var Unlimited = config.Grants{
	MaxStale: 30 * time.Second, NegativeTTL: 30 * time.Second, MaxEntries: 1000, Wait: time.Second,
	ColdRate: 1e6, ColdBurst: 1e6, ColdSourceRate: 1e6, ColdSourceBurst: 1e6,
}

// Broker returns a Broker that is logged in to v, and runs until the test ends.
func (v *Vault) Broker(options grants.Options) *grants.Broker {
	v.t.Helper()
	options.Vault = v.Settings()
	if options.Grants == (config.Grants{}) {
		options.Grants = Unlimited
	}
	if options.Log == nil {
		options.Log = hclog.NewNullLogger()
	}
	b, err := grants.New(options)
	if err != nil {
		v.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Run(ctx)
	}()
	v.t.Cleanup(func() {
		cancel()
		<-done
	})
	v.Await("the broker to be up", func() bool { return b.Servers() != nil && b.Stats().Feed == grants.FeedUp })
	return b
}

// Await waits until something is so, or fails the test.
func (v *Vault) Await(what string, so func() bool) {
	v.t.Helper()
	deadline := time.After(10 * time.Second)
	for !so() {
		select {
		case <-deadline:
			v.t.Fatalf("waited too long for %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}
