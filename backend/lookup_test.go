package backend

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestALookupSaysNothingOfATokenThatIsNotActive(t *testing.T) {
	e := newEnv(t)
	expired := e.client("a", data{"token_ttl": "1m"})
	e.clock.Advance(time.Minute)
	revoked := e.client("b", data{})
	e.write("revoke-client/b", nil)
	deleted := e.client("c", data{})
	e.delete("clients/c")
	disabled := e.client("d", data{"disabled": true})
	good := e.client("e", data{})

	want := e.lookup("unknown_but_well_formed")
	require.Equal(t, false, want["active"])
	require.Len(t, want, 4) // active, epoch, index, answered_at
	for name, token := range map[string]string{
		"expired": expired, "revoked": revoked, "deleted": deleted, "disabled": disabled,
		"malformed": "mcpt_nonsense", "empty": "", "mistyped": good[:53] + "!", "long": string(make([]byte, 10000)),
	} {
		require.Equal(t, want, e.lookup(token), name)
	}
	require.Contains(t, e.refused(logical.UpdateOperation, "lookup", nil), "field token is missing")
	require.Contains(t, e.refused(logical.UpdateOperation, "lookup", data{"tokn": "x"}), `unknown field "tokn"`)
}

func TestALookupByAccessorAnswersTheSame(t *testing.T) {
	e := newEnv(t)
	for _, token := range []string{e.client("a", data{"allowed_servers": "x", "allowed_tools": "x/y"}), e.lease("a", nil).token} {
		want := e.lookup(token)
		require.Equal(t, want, e.write("lookup-accessor", data{"accessor": want["accessor"]}).Data)
	}
	require.Equal(t, false, e.write("lookup-accessor", data{"accessor": "nonsense"}).Data["active"])
	require.Contains(t, e.refused(logical.UpdateOperation, "lookup-accessor", nil), "field accessor is missing")
}

// countingStorage counts the calls that would leave the plugin's process.
type countingStorage struct {
	logical.Storage
	gets int
}

func (s *countingStorage) Get(ctx context.Context, key string) (*logical.StorageEntry, error) {
	s.gets++
	return s.Storage.Get(ctx, key)
}

type countingSystem struct {
	logical.SystemView
	calls int
}

func (s *countingSystem) ReplicationState() consts.ReplicationState {
	s.calls++
	return s.SystemView.ReplicationState()
}

func (s *countingSystem) LocalMount() bool {
	s.calls++
	return s.SystemView.LocalMount()
}

func TestALookupAsksVaultForNothingThatItHasSeen(t *testing.T) {
	storage := &countingStorage{Storage: &logical.InmemStorage{}}
	e := newEnvOn(t, storage, newClock())
	token := e.client("c", data{})
	other := e.client("d", data{})
	require.True(t, e.active(token))
	system := e.b.System().(*cachedSystem)
	counted := &countingSystem{SystemView: system.SystemView}
	system.SystemView = counted

	storage.gets = 0
	for range 100 {
		require.True(t, e.active(token))
	}
	require.Zero(t, storage.gets)
	require.Zero(t, counted.calls)
	e.clock.Advance(time.Second)
	require.True(t, e.active(token))
	require.Equal(t, 2, counted.calls, "what Vault says of itself holds for a second")
	require.True(t, e.active(other))
	require.LessOrEqual(t, storage.gets, 2, "a token never seen costs its pointer and its client")
}

// Another node's write is announced by Vault through Invalidate, with the
// storage key.
func TestWhatAnotherNodeWroteIsReadAnew(t *testing.T) {
	storage := &logical.InmemStorage{}
	c := newClock()
	e, other := newEnvOn(t, storage, c), newEnvOn(t, storage, c)
	token := e.client("c", data{"allowed_servers": "a"})
	e.write("servers/s", data{"transport": "http", "url": "http://127.0.0.1:1/"})
	require.True(t, other.active(token))
	require.NotNil(t, other.read("servers/s"))
	other.read("config")
	other.read("gateway/keys")

	e.write("revoke-client/c", nil)
	e.write("servers/s", data{"description": "changed"})
	e.write("config", data{"grace_period": "7s"})
	e.write("gateway/keys/rotate", nil)
	e.write("revoke-all", nil)
	for _, key := range e.keys("") {
		other.b.invalidate(context.Background(), key)
	}
	require.False(t, other.active(token))
	require.Equal(t, "changed", other.read("servers/s")["description"])
	require.EqualValues(t, 7, other.read("config")["grace_period"])
	require.EqualValues(t, 2, other.read("gateway/keys")["current_version"])
	require.True(t, other.active(other.rotate("c", nil)))
}

func introspect(t *testing.T, e *env, token string) (in introspection, raw map[string]any) {
	t.Helper()
	resp := e.write("introspect", data{"token": token, "token_type_hint": "access_token", "resource": "anything"})
	require.Equal(t, "application/json", resp.Data[logical.HTTPContentType])
	body := resp.Data[logical.HTTPRawBody].([]byte)
	require.NoError(t, json.Unmarshal(body, &in))
	require.NoError(t, json.Unmarshal(body, &raw))
	return in, raw
}

func TestIntrospectionAnswersInTheFormOfRFC7662(t *testing.T) {
	e := newEnv(t)
	token := e.client("c", data{"allowed_servers": "a,b", "token_ttl": "1h", "allowed_tools": ""})
	in, raw := introspect(t, e, token)
	require.True(t, in.Active)
	require.Equal(t, "a b", in.Scope)
	require.Equal(t, "c", in.Subject)
	require.Equal(t, "Bearer", in.TokenType)
	require.Equal(t, e.clock.Now().Add(time.Hour).Unix(), in.Expires)
	require.Equal(t, []any{}, raw["allowed_tools"], "no tool at all is not the same as every tool")

	_, raw = introspect(t, e, e.client("d", data{}))
	require.NotContains(t, raw, "exp")
	require.NotContains(t, raw, "allowed_tools")
	for _, token := range []string{"unknown_but_well_formed", token + "," + token} {
		_, raw = introspect(t, e, token)
		require.Equal(t, map[string]any{"active": false}, raw)
	}
	require.Contains(t, e.refused(logical.UpdateOperation, "introspect", nil), "RFC 7662")
}
