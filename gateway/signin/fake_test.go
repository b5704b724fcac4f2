package signin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/gateway/access"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// fakeVault is a model of Vault for people: logins, their tokens, wrapping tokens, leases and
// cubbyholes. Any of its methods can be made to fail.
type fakeVault struct {
	mu    sync.Mutex
	now   func() time.Time
	fail  map[string]error // by the method's name
	asked []string         // methods that were called
	count int

	// person is the token that the next login gives, and may are the clients as which its
	// person may act.
	person vaultclient.PersonToken
	may    []string
	lacks  []string // paths for which its tokens have no capability

	states   map[string]fakeState
	tokens   map[string]*fakeToken
	wrapping map[string]fakeWrap
	clients  map[string]vaultclient.SignInClient
	leases   []fakeLease
}

type fakeState struct{ mount, role, redirect, nonce string }

type fakeToken struct {
	vaultclient.PersonToken
	ends        time.Time
	revoked     bool
	may         []string
	generations map[uint64]time.Time
}

type fakeWrap struct {
	secret string
	ends   time.Time
}

type fakeLease struct {
	client, secret string
	request        vaultclient.CredsRequest
}

var (
	errDown    = errors.New("Vault cannot be reached") //nolint:staticcheck // a name starts it
	errDenied  = &api.ResponseError{StatusCode: http.StatusForbidden, Errors: []string{"permission denied"}}
	errRefused = &api.ResponseError{StatusCode: http.StatusBadRequest, Errors: []string{"error validating claims: claim \"groups\" is missing"}}
)

func newFakeVault(now func() time.Time) *fakeVault {
	return &fakeVault{
		now: now, fail: map[string]error{}, states: map[string]fakeState{}, tokens: map[string]*fakeToken{}, wrapping: map[string]fakeWrap{},
		person: vaultclient.PersonToken{
			EntityID: "entity-ann", DisplayName: "oidc-mcp-ann@example.com", Policies: []string{"default", "mcp-person"},
			IdentityPolicies: []string{"mcp-person-engineering"}, Renewable: true, TTL: 8 * time.Hour,
		},
		may: []string{"engineering", "oncall"},
		clients: map[string]vaultclient.SignInClient{
			"engineering": {ID: "c1", Description: "Engineers", Servers: []string{"files", "github"}},
			"oncall":      {ID: "c2", AllServers: true},
			"finance":     {ID: "c3", Servers: []string{"ledger"}},
		},
	}
}

// called notes a call, and returns the error that it is to have.
func (v *fakeVault) called(method string) error {
	v.asked = append(v.asked, method)
	return v.fail[method]
}

func (v *fakeVault) live(secret string) (*fakeToken, error) {
	t := v.tokens[secret]
	if t == nil || t.revoked || !v.now().Before(t.ends) {
		return nil, errDenied
	}
	return t, nil
}

// alive are the accessors of the tokens that Vault still accepts.
func (v *fakeVault) alive() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var found []string
	for secret, t := range v.tokens {
		if _, err := v.live(secret); err == nil {
			found = append(found, t.Accessor)
		}
	}
	slices.Sort(found)
	return found
}

func (v *fakeVault) AuthURL(_ context.Context, mount, role, redirect, nonce string) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.called("AuthURL"); err != nil {
		return "", err
	}
	v.count++
	state := fmt.Sprintf("st_%020d", v.count)
	v.states[state] = fakeState{mount, role, redirect, nonce}
	return "https://idp.example.com/authorize?" + url.Values{"state": {state}, "redirect_uri": {redirect}, "client_id": {"vault"}}.Encode(), nil
}

func (v *fakeVault) FinishOIDC(_ context.Context, mount, state, code, nonce string) (*vaultclient.PersonToken, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.called("FinishOIDC"); err != nil {
		return nil, err
	}
	begun, ok := v.states[state]
	delete(v.states, state)
	if !ok || begun.mount != mount || begun.nonce != nonce || !strings.HasPrefix(code, "idp-") {
		return nil, vaultclient.ErrStateLost
	}
	return v.issue(), nil
}

func (v *fakeVault) issue() *vaultclient.PersonToken {
	v.count++
	secret := fmt.Sprintf("hvs.person-%d", v.count)
	t := *vaultclient.NewPersonToken(secret)
	p := v.person
	t.EntityID, t.DisplayName, t.Policies, t.IdentityPolicies, t.External = p.EntityID, p.DisplayName, p.Policies, p.IdentityPolicies, p.External
	t.Batch, t.Periodic, t.Renewable, t.Uses, t.TTL = p.Batch, p.Periodic, p.Renewable, p.Uses, p.TTL
	if !p.Batch {
		t.Accessor = fmt.Sprintf("accessor-%d", v.count)
	}
	t.Created = v.now()
	v.tokens[secret] = &fakeToken{PersonToken: t, ends: v.now().Add(t.TTL), may: v.may, generations: map[uint64]time.Time{}}
	return &t
}

func (v *fakeVault) LoginJWT(_ context.Context, _, _, _ string) (*vaultclient.PersonToken, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.called("LoginJWT"); err != nil {
		return nil, err
	}
	return v.issue(), nil
}

func (v *fakeVault) Lookup(_ context.Context, secret string) (*vaultclient.PersonToken, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.called("Lookup"); err != nil {
		return nil, err
	}
	t, err := v.live(secret)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", vaultclient.ErrDead, err)
	}
	found := t.PersonToken
	found.TTL, found.Read = t.ends.Sub(v.now()), v.now()
	return &found, nil
}

func (v *fakeVault) Renew(_ context.Context, t *vaultclient.PersonToken, increment time.Duration) (time.Duration, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.called("Renew"); err != nil {
		return 0, err
	}
	found, err := v.live(t.Secret())
	if err != nil {
		return 0, err
	}
	if !found.Renewable {
		return 0, &api.ResponseError{StatusCode: http.StatusBadRequest, Errors: []string{"lease is not renewable"}}
	}
	if found.Periodic {
		return found.TTL, nil
	}
	found.ends = v.now().Add(increment)
	return increment, nil
}

func (v *fakeVault) Revoke(_ context.Context, t *vaultclient.PersonToken) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.called("Revoke"); err != nil {
		return err
	}
	if found := v.tokens[t.Secret()]; found != nil {
		found.revoked = true
	}
	return nil
}

func (v *fakeVault) Capabilities(_ context.Context, t *vaultclient.PersonToken, paths []string) (map[string][]string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.called("Capabilities"); err != nil {
		return nil, err
	}
	found, err := v.live(t.Secret())
	if err != nil {
		return nil, err
	}
	may := map[string][]string{}
	for _, path := range paths {
		client, isCreds := strings.CutPrefix(path, "mcp/creds/")
		switch {
		case slices.Contains(v.lacks, path), isCreds && !slices.Contains(found.may, client):
			may[path] = []string{"deny"}
		case isCreds:
			may[path] = []string{"update"}
		default:
			may[path] = []string{"create", "delete", "list", "read", "update"}
		}
	}
	return may, nil
}

func (v *fakeVault) Wrap(_ context.Context, t *vaultclient.PersonToken, ttl time.Duration) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.called("Wrap"); err != nil {
		return "", err
	}
	if _, err := v.live(t.Secret()); err != nil {
		return "", err
	}
	v.count++
	wrapping := fmt.Sprintf("hvs.wrapping-%d", v.count)
	v.wrapping[wrapping] = fakeWrap{t.Secret(), v.now().Add(ttl)}
	return wrapping, nil
}

func (v *fakeVault) Unwrap(_ context.Context, wrapping string) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.called("Unwrap"); err != nil {
		return "", err
	}
	w, ok := v.wrapping[wrapping]
	delete(v.wrapping, wrapping)
	if !ok || !v.now().Before(w.ends) {
		return "", vaultclient.ErrUsed
	}
	return w.secret, nil
}

func (v *fakeVault) Credentials(_ context.Context, t *vaultclient.PersonToken, client string, r vaultclient.CredsRequest) (*vaultclient.Creds, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.called("Credentials"); err != nil {
		return nil, err
	}
	found, err := v.live(t.Secret())
	if err != nil {
		return nil, err
	}
	if !slices.Contains(found.may, client) {
		return nil, errDenied
	}
	v.count++
	v.leases = append(v.leases, fakeLease{client, t.Secret(), r})
	return &vaultclient.Creds{
		Token: fmt.Sprintf("mcpt_%d", v.count), Accessor: fmt.Sprintf("token-accessor-%d", v.count), Client: client, ClientID: v.clients[client].ID,
		Resource: r.Resource, Application: r.Application, Login: r.Login, Person: "ann", EntityID: found.EntityID, SignIn: found.Accessor, Life: 15 * time.Minute,
	}, nil
}

func (*fakeVault) CredsPath(client string) string { return "mcp/creds/" + client }

func (v *fakeVault) Generation(_ context.Context, t *vaultclient.PersonToken) (n uint64, at time.Time, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.called("Generation"); err != nil {
		return 0, time.Time{}, err
	}
	found, err := v.live(t.Secret())
	if err != nil {
		return 0, time.Time{}, err
	}
	for generation, began := range found.generations {
		if generation > n {
			n, at = generation, began
		}
	}
	return n, at, nil
}

func (v *fakeVault) SetGeneration(_ context.Context, t *vaultclient.PersonToken, n uint64, at time.Time) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.called("SetGeneration"); err != nil {
		return err
	}
	found, err := v.live(t.Secret())
	if err != nil {
		return err
	}
	found.generations[n] = at
	return nil
}

// SignIn is the engine's answer to the gateway's own login.
func (v *fakeVault) SignIn(context.Context) (*vaultclient.SignInList, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.called("SignIn"); err != nil {
		return nil, err
	}
	return &vaultclient.SignInList{Clients: v.clients, Logins: []string{"employees"}}, nil
}

// fakeAudit keeps the audit lines of sign-ins.
type fakeAudit struct {
	mu      sync.Mutex
	fail    error
	failAt  string // the event; "": every one
	written []access.SignInEvent
	counted []access.SignInEvent
}

func (a *fakeAudit) Record(e access.SignInEvent) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fail != nil && (a.failAt == "" || a.failAt == e.Event) {
		return a.fail
	}
	a.written = append(a.written, e)
	return nil
}

func (a *fakeAudit) Count(e access.SignInEvent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counted = append(a.counted, e)
}

// events are the written ones, by name.
func (a *fakeAudit) events() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var names []string
	for _, e := range a.written {
		names = append(names, e.Event)
	}
	return names
}

// refusals are the reasons of the refusals, written and counted.
func (a *fakeAudit) refusals() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var reasons []string
	for _, e := range slices.Concat(a.written, a.counted) {
		if e.Reason != "" {
			reasons = append(reasons, e.Reason)
		}
	}
	return reasons
}
