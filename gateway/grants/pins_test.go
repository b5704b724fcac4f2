package grants

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// modelPins are the pins of the model.
type modelPins struct {
	approved map[string]map[pin.Kind]map[string][]pin.Digest // by server
	reads    map[string]int
	down     map[string]bool // the pins of these servers cannot be read
	hanging  bool            // no request for pins is answered
	answer   func(*vaultclient.PinSet)
}

func (p *modelPins) set(server string) *pin.Set { return pin.NewSet(p.approved[server]) }

func (m *model) Pins(ctx context.Context, server string) (*vaultclient.PinSet, error) {
	m.mu.Lock()
	hanging := m.pins.hanging
	m.mu.Unlock()
	if hanging {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pins.reads = put(m.pins.reads, server, m.pins.reads[server]+1)
	if m.down || m.pins.down[server] {
		return nil, errDown
	}
	set := m.pins.set(server)
	answer := &vaultclient.PinSet{Set: set.ID(), Place: m.registry[server].Place, Approved: set, Epoch: m.epoch, Index: m.index}
	if m.pins.answer != nil {
		m.pins.answer(answer)
	}
	return answer, nil
}

// put returns m, or a new map, with the value.
func put[K comparable, V any](m map[K]V, key K, value V) map[K]V {
	if m == nil {
		m = map[K]V{}
	}
	m[key] = value
	return m
}

func (m *model) pinsRead(server string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pins.reads[server]
}

// serverChanged is the event of every change of a registration, and of its pins.
func serverChanged(name string) vaultclient.Change {
	return vaultclient.Change{Type: typeServer, Operation: operationUpdate, Name: name}
}

// pin sets the mode of the pins of the server "files".
func (m *model) pin(mode pin.Mode, kinds ...string) {
	m.mutate(serverChanged("files"), func() {
		entry := m.registry["files"]
		entry.Pin, entry.PinKinds, entry.Place = string(mode), kinds, "place-1"
		if mode == pin.Off {
			entry.Pin, entry.Place = "", ""
		}
		m.registry["files"] = entry
	})
}

var digestA, digestB = pin.Digest{1}, pin.Digest{2}

// approve has a digest of the tool "search" approved, and no other.
func (m *model) approve(d pin.Digest) {
	m.mutate(serverChanged("files"), func() {
		m.pins.approved = put(m.pins.approved, "files", map[pin.Kind]map[string][]pin.Digest{pin.Tool: {"search": {d}}})
	})
}

// pinned is a broker that runs in a bubble, whose server "files" has the digest A approved.
func pinnedStage(t *testing.T, mode pin.Mode) (*model, *Broker) {
	t.Helper()
	m := newModel()
	m.addToken("t", "c")
	m.approve(digestA)
	m.pin(mode)
	return m, settledBroker(t, m)
}

// unavailable is the error with which a request for the server is refused.
func (b *Broker) unavailable(t *testing.T, server string) error {
	t.Helper()
	found, err := b.FindServer(server)
	require.NoError(t, err)
	require.NotNil(t, found, "it is registered")
	g, err := b.Grant(t.Context(), "t", home)
	require.NoError(t, err)
	_, h, err := b.Hold(t.Context(), g, Use{Token: "t", Source: home, Server: found})
	if err == nil {
		h.Release()
	}
	return err
}

func TestPinsOfAServerComeWithTheRegistry(t *testing.T) {
	for _, mode := range []pin.Mode{pin.Observe, pin.Enforce} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, b := pinnedStage(t, mode)
				require.NoError(t, b.unavailable(t, "files"))
				p := b.Server("files").Pins()
				require.Equal(t, mode, p.Mode)
				require.Equal(t, "place-1", p.Place)
				require.True(t, p.Set.Approves(pin.Tool, "search", digestA))
				for _, kind := range pin.Kinds() {
					require.True(t, p.Covers(kind), kind)
				}
				require.Nil(t, b.Server("github").Pins())
				require.Equal(t, 1, m.pinsRead("files"))
				require.Zero(t, m.pinsRead("github"))

				m.pin(mode, string(pin.Tool))
				synctest.Wait()
				after(time.Second)
				require.Equal(t, 1, m.pinsRead("files"), "the same approvals are not read again")
				p = b.Server("files").Pins()
				require.True(t, p.Covers(pin.Tool))
				require.False(t, p.Covers(pin.Prompt))
			})
		})
	}
}

// TestAChangeOfPinsEndsNothing: whoever approves a tool must not end the work of those who use
// the server.
func TestAChangeOfPinsEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b := pinnedStage(t, pin.Enforce)
		var ends []End
		var changed []string
		b.OnEnd(func(e End) { ends = append(ends, e) })
		b.OnPins(func(s *Server) { changed = append(changed, s.Name) })
		live, held := b.liveRequest(t, "t", "files"), b.keep(t, "t", "files")
		server := b.Server("files")
		for i, change := range []func(){
			func() { m.approve(digestB) },
			func() { m.pin(pin.Observe) },
			func() { m.pin(pin.Enforce, string(pin.Tool)) },
			func() { m.pin(pin.Off) },
			func() { m.pin(pin.Enforce) },
			func() {
				m.write(func() { m.pins.down = put(m.pins.down, "files", true) })
				m.approve(digestA)
			},
			func() { m.write(func() { m.pins.down = nil }) },
		} {
			before := server.Pins()
			change()
			after(10 * time.Second)
			require.Same(t, server, b.Server("files"), i)
			require.NotSame(t, before, server.Pins(), i)
		}
		require.NoError(t, live.Err())
		require.Empty(t, held.ended)
		require.Empty(t, ends)
		require.Equal(t, []string{"files", "files", "files", "files", "files", "files", "files"}, changed)
		require.True(t, server.Pins().Set.Approves(pin.Tool, "search", digestA))
	})
}

// TestAnApprovalTakesEffectWithinASecond: that of both modes, and its end.
func TestAnApprovalTakesEffectWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b := pinnedStage(t, pin.Enforce)
		for range 3 {
			m.approve(digestB)
			after(time.Second)
			require.True(t, b.Server("files").Pins().Set.Approves(pin.Tool, "search", digestB))
			require.False(t, b.Server("files").Pins().Set.Approves(pin.Tool, "search", digestA))
			m.approve(digestA)
			after(time.Second)
			require.True(t, b.Server("files").Pins().Set.Approves(pin.Tool, "search", digestA))
		}
	})
}

func TestAServerIsUnavailableWhileItsPinsAreNotKnown(t *testing.T) {
	for name, fails := range map[string]func(*modelPins){
		"Vault does not answer":           func(p *modelPins) { p.down = put(p.down, "files", true) },
		"Vault hangs":                     func(p *modelPins) { p.hanging = true },
		"the answer is of another engine": func(p *modelPins) { p.answer = func(s *vaultclient.PinSet) { s.Set = pin.NewSet(nil).ID() } },
		"the answer has no pins":          func(p *modelPins) { p.answer = func(s *vaultclient.PinSet) { s.Approved = nil } },
		"the answer is an older one": func(p *modelPins) {
			p.answer = func(s *vaultclient.PinSet) { s.Approved, s.Set, s.Index = nil, "", 0; set(s, digestB) }
		},
		"the answer is about another place": func(p *modelPins) {
			p.answer = func(s *vaultclient.PinSet) { s.Place = "place-0" }
		},
		"the answer is of another Vault": func(p *modelPins) {
			p.answer = func(s *vaultclient.PinSet) { s.Epoch = "e9"; set(s, digestB) }
		},
	} {
		for _, mode := range []pin.Mode{pin.Observe, pin.Enforce} {
			t.Run(name+", "+string(mode), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newModel()
					m.addToken("t", "c")
					fails(&m.pins)
					m.approve(digestA)
					m.pin(mode)
					b := settledBroker(t, m)
					after(2 * time.Second)
					if mode == pin.Enforce {
						require.ErrorIs(t, b.unavailable(t, "files"), ErrPinsUnknown)
						require.ErrorIs(t, b.unavailable(t, "files"), ErrUnavailable)
					} else {
						require.NoError(t, b.unavailable(t, "files"), "nobody was promised that anything is kept from them")
					}
					require.Equal(t, 1, b.Stats().Unpinned)
					p := b.Server("files").Pins()
					require.False(t, p.Known)
					require.Nil(t, p.Set, "nothing is approved")
					require.NoError(t, b.unavailable(t, "github"), "it is about this server alone")

					m.write(func() { m.pins.down, m.pins.hanging, m.pins.answer = nil, false, nil })
					after(fetchBackoff.Max + time.Second)
					require.NoError(t, b.unavailable(t, "files"))
					require.Zero(t, b.Stats().Unpinned)
					require.True(t, b.Server("files").Pins().Set.Approves(pin.Tool, "search", digestA))
				})
			})
		}
	}
}

// set has the answer approve a digest.
func set(s *vaultclient.PinSet, d pin.Digest) {
	s.Approved = pin.NewSet(map[pin.Kind]map[string][]pin.Digest{pin.Tool: {"search": {d}}})
	s.Set = s.Approved.ID()
}

// TestAnApprovalThatWasWithdrawnIsNotUsedUnread: the one of before does not stay in effect when
// the next cannot be read.
func TestAnApprovalThatWasWithdrawnIsNotUsedUnread(t *testing.T) {
	for name, hanging := range map[string]bool{"Vault fails": false, "Vault hangs": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, b := pinnedStage(t, pin.Enforce)
				m.write(func() {
					m.pins.hanging = hanging
					m.pins.down = put(m.pins.down, "files", true)
				})
				m.approve(digestB)
				after(1500 * time.Millisecond)
				require.False(t, b.Server("files").Pins().Set.Approves(pin.Tool, "search", digestA))
				require.ErrorIs(t, b.unavailable(t, "files"), ErrPinsUnknown)
			})
		})
	}
}

// TestPinsThatCannotBeReadDelayNoOtherServer: one that is stopped is so within the second.
func TestPinsThatCannotBeReadDelayNoOtherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b := pinnedStage(t, pin.Enforce)
		m.write(func() { m.pins.hanging = true })
		m.approve(digestB)
		after(2 * time.Second) // they are not known any more
		m.mutate(serverChanged("github"), func() {
			delete(m.registry, "github")
			m.disabled = []string{"github"}
		})
		after(feedRest)
		_, err := b.FindServer("github")
		require.ErrorIs(t, err, ErrServerDisabled)
	})
}

func TestAnAnswerThatIsNewerThanTheRegistryIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, b := pinnedStage(t, pin.Enforce)
		m.write(func() {
			m.pins.answer = func(s *vaultclient.PinSet) { s.Index++; set(s, pin.Digest{3}) }
		})
		m.approve(digestB)
		after(time.Second)
		require.True(t, b.Server("files").Pins().Set.Approves(pin.Tool, "search", pin.Digest{3}))
		require.NoError(t, b.unavailable(t, "files"))
	})
}

// TestPinsOfOneRegistryAreNotThoseOfAnother: pins that were read for a registry that another one has
// replaced meanwhile counts only if that says the same.
func TestPinsOfOneRegistryAreNotThoseOfAnother(t *testing.T) {
	m := newModel()
	m.pins.down = put(m.pins.down, "files", true)
	m.approve(digestA)
	m.pin(pin.Enforce)
	b := brokerFor(t, m)
	require.NoError(t, b.fetchRegistry(t.Context()))
	before, read := b.registry.Load(), m.pins.set("files")
	m.approve(digestB)
	require.NoError(t, b.fetchRegistry(t.Context()))
	require.Empty(t, b.learnPins(before, map[string]*pin.Set{"files": read}))
	require.False(t, b.Server("files").Pins().Known)
	m.pin(pin.Off)
	require.NoError(t, b.fetchRegistry(t.Context()))
	require.Empty(t, b.learnPins(before, map[string]*pin.Set{"files": read}))
	require.Nil(t, b.Server("files").Pins())
	require.NotEmpty(t, b.wakePins, "those that still miss some are asked about")
}

// TestARegistrationThatLeadsElsewhereHasPinsOfItsOwn, even if the same set is approved there; one
// that leads to the same place under another id has those of before.
func TestARegistrationThatLeadsElsewhereHasPinsOfItsOwn(t *testing.T) {
	for name, tc := range map[string]struct {
		place string
		reads int
	}{"elsewhere": {"place-2", 2}, "the same place": {"place-1", 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, b := pinnedStage(t, pin.Enforce)
				before := b.Server("files")
				m.mutate(serverChanged("files"), func() {
					entry := m.registry["files"]
					entry.ID, entry.Place = "r9", tc.place
					m.registry["files"] = entry
				})
				after(time.Second)
				require.Equal(t, tc.reads, m.pinsRead("files"))
				require.Equal(t, tc.place, b.Server("files").Pins().Place)
				require.Equal(t, "place-1", before.Pins().Place, "its last messages are judged by its own pins")
			})
		})
	}
}

// TestARegistrationWhosePinsCannotBeUnderstoodIsNotUsed: it may be of a newer engine, and is
// never taken for one without pins.
func TestARegistrationWhosePinsCannotBeUnderstoodIsNotUsed(t *testing.T) {
	whole := vaultclient.ServerEntry{ID: "r1", Transport: TransportHTTP, URL: "http://127.0.0.1:9001/mcp", Pin: "observe", Place: "p", Pins: pin.NewSet(nil).ID()}
	for name, tc := range map[string]struct {
		change   func(*vaultclient.ServerEntry)
		enforced bool
		used     bool
	}{
		"observed":                           {func(*vaultclient.ServerEntry) {}, false, true},
		"enforced":                           {func(e *vaultclient.ServerEntry) { e.Pin = "enforce" }, true, true},
		"off":                                {func(e *vaultclient.ServerEntry) { e.Pin = "off" }, false, true},
		"an unknown mode":                    {func(e *vaultclient.ServerEntry) { e.Pin = "quarantine" }, false, false},
		"an unknown mode among the enforced": {func(e *vaultclient.ServerEntry) { e.Pin = "quarantine" }, true, false},
		"enforced, and not among those":      {func(e *vaultclient.ServerEntry) { e.Pin = "enforce" }, false, false},
		"observed among those that are not":  {func(*vaultclient.ServerEntry) {}, true, false},
		"off among the enforced":             {func(e *vaultclient.ServerEntry) { e.Pin = "" }, true, false},
		"an unknown kind":                    {func(e *vaultclient.ServerEntry) { e.PinKinds = []string{"tool", "skill"} }, false, false},
		"no place":                           {func(e *vaultclient.ServerEntry) { e.Place = "" }, false, false},
		"no set":                             {func(e *vaultclient.ServerEntry) { e.Pins = "" }, false, false},
		"an entry of an older engine":        {func(e *vaultclient.ServerEntry) { e.Pin, e.Place, e.Pins = "", "", "" }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			entry := whole
			tc.change(&entry)
			a := &answering{model: newModel(), registry: vaultclient.ServerList{Epoch: "e1"}}
			servers := map[string]vaultclient.ServerEntry{"files": entry}
			if tc.enforced {
				a.registry.Pinned = servers
			} else {
				a.registry.Servers = servers
			}
			b, err := newBroker(testOptions(), a)
			require.NoError(t, err)
			require.NoError(t, b.fetchRegistry(t.Context()))
			require.Equal(t, tc.used, b.Server("files") != nil)
		})
	}
}
