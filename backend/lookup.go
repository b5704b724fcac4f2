package backend

import (
	"context"
	"maps"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/backend/token"
)

// found is an active token and the client that confirms it.
type found struct {
	name   string
	client *clientEntry
	info   *tokenInfo
	policy *policy.Policy
}

// find returns what is behind a token, or nil unless it is active. It reads at
// most one entry that is not in memory: the token's pointer.
func (b *mcpBackend) find(ctx context.Context, s logical.Storage, secret string) (*found, error) {
	if token.Malformed(secret) != nil {
		return nil, nil //nolint:nilerr // what cannot be a token is not active
	}
	hash, err := b.hashToken(ctx, s, secret)
	if err != nil {
		return nil, err
	}
	return b.findHash(ctx, s, hash)
}

func (b *mcpBackend) findHash(ctx context.Context, s logical.Storage, hash string) (*found, error) {
	p, err := b.pointers.get(ctx, s, hash)
	if err != nil || p == nil {
		return nil, err
	}
	c, err := b.clients.get(ctx, s, p.Client)
	if err != nil {
		return nil, err
	}
	m, err := b.mountEntry(ctx, s)
	if err != nil {
		return nil, err
	}
	info := c.confirm(p, hash, m.Generation, b.now())
	if info == nil {
		return nil, nil
	}
	all, err := b.policies(ctx, s)
	if err != nil {
		return nil, err
	}
	return &found{name: p.Client, client: c, info: info, policy: all.effective(c.Policies)}, nil
}

// place is where the token of an accessor is kept.
type place struct {
	client string // its client's name
	hash   string
	leased bool
}

// locate finds the token of an accessor, which starts with its client's id. It
// returns nil where there is none; the token it finds may have ended.
func (b *mcpBackend) locate(ctx context.Context, s logical.Storage, accessor string) (*place, error) {
	if len(accessor) != accessorLength {
		return nil, nil
	}
	id, suffix := accessor[:idLength], accessor[idLength:]
	var uid uidEntry
	if ok, err := getJSON(ctx, s, uidPrefix+id, &uid); err != nil || !ok {
		return nil, err
	}
	c, err := b.clients.get(ctx, s, uid.Client)
	if err != nil || c == nil || c.ID != id {
		return nil, err
	}
	if t := c.byAccessor(accessor); t != nil {
		return &place{client: uid.Client, hash: t.Hash}, nil
	}
	var lease leaseEntry
	if ok, err := getJSON(ctx, s, leaseKey(id, suffix), &lease); err != nil || !ok {
		return nil, err
	}
	return &place{client: uid.Client, hash: lease.Hash, leased: true}, nil
}

// leaseEntry leads from a leased token's accessor to its pointer.
type leaseEntry struct {
	Hash     string    `json:"hash"`
	IssuedAt time.Time `json:"issued_at"`
}

// leaseKey is the storage key of a leased token's entry. All those of one client
// are in one folder, so that listing them touches no other client's.
func leaseKey(clientID, suffix string) string { return leasePrefix + clientID + "/" + suffix }

// inactive is all that a lookup says of a token that is unknown, expired, revoked
// or disabled, alike.
func inactive() map[string]any { return map[string]any{"active": false} }

// lookupData is what a lookup says of an active token.
func (b *mcpBackend) lookupData(f *found) map[string]any {
	c := f.client
	metadata := maps.Clone(c.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	data := with(tokenData(f.name, c.ID, f.info, b.now()), map[string]any{
		"active":            true,
		"client_version":    c.versionString(),
		"allowed_servers":   orEmpty(c.AllowedServers),
		"allowed_tools":     nil,
		"denied_tools":      orEmpty(c.DeniedTools),
		"token_bound_cidrs": orEmpty(c.TokenBoundCIDRs),
		"policy_digest":     f.policy.Digest(),
		"metadata":          metadata,
	})
	if c.AllowedTools != nil {
		data["allowed_tools"] = c.AllowedTools
	}
	return data
}
