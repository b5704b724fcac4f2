package grants

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

var errDown = errors.New("connection refused")

// modelToken is one token of the model.
type modelToken struct {
	active   bool
	client   string // name; the id is "id-" before it
	accessor string
	expires  time.Time
	servers  []string
	role     *modelRole // that its client has; nil: none
	cidrs    []string
	policy   []policy.Source
	dataKey  string
	leased   bool
	signIn   *SignIn // nil: none
}

// modelRole is a role of the model.
type modelRole struct {
	name    string
	missing bool
	policy.Lists
}

// model is an engine in memory. A mutation runs in the engine's own two steps,
// so that tests can let something happen between them: the write, then the
// event.
type model struct {
	mu       sync.Mutex
	epoch    string
	index    uint64
	events   []vaultclient.Change
	tokens   map[string]*modelToken
	registry map[string]vaultclient.ServerEntry
	disabled []string // servers
	wrapped  vaultclient.DataKeyList
	pins     modelPins
	wake     chan struct{}

	ignoreSeals bool // lookups are answered for the token alone
	down        bool // nothing answers
	lookupsDown bool
	feedDown    bool
	noFeed      bool // the feed is not offered
	lookups     int  // answered or not
	inFlight    int
	mostFlying  int
	fetched     int           // policies asked for
	forgetful   int           // how many more policies are not known when they are asked for
	latency     time.Duration // of a lookup
	reading     time.Duration // how long it takes to read the registry
	gate        func(step string)
}

func newModel() *model {
	return &model{
		epoch:  "e1",
		tokens: make(map[string]*modelToken),
		registry: map[string]vaultclient.ServerEntry{
			"files":  {ID: "r1", Transport: TransportHTTP, URL: "http://127.0.0.1:9001/mcp"},
			"github": {ID: "r2", Transport: TransportHTTP, URL: "http://127.0.0.1:9002/mcp"},
		},
		wake: make(chan struct{}),
	}
}

// write is the durable half of a mutation.
func (m *model) write(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// announce is the other half.
func (m *model) announce(c vaultclient.Change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index++
	c.Index = m.index
	m.events = append(m.events, c)
	close(m.wake)
	m.wake = make(chan struct{})
}

func (m *model) mutate(c vaultclient.Change, f func()) {
	m.write(f)
	m.announce(c)
}

func (m *model) revoke(token string) {
	t := m.tokens[token]
	c := vaultclient.Change{Type: typeToken, Operation: operationRevoke, ClientID: "id-" + t.client, Accessor: t.accessor}
	if t.signIn != nil {
		c.SignIn = t.signIn.Accessor
	}
	m.mutate(c, func() { t.active = false })
}

func (m *model) step(name string) {
	m.mu.Lock()
	gate := m.gate
	m.mu.Unlock()
	if gate != nil {
		gate(name)
	}
}

func (m *model) enter() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lookups++
	m.inFlight++
	m.mostFlying = max(m.mostFlying, m.inFlight)
	if m.down || m.lookupsDown {
		m.inFlight--
		return errDown
	}
	return nil
}

func (m *model) Lookup(ctx context.Context, p vaultclient.UnsealedToken) (*vaultclient.Lookup, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.write(func() { m.inFlight-- })
	if m.latency > 0 {
		if err := backoff.Sleep(ctx, m.latency); err != nil {
			return nil, err
		}
	}
	answer := &vaultclient.Lookup{}
	m.step("index")
	m.write(func() { answer.Epoch, answer.Index = m.epoch, m.index })
	m.step("read")
	m.write(func() {
		t := m.tokens[p.Token]
		answer.AnsweredAt = time.Now()
		if t == nil || !t.active || t.dataKey != p.DataKey && !m.ignoreSeals || !t.expires.IsZero() && !time.Now().Before(t.expires) {
			return
		}
		answer.Active, answer.DataKey = true, t.dataKey
		answer.Client, answer.ClientID, answer.Accessor = t.client, "id-"+t.client, t.accessor
		answer.PolicyDigest = policy.Compile(t.policy).Digest()
		answer.AllowedServers, answer.TokenBoundCIDRs = slices.Clone(t.servers), slices.Clone(t.cidrs)
		if r := t.role; r != nil {
			answer.AllowedServers = []string{}
			answer.Rights = []policy.Rights{{Lists: policy.Lists{AllowedServers: slices.Clone(t.servers)}}, {Role: r.name, Missing: r.missing, Lists: r.Lists}}
		}
		if t.leased {
			answer.Kind = vaultclient.KindLeased
		}
		if s := t.signIn; s != nil {
			answer.Resource, answer.Application, answer.Login = s.Resource, s.Application, s.Login
			answer.Person, answer.EntityID, answer.SignIn = s.Person, s.EntityID, s.Accessor
		}
		if !t.expires.IsZero() {
			answer.ExpiresAt = t.expires.UTC().Format(time.RFC3339Nano)
		}
	})
	m.step("answer")
	return answer, nil
}

// since is the feed's answer right now.
func (m *model) since(epoch string, index uint64) *vaultclient.Changes {
	m.mu.Lock()
	defer m.mu.Unlock()
	answer := &vaultclient.Changes{Epoch: m.epoch, Index: m.index}
	if epoch != m.epoch || index > m.index {
		answer.Reset = true
		return answer
	}
	for _, e := range m.events {
		if e.Index > index {
			answer.Changes = append(answer.Changes, e)
		}
	}
	return answer
}

func (m *model) Changes(ctx context.Context, epoch string, index uint64, wait time.Duration) (*vaultclient.Changes, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	m.mu.Lock()
	wake, down, noFeed, feedDown := m.wake, m.down, m.noFeed, m.feedDown
	m.mu.Unlock()
	switch {
	case noFeed:
		return nil, fmt.Errorf("%w: 404", vaultclient.ErrNoFeed)
	case down || feedDown:
		return nil, errDown
	}
	answer := m.since(epoch, index)
	if answer.Reset || len(answer.Changes) > 0 {
		return answer, nil
	}
	select {
	case <-wake:
	case <-timer.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	m.mu.Lock()
	down = m.down
	m.mu.Unlock()
	if down {
		return nil, errDown
	}
	return m.since(epoch, index), nil
}

func (m *model) DataKeys(context.Context) (*vaultclient.DataKeyList, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return nil, errDown
	}
	list := m.wrapped
	return &list, nil
}

func (m *model) Servers(ctx context.Context) (*vaultclient.ServerList, error) {
	if err := backoff.Sleep(ctx, m.reading); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return nil, errDown
	}
	list := &vaultclient.ServerList{
		Servers: map[string]vaultclient.ServerEntry{}, Pinned: map[string]vaultclient.ServerEntry{},
		Disabled: slices.Clone(m.disabled), Epoch: m.epoch, Index: m.index,
	}
	for name, entry := range m.registry {
		if entry.Pin != "" {
			entry.Pins = m.pins.set(name).ID()
		}
		if entry.Pin == string(pin.Enforce) {
			list.Pinned[name] = entry
		} else {
			list.Servers[name] = entry
		}
	}
	return list, nil
}

// wireKey is a session key that begins with a byte, in its wire form.
func wireKey(first byte) vaultclient.SessionKey {
	key := [SessionKeySize]byte{first}
	return vaultclient.SessionKey{Key: base64.StdEncoding.EncodeToString(key[:])}
}

func (m *model) SessionKeys(context.Context) (*vaultclient.SessionKeyList, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return nil, errDown
	}
	return &vaultclient.SessionKeyList{Current: 1, Keys: map[int]vaultclient.SessionKey{1: wireKey(1)}, MountID: "mount"}, nil
}

func (m *model) Policy(_ context.Context, digest string) (*vaultclient.Policy, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fetched++
	switch {
	case m.down:
		return nil, errDown
	case m.forgetful > 0:
		m.forgetful--
		return nil, vaultclient.ErrUnknownPolicy
	}
	for _, t := range m.tokens {
		if policy.Compile(t.policy).Digest() == digest {
			return &vaultclient.Policy{Sources: t.policy}, nil
		}
	}
	return nil, vaultclient.ErrUnknownPolicy
}

func (m *model) asked() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lookups
}

// addToken puts an active token for two servers into the model.
func (m *model) addToken(token, client string) *modelToken {
	t := &modelToken{active: true, client: client, accessor: "acc-" + token, servers: []string{"files", "github"}}
	m.write(func() { m.tokens[token] = t })
	return t
}

// lease puts a token into the model that has a lease for so long.
func (m *model) lease(token, client string, ttl time.Duration) *modelToken {
	t := m.addToken(token, client)
	m.write(func() { t.leased, t.expires = true, time.Now().Add(ttl) })
	return t
}

// signIn leases a token in the sign-in of that name, of the person with the application.
func (m *model) signIn(token, client, name, person, application string, ttl time.Duration) *modelToken {
	t := m.lease(token, client, ttl)
	m.write(func() {
		t.signIn = &SignIn{
			Resource: "https://mcp.example.com/sign-in/mcp", Application: application, Login: "employees",
			Person: person, EntityID: "entity-" + person, Accessor: name,
		}
	})
	return t
}

var home = netip.MustParseAddr("192.0.2.7")

func testOptions() Options {
	return Options{
		Grants: config.Grants{MaxStale: 30 * time.Second, NegativeTTL: 30 * time.Second, MaxEntries: 1000, Wait: 5 * time.Second},
		Log:    hclog.NewNullLogger(),
	}
}

// brokerFor returns a Broker of the model that does not run.
func brokerFor(t *testing.T, m *model) *Broker {
	t.Helper()
	b, err := newBroker(testOptions(), m)
	require.NoError(t, err)
	return b
}

// runningBroker returns one that runs until the test ends.
func runningBroker(t *testing.T, m *model, change func(*Options)) *Broker {
	t.Helper()
	options := testOptions()
	if change != nil {
		change(&options)
	}
	return runBroker(t, m, options, func(*Broker) {})
}

// settledBroker returns one that runs, in a bubble, and has heard all that the model has
// to tell.
func settledBroker(t *testing.T, m *model) *Broker {
	t.Helper()
	b := runningBroker(t, m, nil)
	synctest.Wait()
	return b
}

// runningBrokerWith changes the Broker before it runs.
func runningBrokerWith(t *testing.T, m *model, change func(*Broker)) *Broker {
	t.Helper()
	return runBroker(t, m, testOptions(), change)
}

// brokerWithToken returns a Broker that runs, in a bubble, and its model, which has the
// token "t" of the client "c".
func brokerWithToken(t *testing.T) (*model, *Broker, *modelToken) {
	t.Helper()
	m := newModel()
	token := m.addToken("t", "c")
	return m, settledBroker(t, m), token
}

func runBroker(t *testing.T, m *model, options Options, change func(*Broker)) *Broker {
	t.Helper()
	b, err := newBroker(options, m)
	require.NoError(t, err)
	change(b)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return b
}

// sync applies the feed's changes.
func (b *Broker) sync(m *model) {
	v := b.position.Load()
	b.apply(m.since(v.epoch, v.applied), time.Now())
}

// hold takes a token to a live request for a server.
func (b *Broker) hold(t *testing.T, token, server string) (context.Context, *Hold) {
	t.Helper()
	g, err := b.Grant(t.Context(), token, home)
	require.NoError(t, err)
	ctx, h, err := b.Hold(t.Context(), g, Use{Token: token, Source: home, Server: b.Server(server)})
	require.NoError(t, err)
	return ctx, h
}

// liveRequest is the context of a live request for a server, which ends with the test.
func (b *Broker) liveRequest(t *testing.T, token, server string) context.Context {
	t.Helper()
	ctx, h := b.hold(t, token, server)
	t.Cleanup(h.Release)
	return ctx
}
