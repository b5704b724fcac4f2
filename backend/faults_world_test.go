package backend

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/feed"
	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/backend/policy"
)

// Custom tokens of the world.
const (
	customOld   = "custom-old-0123456789abcdefghijklmnop"
	customNow   = "custom-now-0123456789abcdefghijklmnop"
	customSpent = "custom-spent-0123456789abcdefghijklmn"
	customNew   = "custom-new-0123456789abcdefghijklmnop"
)

// world is a mount in use, with something of every kind in it, from which every
// run of a test starts again.
type world struct {
	contents contents
	now      time.Time
	epoch    string
	index    uint64
	tokens   map[string]string // by a name that describes the token
	accessor map[string]string // of the tokens that are active
	leases   map[string]lease
	place    any // of the server pinned
}

// newWorld makes the mount. Its clients:
//
//	c  an issued token, a predecessor in its grace period, two leased tokens, one
//	   of which has expired, and one that a sign-in has got
//	k  a custom token and a custom predecessor; a third has ended
//	t  a token that expires, and a rotation by the id "again"
//	r  revoked
//	x  disabled
//	z  a bystander
//	e  has a role and nothing of its own
//
// and d, deleted, of which a leased token's entries are left. Its server pinned has an approval,
// one that was first seen not long ago, and reported definitions.
func newWorld(t testing.TB) *world {
	t.Helper()
	e := newEnv(t)
	w := &world{tokens: map[string]string{}, accessor: map[string]string{}, leases: map[string]lease{}}
	e.catalog()
	e.read("gateway/keys") // which makes them
	e.write("config", data{"max_ttl": "12h", "sign_in_logins": data{"employees": employees}})
	e.write("policies/corp", data{"deniedMcpServers": []any{data{"serverName": "dangerous"}}})
	e.write("policies/unused", data{"allowedMcpServers": []any{}})

	w.tokens["c before"] = e.client("c", data{"allowed_servers": "good,local", "policies": "corp", "metadata": data{"team": "a"}, "sign_in": true})
	w.tokens["c"] = e.rotate("c", data{"grace_period": "1h"})
	w.tokens["k spent"] = e.client("k", data{"allowed_servers": "good", "access_token": customSpent})
	w.tokens["k before"] = e.rotate("k", data{"access_token": customOld, "grace_period": 0})
	w.tokens["k"] = e.rotate("k", data{"access_token": customNow, "grace_period": "1h"})
	w.tokens["t before"] = e.client("t", data{"token_ttl": "1h", "token_max_ttl": "6h"})
	w.tokens["t"] = e.rotate("t", data{"grace_period": "1h", "rotation_id": "again"})
	w.tokens["r"] = e.client("r", data{})
	e.write("revoke-client/r", nil)
	w.tokens["x"] = e.client("x", data{})
	e.write("clients/x", data{"disabled": true})
	w.tokens["z"] = e.client("z", data{"allowed_servers": "*"})
	e.write("roles/engineer", data{"allowed_servers": "good", "denied_tools": "*/delete_*"})
	e.write("roles/unused", data{"allowed_servers": "local"})
	w.tokens["e"] = e.client("e", data{"role": "engineer"})
	e.write("servers/pinned", data{"transport": "http", "url": "https://mcp.example.com/pinned", "pin": "enforce"})
	w.place = e.read("pins/pinned")["place"]
	w.reports(e, toolText("old", "approved"))
	e.write("pins/pinned", data{"approve": "old", "digest": digestOf(t, pin.Tool, toolText("old", "approved"))})
	w.reports(e, toolText("old", "reported"), toolText("new", "reported"), toolText("new", "again"))
	e.write("pins/pinned", data{"trust_first": true})
	w.reports(e, toolText("first", "seen"))
	w.tokens["d"] = e.client("d", data{})
	for name, of := range map[string]string{"c leased": "c", "d leased": "d"} {
		w.leases[name] = *e.lease(of, data{"ttl": "1h"})
	}
	w.leases["c expired"] = *e.lease("c", data{"ttl": "1m"})
	w.leases["c signed"] = *e.signedIn(ann(), "c", data{"sign_in_ends": e.in(12 * time.Hour)})
	for name, l := range w.leases {
		w.tokens[name] = l.token
	}
	e.delete("clients/d")
	w.tokens["new"] = customNew // nobody's yet
	w.rotatesJustNow(e, "t")
	w.take(e)
	return w
}

// reports reports tools of the server pinned, as a gateway does.
func (w *world) reports(e *env, texts ...string) {
	e.t.Helper()
	e.write("gateway/pins/pinned", reportOf(w.place, texts...))
}

func reportOf(place any, texts ...string) data {
	var definitions []any
	for _, text := range texts {
		definitions = append(definitions, data{"kind": "tool", "text": text})
	}
	return data{"place": place, "definitions": definitions}
}

// rotatesJustNow has the client's last rotation be one of when the world is taken, so
// that its id still counts.
func (w *world) rotatesJustNow(e *env, name string) {
	e.t.Helper()
	defer e.b.clients.lock(name)()
	held, err := e.b.clients.getLocked(context.Background(), e.storage, name)
	require.NoError(e.t, err)
	next := held.clone()
	next.Tokens[0].IssuedAt = e.clock.Now().Add(takenAfter)
	require.NoError(e.t, e.b.clients.put(context.Background(), e.storage, name, next))
}

// takenAfter is how much later than its last change a world is taken: each event of the
// feed would be one more call to fail.
const takenAfter = feed.Retention + time.Minute

// take sets the world to the mount's present state.
func (w *world) take(e *env) {
	t := e.t
	t.Helper()
	e.clock.Advance(takenAfter)
	require.NoError(t, e.b.feed.Prune(context.Background(), e.storage))
	w.now = e.clock.Now()
	for name, token := range w.tokens {
		if accessor, ok := e.lookup(token)["accessor"].(string); ok {
			w.accessor[name] = accessor
		}
	}
	var err error
	w.epoch, w.index, err = e.b.feed.Head(context.Background(), e.storage)
	require.NoError(t, err)
	w.contents = contentsOf(t, e.storage)
}

// quiet is a test that is no *testing.T, for which env compares no schemas: that
// would take most of the time.
type quiet struct{ testing.TB }

// Cleanup ignores its argument: an engine of which only the memory is left needs no
// cleaning up, and thousands of them would stay until the test ends.
func (quiet) Cleanup(func()) {}

// start starts the engine over storage. Its random values are the same for the same
// seed, so that runs can be compared.
func (w *world) start(t testing.TB, storage logical.Storage, seed byte) *env {
	t.Helper()
	e := newEnvOn(quiet{t}, storage, &clock{now: w.now})
	e.b.opts.Random = rand.NewChaCha8([32]byte{seed})
	return e
}

// lease returns a copy of a lease of the world, for an engine to change.
func (w *world) lease(name string) *lease {
	l := w.leases[name]
	secret := *l.secret
	l.secret = &secret
	return &l
}

// written reports whether anything in storage but the change feed's state differs
// from the world's. Where nothing does, a restart has nothing to get wrong.
func (w *world) written(e *env) bool {
	now := contentsOf(e.t, e.storage)
	delete(now, feed.Prefix+"state")
	held := maps.Clone(w.contents)
	delete(held, feed.Prefix+"state")
	return !reflect.DeepEqual(now, held)
}

// view is all that can be seen of a mount through its API: field or entry by
// what it is about.
type view map[string]any

// look takes the view of the engine. More can be asked for than the world's
// tokens: those that an operation has answered.
func (w *world) look(e *env, more ...string) view {
	v := view{"config": e.read("config"), "keys": e.read("gateway/keys")}
	for name, token := range w.tokens {
		v["token "+name] = withoutFeed(e.lookup(token))
	}
	for i, token := range more {
		v[fmt.Sprintf("answered %d", i)] = withoutFeed(e.lookup(token))
	}
	for _, name := range e.list("clients/") {
		v["client "+name] = e.read("clients/" + name)
		for _, accessor := range e.list("clients/" + name + "/tokens/") {
			// A leased token that is gone may be listed until tidy; it cannot be read.
			if held := e.read("clients/" + name + "/tokens/" + accessor); held != nil {
				v["listed "+name+" "+accessor] = held
			}
		}
	}
	if held := e.read("config/kms"); held != nil {
		v["kms"] = held
	}
	for _, name := range e.list("policies/") {
		v["policy "+name] = e.read("policies/" + name)
	}
	for _, name := range e.list("roles/") {
		v["role "+name] = e.read("roles/" + name)
	}
	registry := e.read("gateway/servers")
	for _, field := range []string{"servers", "credential_servers"} {
		for name, server := range registry[field].(map[string]any) {
			v["server "+name] = server
		}
	}
	for name, server := range registry["pinned_servers"].(map[string]any) {
		v["server "+name] = server
		v["pins "+name] = withoutFeed(e.read("gateway/pins/" + name))
		v["pinned "+name] = e.must(logical.ReadOperation, "pins/"+name, data{"texts": true}).Data
	}
	return v
}

// withoutFeed leaves out the fields that differ between two equal answers.
func withoutFeed(d data) data {
	d = maps.Clone(d)
	for _, field := range []string{"epoch", "index", "answered_at"} {
		delete(d, field)
	}
	return d
}

// String is how views are compared.
func (v view) String() string {
	text, err := json.MarshalIndent(map[string]any(v), "", " ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// differences are the keys under which two views differ.
func (v view) differences(o view) []string {
	var keys []string
	for key := range v {
		if _, ok := o[key]; !ok || !reflect.DeepEqual(v[key], o[key]) {
			keys = append(keys, key)
		}
	}
	for key := range o {
		if _, ok := v[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// missed returns those differences between two views without an event of the feed
// that has a gateway ask again, for one who has applied everything up to the
// world's index.
func (w *world) missed(t testing.TB, e *env, before, now view, differences []string) []string {
	t.Helper()
	answer, err := e.b.feed.Watch(context.Background(), e.storage, w.epoch, w.index, 0, 0)
	require.NoError(t, err)
	if answer.Reset {
		return nil
	}
	var missed []string
	for _, key := range differences {
		if !told(answer.Events, key, before[key], now[key]) {
			missed = append(missed, key)
		}
	}
	return missed
}

// told reports whether an event covers the difference. A gateway has only answers of
// lookups, gateway/servers and gateway/keys.
func told(events []feed.Event, key string, before, now any) bool {
	var kind, name string
	_, _ = fmt.Sscanf(key, "%s %s", &kind, &name)
	switch kind {
	case "token":
		if sameGrant(before, now) {
			return true
		}
		return slices.ContainsFunc(events, func(ev feed.Event) bool { return coversToken(ev, before, now) })
	case "server", "pins":
		return slices.ContainsFunc(events, func(ev feed.Event) bool { return ev.Type == feed.Server && ev.Name == name })
	case "config", "keys", "kms":
		return slices.ContainsFunc(events, func(ev feed.Event) bool { return ev.Type == feed.Config })
	default:
		return true
	}
}

// sameGrant reports whether two lookups of a token admit the same. The version of
// the client changes with each rotation, too; and who holds a token whose life
// was lengthened asks again at the end that it knows.
func sameGrant(before, now any) bool {
	b, n := maps.Clone(before.(data)), maps.Clone(now.(data))
	ignored := []string{"client_version"}
	if b["active"] == true && n["active"] == true && !end(n).Before(end(b)) {
		ignored = append(ignored, "expires_at", "ttl")
	}
	for _, field := range ignored {
		delete(b, field)
		delete(n, field)
	}
	return reflect.DeepEqual(b, n)
}

// end is when the token of a lookup expires.
func end(lookup data) time.Time {
	at, err := time.Parse(time.RFC3339Nano, lookup["expires_at"].(string))
	if err != nil {
		return time.Unix(1<<40, 0) // never
	}
	return at
}

// coversToken reports whether the event is about the token that answered before
// one way and now another.
func coversToken(ev feed.Event, before, now any) bool {
	held, _ := before.(data)
	if held["active"] != true {
		held, _ = now.(data)
	}
	switch ev.Type {
	case feed.Mount, feed.Policy:
		return true
	case feed.Config:
		return ev.Name != "keys" // those of session ids concern no token
	case feed.Client:
		return ev.ClientID == held["client_id"]
	case feed.Token:
		return ev.Accessor == held["accessor"]
	case feed.Role:
		rights, _ := held["rights"].([]policy.Rights)
		return ev.Name == policy.RoleOf(rights)
	default:
		return false
	}
}
