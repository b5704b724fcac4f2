package grants

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// The steps of a lookup, in the engine's order, and those of a mutation: the
// durable write, the event, and its being applied in the gateway. A lookup's
// last step is its answer's arrival.
var (
	lookupSteps   = []string{"index", "read", "answer"}
	mutationSteps = []string{"write", "event", "apply"}
)

// merges returns every order of a and b that keeps the order of each.
func merges(a, b []string) [][]string {
	if len(a) == 0 || len(b) == 0 {
		return [][]string{slices.Concat(a, b)}
	}
	var all [][]string
	for _, rest := range merges(a[1:], b) {
		all = append(all, append([]string{a[0]}, rest...))
	}
	for _, rest := range merges(a, b[1:]) {
		all = append(all, append([]string{b[0]}, rest...))
	}
	return all
}

// mutation is something that takes access away from the token "t".
type mutation struct {
	before func(*modelToken) // nil: the token is as the model makes it
	change vaultclient.Change
	write  func(*modelToken)
	keeps  bool // the token stays active, without the server "files"
}

var mutations = map[string]mutation{
	"the token is revoked": {
		change: vaultclient.Change{Type: typeToken, Operation: operationRevoke, ClientID: "id-c", Accessor: "acc-t"},
		write:  func(t *modelToken) { t.active = false },
	},
	"the token ends with a grace period": {
		change: vaultclient.Change{Type: typeToken, Operation: operationUpdate, ClientID: "id-c", Accessor: "acc-t"},
		write:  func(t *modelToken) { t.active = false },
	},
	"all tokens of the client are revoked": {
		change: vaultclient.Change{Type: typeClient, Operation: operationRevoke, ClientID: "id-c"},
		write:  func(t *modelToken) { t.active = false },
	},
	"the client is deleted": {
		change: vaultclient.Change{Type: typeClient, Operation: operationDelete, ClientID: "id-c"},
		write:  func(t *modelToken) { t.active = false },
	},
	"the client is disabled": {
		change: vaultclient.Change{Type: typeClient, Operation: operationUpdate, ClientID: "id-c"},
		write:  func(t *modelToken) { t.active = false },
	},
	"the client loses the server": {
		change: vaultclient.Change{Type: typeClient, Operation: operationUpdate, ClientID: "id-c"},
		write:  func(t *modelToken) { t.servers = []string{"github"} },
		keeps:  true,
	},
	"the client's role loses the server": {
		before: inRole("files"),
		change: vaultclient.Change{Type: typeRole, Operation: operationUpdate, Name: "r"},
		write:  inRole("github"),
		keeps:  true,
	},
	"the client's role is deleted": {
		before: inRole("files"),
		change: vaultclient.Change{Type: typeRole, Operation: operationUpdate, Name: "r"},
		write:  func(t *modelToken) { t.role = &modelRole{name: "r", missing: true} },
		keeps:  true,
	},
	"every token of the mount is revoked": {
		change: vaultclient.Change{Type: typeMount, Operation: operationRevoke},
		write:  func(t *modelToken) { t.active = false },
	},
	"the mount's configuration ends the token": {
		change: vaultclient.Change{Type: typeConfig, Operation: operationUpdate},
		write:  func(t *modelToken) { t.active = false },
	},
	"a change of a kind that the gateway does not know ends it": {
		change: vaultclient.Change{Type: "weather", Operation: "storm"},
		write:  func(t *modelToken) { t.active = false },
	},
}

// inRole lets the token's client reach the servers by its role, and by nothing else.
func inRole(servers ...string) func(*modelToken) {
	return func(t *modelToken) {
		t.servers, t.role = nil, &modelRole{name: "r", Lists: policy.Lists{AllowedServers: servers}}
	}
}

// TestNoOrderOfALookupAndAChangeLeavesStaleAccess steps a lookup and a mutation
// through every order of their steps, with the cache empty and with the grant
// in it already.
func TestNoOrderOfALookupAndAChangeLeavesStaleAccess(t *testing.T) {
	for name, m := range mutations {
		for _, order := range merges(lookupSteps, mutationSteps) {
			for _, warm := range []bool{false, true} {
				title := fmt.Sprintf("%s/%s/warm=%t", name, strings.Join(order, " "), warm)
				t.Run(title, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { interleave(t, m, order, warm) })
				})
			}
		}
	}
}

// stepper lets the first lookup after begin go on step by step, and all others
// run free.
type stepper struct {
	gates map[string]chan struct{}
	armed bool
}

func (s *stepper) gate(step string) {
	if !s.armed {
		return
	}
	<-s.gates[step]
	if step == "answer" {
		s.armed = false
	}
}

func interleave(t *testing.T, m mutation, order []string, warm bool) {
	t.Helper()
	e := newModel()
	token := e.addToken("t", "c")
	if m.before != nil {
		m.before(token)
	}
	b := brokerFor(t, e)
	require.NoError(t, b.fetchRegistry(t.Context()))
	b.sync(e)

	var early context.Context // a request that was let in before everything
	if warm {
		ctx := b.liveRequest(t, "t", "files")
		early = ctx
		// The grant may have changed, so it is looked up again.
		b.cache.get(keyOf("t")).grant.Load().stale.Store(true)
	}

	s := &stepper{gates: make(map[string]chan struct{}), armed: true}
	for _, step := range lookupSteps {
		s.gates[step] = make(chan struct{})
	}
	e.gate = s.gate

	results := make(chan result, 3)
	for range cap(results) {
		go func() { results <- b.use(t.Context(), "t", "files") }()
	}
	synctest.Wait()

	answered := false // the lookup's first answer has arrived
	letInBefore := false
	for _, step := range order {
		switch step {
		case "write":
			e.write(func() { m.write(token) })
		case "event":
			e.announce(m.change)
		case "apply":
			letInBefore = answered
			b.sync(e)
		default:
			close(s.gates[step])
			answered = step == "answer"
		}
		synctest.Wait()
	}
	b.drainRevalidations(t)

	for range cap(results) {
		r := <-results
		if r.err != nil {
			continue // nobody was let in: never wrong here
		}
		require.True(t, letInBefore, "a request was let in on an answer that a change had overtaken")
		require.Error(t, r.ctx.Err(), "a request that was let in before the change goes on after it")
	}
	if early != nil {
		require.Error(t, early.Err(), "an older request goes on after the change")
	}
	after := b.use(t.Context(), "t", "files")
	want := ErrInactive
	if m.keeps {
		want = ErrNotAllowed
	}
	require.ErrorIs(t, after.err, want)
}

type result struct {
	ctx context.Context
	err error
}

// use does the middleware's work for a token.
func (b *Broker) use(ctx context.Context, token, server string) result {
	g, err := b.Grant(ctx, token, home)
	if err != nil {
		return result{err: err}
	}
	s := b.Server(server)
	if err := Allows(g, s); err != nil {
		return result{err: err}
	}
	live, _, err := b.Hold(ctx, g, Use{Token: token, Source: home, Server: s})
	return result{ctx: live, err: err}
}

// drainRevalidations confirms the grants of live requests, as runRevalidations does.
func (b *Broker) drainRevalidations(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.runRevalidations(ctx)
	}()
	synctest.Wait()
	cancel()
	<-done
}

// TestNoOrderOfALookupAndACreationRemembersANo does the same for a custom token
// that is created while it is being looked up.
func TestNoOrderOfALookupAndACreationRemembersANo(t *testing.T) {
	for _, order := range merges(lookupSteps, mutationSteps) {
		t.Run(strings.Join(order, " "), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newModel()
				token := e.addToken("t", "c")
				token.active = false
				b := brokerFor(t, e)
				b.sync(e)
				s := &stepper{gates: make(map[string]chan struct{}), armed: true}
				for _, step := range lookupSteps {
					s.gates[step] = make(chan struct{})
				}
				e.gate = s.gate
				first := make(chan error, 1)
				go func() {
					_, err := b.Grant(t.Context(), "t", home)
					first <- err
				}()
				synctest.Wait()
				for _, step := range order {
					switch step {
					case "write":
						e.write(func() { token.active = true })
					case "event":
						e.announce(vaultclient.Change{Type: typeToken, Operation: operationCreate, ClientID: "id-c", Accessor: "acc-t"})
					case "apply":
						b.sync(e)
					default:
						close(s.gates[step])
					}
					synctest.Wait()
				}
				if err := <-first; err != nil && !errors.Is(err, ErrInactive) {
					t.Fatal(err)
				}
				_, err := b.Grant(t.Context(), "t", home)
				require.NoError(t, err, "a no is remembered that is no longer true")
			})
		})
	}
}

// TestAnswerThatIsAlwaysOvertakenIsRefusedToEverybody: after three outdated
// answers nobody who waited is let in.
func TestAnswerThatIsAlwaysOvertakenIsRefusedToEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newModel()
		e.addToken("t", "c")
		b := brokerFor(t, e)
		b.sync(e)
		everybodyWaits := make(chan struct{})
		e.gate = func(step string) {
			<-everybodyWaits
			if step == "answer" {
				e.announce(vaultclient.Change{Type: typeConfig, Operation: operationUpdate})
				b.sync(e)
			}
		}
		const waiters = 50
		errs := make(chan error, waiters)
		for range waiters {
			go func() {
				_, err := b.Grant(t.Context(), "t", home)
				errs <- err
			}()
		}
		synctest.Wait()
		close(everybodyWaits)
		for range waiters {
			require.ErrorIs(t, <-errs, ErrUnavailable)
		}
		require.Equal(t, lookupTries, e.asked(), "an outdated answer is asked for again twice, by all together")
		e.gate = nil
		_, err := b.Grant(t.Context(), "t", home)
		require.NoError(t, err, "it recovers")
	})
}
