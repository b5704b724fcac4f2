package credentials

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// model is Vault as far as credentials need it: child tokens, leases below them, and engines.
type model struct {
	mu       sync.Mutex
	parent   vaultclient.Parent
	changed  chan struct{}
	children map[string]*modelChild
	leases   map[string]*modelLease
	engines  map[string]engine // by path
	last     int
	maxTTL   time.Duration // of child tokens; 0: none
	stubborn string        // policy whose tokens may not end themselves; "": none
	now      func() time.Time

	calls  map[string]int
	before func(call string) error // nil: nothing is in the way
	alter  func(*vaultclient.Child)
	asked  func(vaultclient.ChildRequest) // nil: nobody looks
}

type modelChild struct {
	*vaultclient.Child
	alias       string
	born, ends  time.Time
	revoked     bool
	parent      vaultclient.Parent
	readAnswers int
}

type modelLease struct {
	child      *modelChild
	born, ends time.Time
	max        time.Duration
	renewals   int
}

// engine answers reads of one path.
type engine struct {
	ttl, max time.Duration // of leases; 0: the secrets have none
	fixed    bool          // the leases cannot be renewed
	fields   func(n int, alias string) map[string]any
}

func newModel() *model {
	return &model{
		parent: vaultclient.NewParent("entity-of-the-gateway", time.Time{}), changed: make(chan struct{}),
		children: make(map[string]*modelChild), leases: make(map[string]*modelLease), engines: make(map[string]engine),
		calls: make(map[string]int),
	}
}

// set changes the model.
func (m *model) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

func status(code int) error {
	return &api.ResponseError{StatusCode: code, Errors: []string{"permission denied"}}
}

func (m *model) enter(call string) error {
	m.mu.Lock()
	m.calls[call]++
	before := m.before
	m.mu.Unlock()
	if before != nil {
		return before(call)
	}
	return nil
}

func (m *model) count(call string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[call]
}

func (m *model) Parent() (vaultclient.Parent, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.parent, m.changed
}

// logIn replaces the gateway's own token.
func (m *model) logIn(ends time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.parent = vaultclient.NewParent("entity-of-the-gateway", ends)
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *model) Create(_ context.Context, r vaultclient.ChildRequest) (*vaultclient.Child, error) {
	sent := m.now()
	if err := m.enter("create"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asked != nil {
		m.asked(r)
	}
	m.last++
	token := fmt.Sprintf("hvs.child-%d", m.last)
	c := vaultclient.NewChild(token)
	c.Accessor, c.EntityID, c.Policies = fmt.Sprintf("accessor-%d", m.last), "entity-of-"+r.Alias, r.Policies
	c.Renewable, c.TTL, c.Parent, c.Sent = true, r.TTL, m.parent, sent
	if m.alter != nil {
		m.alter(c)
	}
	m.children[token] = &modelChild{Child: c, alias: r.Alias, born: sent, ends: sent.Add(c.TTL), parent: m.parent}
	return c, nil
}

// living returns the child, or the error of one that has ended. m.mu is held.
func (m *model) living(c *vaultclient.Child) (*modelChild, error) {
	child := m.children[c.Token()]
	if child == nil || child.revoked || !m.now().Before(child.ends) || child.parent.Refused() {
		return nil, &api.ResponseError{StatusCode: http.StatusForbidden, Errors: []string{"permission denied", "invalid token"}}
	}
	return child, nil
}

func (m *model) Read(_ context.Context, c *vaultclient.Child, path string) (*vaultclient.Secret, error) {
	sent := m.now()
	if err := m.enter("read " + path); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	child, err := m.living(c)
	if err != nil {
		return nil, err
	}
	child.readAnswers++
	e, ok := m.engines[path]
	if !ok {
		return nil, status(http.StatusForbidden)
	}
	m.last++
	fields := e.fields(m.last, child.alias)
	if fields == nil {
		return nil, vaultclient.ErrNoSecret
	}
	s := &vaultclient.Secret{Data: fields, Sent: sent}
	if e.ttl > 0 {
		s.LeaseID, s.Duration, s.Renewable = fmt.Sprintf("%s/lease-%d", path, m.last), e.ttl, !e.fixed
		m.leases[s.LeaseID] = &modelLease{child: child, born: sent, ends: sent.Add(e.ttl), max: e.max}
	}
	return s, nil
}

func (m *model) Write(ctx context.Context, c *vaultclient.Child, path string, _ map[string]any) (*vaultclient.Secret, error) {
	return m.Read(ctx, c, path)
}

func (m *model) Renew(_ context.Context, c *vaultclient.Child, increment time.Duration) (time.Duration, error) {
	if err := m.enter("renew"); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	child, err := m.living(c)
	if err != nil {
		return 0, err
	}
	child.ends = until(m.now(), child.born, m.maxTTL, increment)
	return child.ends.Sub(m.now()), nil
}

func until(now, born time.Time, most, increment time.Duration) time.Time {
	ends := now.Add(increment)
	if limit := born.Add(most); most > 0 && ends.After(limit) {
		return limit
	}
	return ends
}

func (m *model) RenewLease(_ context.Context, c *vaultclient.Child, id string, increment time.Duration) (time.Duration, error) {
	if err := m.enter("renew-lease"); err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.living(c); err != nil {
		return 0, err
	}
	l := m.leases[id]
	if l == nil || !m.now().Before(l.ends) {
		return 0, status(http.StatusBadRequest)
	}
	l.renewals++
	l.ends = until(m.now(), l.born, l.max, increment)
	return l.ends.Sub(m.now()), nil
}

func (m *model) Revoke(_ context.Context, c *vaultclient.Child) error {
	if err := m.enter("revoke"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	child := m.children[c.Token()]
	if len(child.Policies) > 0 && child.Policies[0] == m.stubborn {
		return status(http.StatusForbidden)
	}
	child.revoked = true
	return nil
}

// alive counts the child tokens that have not ended.
func (m *model) alive() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, c := range m.children {
		if _, err := m.living(c.Child); err == nil {
			n++
		}
	}
	return n
}

// works reports whether Vault would still honour the set's lease.
func (m *model) works(s *Set) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range s.LeaseIDs() {
		l := m.leases[id]
		if _, err := m.living(l.child.Child); err != nil || !m.now().Before(l.ends) {
			return false
		}
	}
	return true
}
