package pins

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// vault takes reports as the engine does, unless it fails.
type vault struct {
	mu      sync.Mutex
	fails   map[string]error // by server
	refuses int
	loses   int
	reports []reported // that were taken
	asked   int
	during  func()
}

type reported struct {
	server string
	vaultclient.PinReport
}

func (v *vault) ReportPins(_ context.Context, server string, report *vaultclient.PinReport) (*vaultclient.PinsReported, error) {
	if v.during != nil {
		v.during()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked++
	if err := v.fails[server]; err != nil {
		return nil, err
	}
	v.reports = append(v.reports, reported{server, *report})
	return &vaultclient.PinsReported{Kept: len(report.Definitions) - v.refuses, Refused: v.refuses, Lost: v.loses}, nil
}

// texts are those that were reported of a server.
func (v *vault) texts(server string) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	texts := []string{}
	for _, r := range v.reports {
		for _, d := range r.Definitions {
			if r.server == server {
				texts = append(texts, d.Text)
			}
		}
	}
	return texts
}

// counts is an Observer.
type counts struct {
	mu            sync.Mutex
	unapproved    map[string]int
	results       []string
	refused, lost int
}

func (c *counts) PinsUnapproved(server string, kind pin.Kind, mode pin.Mode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unapproved[fmt.Sprintf("%s %s %s", server, kind, mode)]++
}

func (c *counts) PinsReported(result string) { c.results = append(c.results, result) }

func (c *counts) PinsRefused(definitions int) { c.refused += definitions }

func (c *counts) PinsLost(definitions int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost += definitions
}

// stage is a Keeper with a clock that the test moves, and a registry.
type stage struct {
	*Keeper
	t       testing.TB
	now     time.Time
	vault   *vault
	counts  *counts
	servers map[string]*grants.Server
	log     *lines
}

// lines are those of a log.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(line))
	return len(line), nil
}

func newStage(t testing.TB) *stage {
	t.Helper()
	s := &stage{
		t: t, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), vault: &vault{fails: map[string]error{}},
		counts: &counts{unapproved: map[string]int{}}, servers: map[string]*grants.Server{}, log: &lines{},
	}
	s.Keeper = New(Options{
		Engine: s.vault, Registry: func(name string) *grants.Server { return s.servers[name] }, Observer: s.counts,
		Log: hclog.New(&hclog.LoggerOptions{Output: s.log}), Now: func() time.Time { return s.now },
	})
	return s
}

// approvals is a set of texts of definitions, as servers write them.
func approvals(t testing.TB, kind pin.Kind, raw ...string) *pin.Set {
	t.Helper()
	digests := map[string][]pin.Digest{}
	for _, text := range raw {
		d, err := pin.Read(kind, []byte(text))
		require.NoError(t, err)
		digests[d.Name] = append(digests[d.Name], d.Digest)
	}
	return pin.NewSet(map[pin.Kind]map[string][]pin.Digest{kind: digests})
}

// server registers a server with pins, and returns its judge.
func (s *stage) server(name string, p grants.Pins) *Judge {
	if p.Place == "" {
		p.Place = "place-" + name
	}
	s.servers[name] = (&grants.Server{Name: name, ID: "id-" + name}).WithPins(&p)
	return s.Of(s.servers[name])
}

// enforced registers a server of which this is approved.
func (s *stage) enforced(name string, set *pin.Set) *Judge {
	return s.server(name, grants.Pins{Mode: pin.Enforce, Set: set, Known: true})
}

// after moves the clock, and has the report made that is due then.
func (s *stage) after(d time.Duration) {
	s.now = s.now.Add(d)
	s.Tick(s.t.Context())
}

// tool is a definition of a tool in canonical JSON.
func tool(name, description string) string {
	return fmt.Sprintf(`{"description":%q,"name":%q}`, description, name)
}
