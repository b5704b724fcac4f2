package vaultclient

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/backend/clock"
	"vault-plugin-secrets-mcp/gateway/config"
)

// Parent is a Vault token of the gateway itself, to which child tokens belong: they end with
// it. The zero Parent is none.
type Parent struct{ token *ownToken }

// NewParent returns a token of the gateway's own with that entity and end. [Login] makes those
// that count; this is for models of it.
func NewParent(entityID string, ends time.Time) Parent {
	p := Parent{&ownToken{entity: entityID}}
	if !ends.IsZero() {
		p.token.ends.Store(ends.UnixNano())
	}
	return p
}

// Refuse notes that Vault has said that the token is invalid.
func (p Parent) Refuse() { p.token.refused.Store(true) }

// Refused reports whether Vault has said that the token is invalid. Its children have ended.
func (p Parent) Refused() bool { return p.token != nil && p.token.refused.Load() }

// Ends returns when the token ends, as far as is known; zero if it is not.
func (p Parent) Ends() time.Time {
	if p.token == nil {
		return time.Time{}
	}
	if ends := p.token.ends.Load(); ends != 0 {
		return time.Unix(0, ends)
	}
	return time.Time{}
}

// EntityID returns the id of the gateway's own entity; "" if it has none.
func (p Parent) EntityID() string {
	if p.token == nil {
		return ""
	}
	return p.token.entity
}

// Parent returns the present one, and a channel that is closed when another takes its place.
func (l *Login) Parent() (p Parent, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Parent{l.token}, l.changed
}

// ChildRequest asks for a child token of the gateway's own.
type ChildRequest struct {
	Role     string // of auth/token/roles
	Alias    string // of the entity
	Policies []string
	TTL      time.Duration
	Metadata map[string]string // for Vault's audit log
}

// Child is a child token as Vault has made it, and as yet unchecked.
type Child struct {
	Accessor         string
	EntityID         string
	Policies         []string // all of them
	IdentityPolicies []string // those that come from the entity and its groups
	Batch            bool     // it cannot be renewed or revoked
	Orphan           bool
	Renewable        bool
	TTL              time.Duration
	Parent           Parent
	Sent             time.Time // when it was asked for

	token string
}

// NewChild returns a child token of which nothing else is known.
func NewChild(token string) *Child { return &Child{token: token} }

// Secret is Vault's answer to one read or write.
type Secret struct {
	Data      map[string]any
	LeaseID   string // "": none
	Duration  time.Duration
	Renewable bool
	Warnings  []string
	Sent      time.Time // when it was asked for
}

// ErrNoSecret: Vault has answered, and there is nothing at the path.
var ErrNoSecret = errors.New("there is nothing at this path")

// Children makes child tokens, and requests with them. Nothing that may have had an effect
// in Vault is repeated.
type Children struct {
	requester
	login *Login
}

// NewChildren returns the Children of the login. The error is about the settings.
func NewChildren(login *Login, settings config.Vault, log hclog.Logger) (*Children, error) {
	r, err := newRequester(settings, log)
	if err != nil {
		return nil, err
	}
	return &Children{requester: r, login: login}, nil
}

// freshFor is how long after its making a token may be unknown to a standby.
const freshFor = 2 * time.Second

// Parent is [Login.Parent].
func (c *Children) Parent() (Parent, <-chan struct{}) { return c.login.Parent() }

// Create makes a child token. If Vault does not answer in time there may be one all the
// same, which then ends by its TTL.
func (c *Children) Create(ctx context.Context, r ChildRequest) (*Child, error) {
	parent := c.login.current()
	if parent == nil {
		return nil, ErrNotLoggedIn
	}
	body := map[string]any{
		"entity_alias":      r.Alias,
		"policies":          r.Policies,
		"ttl":               int64(r.TTL / time.Second),
		"renewable":         true,
		"no_default_policy": true,
		"type":              "service",
		"meta":              r.Metadata,
	}
	sent := time.Now()
	secret, err := c.do(ctx, parent.token, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Logical().WriteWithContext(ctx, "auth/token/create/"+r.Role, body)
	})
	if IsInvalidToken(err) {
		select {
		case c.login.refused <- parent:
		default: // another request has reported one already
		}
	}
	if err != nil {
		return nil, err
	}
	if secret == nil || secret.Auth == nil || secret.Auth.ClientToken == "" {
		return nil, errors.New("Vault's answer has no token") //nolint:staticcheck // a name starts it
	}
	auth := secret.Auth
	return &Child{
		Accessor: auth.Accessor, EntityID: auth.EntityID,
		Policies: auth.Policies, IdentityPolicies: auth.IdentityPolicies,
		Batch: auth.Accessor == "", Orphan: auth.Orphan, Renewable: auth.Renewable,
		TTL: seconds(auth.LeaseDuration), Parent: Parent{parent}, Sent: sent,
		token: auth.ClientToken,
	}, nil
}

// Token returns the child token itself, for a server that is given it.
func (c *Child) Token() string { return c.token }

// Read reads a path as the child.
func (c *Children) Read(ctx context.Context, child *Child, path string) (*Secret, error) {
	return c.secret(ctx, child, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Logical().ReadWithContext(ctx, path)
	})
}

// Write writes to a path as the child.
func (c *Children) Write(ctx context.Context, child *Child, path string, data map[string]any) (*Secret, error) {
	return c.secret(ctx, child, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Logical().WriteWithContext(ctx, path, data)
	})
}

func (c *Children) secret(ctx context.Context, child *Child, ask request) (*Secret, error) {
	sent := time.Now()
	secret, err := c.do(ctx, child.token, ask)
	if IsDenied(err) && clock.Age(time.Now(), child.Sent) < freshFor {
		// A standby may not know the token yet. The active node does.
		if leader := c.leader(ctx); leader != nil {
			secret, err = c.doAt(ctx, leader, child.token, ask)
		}
	}
	if err != nil {
		return nil, err
	}
	if secret == nil || secret.Data == nil {
		return nil, ErrNoSecret
	}
	return &Secret{
		Data: secret.Data, LeaseID: secret.LeaseID, Renewable: secret.Renewable,
		Duration: seconds(secret.LeaseDuration), Warnings: secret.Warnings, Sent: sent,
	}, nil
}

// Renew renews the child, and returns how long it lives from now on.
func (c *Children) Renew(ctx context.Context, child *Child, increment time.Duration) (time.Duration, error) {
	secret, err := c.do(ctx, child.token, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Auth().Token().RenewSelfWithContext(ctx, int(increment/time.Second))
	})
	if err != nil {
		return 0, err
	}
	if secret == nil || secret.Auth == nil {
		return 0, errors.New("Vault's answer has no token") //nolint:staticcheck // a name starts it
	}
	return seconds(secret.Auth.LeaseDuration), nil
}

// RenewLease renews one of the child's leases, and returns how long it lives from now on.
func (c *Children) RenewLease(ctx context.Context, child *Child, id string, increment time.Duration) (time.Duration, error) {
	secret, err := c.do(ctx, child.token, func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return client.Sys().RenewWithContext(ctx, id, int(increment/time.Second))
	})
	if err != nil {
		return 0, err
	}
	if secret == nil {
		return 0, nil
	}
	return seconds(secret.LeaseDuration), nil
}

// Revoke ends the child with all its leases. A token that Vault does not know has ended.
func (c *Children) Revoke(ctx context.Context, child *Child) error {
	revoke := func(ctx context.Context, client *api.Client) (*api.Secret, error) {
		return nil, client.Auth().Token().RevokeSelfWithContext(ctx, "")
	}
	_, err := c.do(ctx, child.token, revoke)
	if IsInvalidToken(err) && clock.Age(time.Now(), child.Sent) < freshFor {
		if leader := c.leader(ctx); leader != nil { // a standby may not know the token yet
			_, err = c.doAt(ctx, leader, child.token, revoke)
		}
	}
	if IsInvalidToken(err) {
		return nil
	}
	return err
}
