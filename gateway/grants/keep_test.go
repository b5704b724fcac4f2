package grants

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// kept is something that a client goes on to have at a server after a request.
type kept struct {
	ended   []error
	release func()
}

// keep has one request begin something, and ends the request.
func (b *Broker) keep(t *testing.T, token, server string) *kept {
	t.Helper()
	_, h := b.hold(t, token, server)
	defer h.Release()
	k := &kept{}
	var err error
	k.release, err = b.Keep(h, b.Server(server), func(cause error) { k.ended = append(k.ended, cause) })
	require.NoError(t, err)
	t.Cleanup(k.release)
	return k
}

func TestWhatOutlivesItsRequestHearsOfTheEndOfAccess(t *testing.T) {
	outage := func(m *model, during func()) {
		m.write(func() { m.down = true })
		after(20 * time.Second) // shorter than max_stale
		during()
		m.write(func() { m.down = false })
		after(10 * time.Second)
	}
	tests := map[string]struct {
		happens func(m *model, token *modelToken)
		cause   error // nil: it goes on
	}{
		"a revocation": {func(m *model, _ *modelToken) { m.revoke("t") }, ErrInactive},
		"a revocation during an outage": {func(m *model, _ *modelToken) {
			outage(m, func() { m.revoke("t") })
		}, ErrInactive},
		"a revocation during an outage, which the feed cannot tell any more": {func(m *model, token *modelToken) {
			outage(m, func() { m.write(func() { token.active, m.epoch = false, "e2" }) })
		}, ErrInactive},
		"an outage that is longer than max_stale": {func(m *model, _ *modelToken) {
			m.write(func() { m.down = true })
			after(31 * time.Second)
		}, ErrUnavailable},
		"a client that is disabled": {func(m *model, token *modelToken) {
			m.mutate(vaultclient.Change{Type: typeClient, Operation: operationUpdate, ClientID: "id-c"}, func() { token.active = false })
		}, ErrInactive},
		"a narrower allow-list": {func(m *model, token *modelToken) {
			m.mutate(vaultclient.Change{Type: typeClient, Operation: operationUpdate, ClientID: "id-c"}, func() { token.servers = []string{"github"} })
		}, ErrNotAllowed},
		"a policy": {func(m *model, token *modelToken) {
			m.mutate(vaultclient.Change{Type: typePolicy, Operation: operationUpdate, Name: "p"}, func() { token.policy = denying("http://127.0.0.1:9001/*") })
		}, ErrNotAllowed},
		"the token's expiry": {func(m *model, token *modelToken) {
			m.mutate(vaultclient.Change{Type: typeToken, Operation: operationUpdate, ClientID: "id-c", Accessor: "acc-t"}, func() { token.expires = time.Now().Add(time.Minute) })
			after(time.Minute + expiryGrace)
		}, ErrInactive},
		"a server that is pointed elsewhere": {func(m *model, _ *modelToken) {
			m.mutate(vaultclient.Change{Type: typeServer, Operation: operationUpdate, Name: "files"}, func() {
				m.registry["files"] = vaultclient.ServerEntry{ID: "r9", Transport: TransportHTTP, URL: "http://127.0.0.1:9009/mcp"}
			})
		}, ErrServerGone},
		"a server that is disabled": {func(m *model, _ *modelToken) {
			m.mutate(vaultclient.Change{Type: typeServer, Operation: operationUpdate, Name: "files"}, func() {
				delete(m.registry, "files")
				m.disabled = []string{"files"}
			})
		}, ErrServerDisabled},
		"a long time without a use": {func(*model, *modelToken) { after(idleLimit + 2*cleanInterval) }, nil},
		"a cache that is full of others": {func(m *model, _ *modelToken) {
			for i := range 20 {
				m.addToken(fmt.Sprint("other-", i), "other")
			}
		}, nil},
		"a change of another client": {func(m *model, _ *modelToken) {
			m.mutate(vaultclient.Change{Type: typeClient, Operation: operationDelete, ClientID: "id-other"}, func() {})
		}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel()
				token := m.addToken("t", "c")
				b := runningBroker(t, m, func(o *Options) { o.Grants.MaxEntries = 4 })
				synctest.Wait()
				k := b.keep(t, "t", "files")
				test.happens(m, token)
				for i := range 20 {
					_, _ = b.Grant(t.Context(), fmt.Sprint("other-", i), home)
				}
				after(time.Second)
				if test.cause == nil {
					require.Empty(t, k.ended)
					m.revoke("t")
					after(time.Second)
					test.cause = ErrInactive
				}
				require.Len(t, k.ended, 1)
				require.ErrorIs(t, k.ended[0], test.cause)
			})
		})
	}
}

func TestWhatWasGivenUpHearsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := brokerWithToken(t)
		k := b.keep(t, "t", "files")
		k.release()
		k.release()
		m.revoke("t")
		after(time.Second)
		require.Empty(t, k.ended)
		require.Empty(t, b.live.entries)
	})
}

func TestNothingBeginsOnAccessThatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b, _ := brokerWithToken(t)
		_, h := b.hold(t, "t", "files")
		defer h.Release()
		m.revoke("t")
		after(time.Second)
		_, err := b.Keep(h, b.Server("files"), func(error) { t.Error("there is nothing to end") })
		require.ErrorIs(t, err, ErrInactive)
	})
}

// TestWhateverLeavesTheCacheIsTold looks at every way out of it.
func TestWhateverLeavesTheCacheIsTold(t *testing.T) {
	ways := map[string]func(m *model, b *Broker, token *modelToken) error{
		"it makes room for others": func(m *model, b *Broker, _ *modelToken) error {
			var err error
			for i := range 20 {
				m.addToken(fmt.Sprint("o", i), "other")
				after(time.Second)
				_, other := b.Grant(context.Background(), fmt.Sprint("o", i), home)
				err = errors.Join(err, other)
			}
			return err
		},
		"nobody uses it": func(*model, *Broker, *modelToken) error { after(idleLimit + 2*cleanInterval); return nil },
		"it expires": func(m *model, b *Broker, token *modelToken) error {
			m.mutate(vaultclient.Change{Type: typeToken, Operation: operationUpdate, ClientID: "id-c", Accessor: "acc-t"}, func() { token.expires = time.Now().Add(time.Minute) })
			after(time.Second)
			_, err := b.Grant(context.Background(), "t", home)
			after(time.Minute + 2*cleanInterval)
			return err
		},
		"Vault says no": func(m *model, b *Broker, token *modelToken) error {
			m.mutate(vaultclient.Change{Type: typePolicy, Operation: operationUpdate, Name: "p"}, func() { token.active = false })
			after(time.Second)
			if _, err := b.Grant(context.Background(), "t", home); !errors.Is(err, ErrInactive) {
				return fmt.Errorf("it is admitted: %w", err)
			}
			return nil
		},
		"it was revoked during an outage": func(m *model, _ *Broker, _ *modelToken) error {
			m.write(func() { m.down = true })
			after(5 * time.Minute)
			m.revoke("t")
			m.write(func() { m.down = false })
			after(time.Minute)
			return nil
		},
	}
	for name, leave := range ways {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel()
				token := m.addToken("t", "c")
				b := runningBroker(t, m, func(o *Options) { o.Grants.MaxEntries = 4 })
				synctest.Wait()
				told := 0
				b.OnEnd(func(e End) {
					if e.Grant != nil && e.Grant.Accessor == "acc-t" && e.Successor == nil {
						told++
					}
				})
				require.NoError(t, grantErr(t, b, "t"))
				require.NoError(t, leave(m, b, token))
				synctest.Wait()
				require.Equal(t, 1, told)
				require.Nil(t, b.cache.get(keyOf("t")))
			})
		})
	}
}

// TestWhatIsKeptForAClientDoesNotKeepItsRequest: the token is a part of the request's header.
func TestWhatIsKeptForAClientDoesNotKeepItsRequest(t *testing.T) {
	m := newModel()
	m.addToken("t", "c")
	b := brokerFor(t, m)
	require.NoError(t, b.fetchRegistry(t.Context()))
	b.sync(m)
	header := strings.Repeat("x", 1<<20) + "t"
	token := header[1<<20:]
	g, err := b.Grant(t.Context(), token, home)
	require.NoError(t, err)
	_, h, err := b.Hold(t.Context(), g, Use{Token: token, Source: home, Server: b.Server("files")})
	require.NoError(t, err)
	release, err := b.Keep(h, b.Server("files"), func(error) {})
	require.NoError(t, err)
	defer release()
	h.Release()
	kept := h.entry.live
	require.Equal(t, "t", kept.token)
	require.NotSame(t, unsafe.StringData(token), unsafe.StringData(kept.token))
}
