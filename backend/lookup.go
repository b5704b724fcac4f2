package backend

import (
	"context"
	"maps"
	"time"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/kms"
	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/backend/token"
)

// activeToken is an active token with the client that confirms it.
type activeToken struct {
	name   string
	client *clientEntry
	info   *tokenInfo
	policy *policy.Policy
}

// find looks up a token, sealed or not, and returns nil unless it is active.
func (b *mcpBackend) find(ctx context.Context, s logical.Storage, secret string) (*activeToken, error) {
	shown, err := b.unseal(ctx, s, secret)
	switch {
	case kms.Refused(err):
		return nil, nil // what KMS does not open is not active
	case err != nil:
		return nil, kmsFailure(err)
	case shown == nil:
		return nil, nil
	}
	return b.findUnsealed(ctx, s, shown)
}

// findUnsealed is find for a token whose seal, if any, is open. It reads at most one entry that
// is not in memory: the token's pointer. A token that was issued sealed under one data key
// is not active without its seal, nor under another data key.
func (b *mcpBackend) findUnsealed(ctx context.Context, s logical.Storage, shown *unsealedToken) (*activeToken, error) {
	if token.Malformed(shown.token) != nil {
		return nil, nil //nolint:nilerr // what cannot be a token is not active
	}
	hash, err := b.hashToken(ctx, s, shown.token)
	if err != nil {
		return nil, err
	}
	f, err := b.findHash(ctx, s, hash)
	if err != nil || f == nil || f.info.DataKey != shown.dataKey {
		return nil, err
	}
	return f, nil
}

func (b *mcpBackend) findHash(ctx context.Context, s logical.Storage, hash string) (*activeToken, error) {
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
	if info.DataKey != "" {
		e, err := b.kmsEntry(ctx, s)
		if err != nil || e.key(info.DataKey) == nil {
			return nil, err // with its data key a token is gone, too
		}
	}
	all, err := b.policies(ctx, s)
	if err != nil {
		return nil, err
	}
	return &activeToken{name: p.Client, client: c, info: info, policy: all.effective(c.Policies)}, nil
}

// tokenLocation is where storage has the token of an accessor.
type tokenLocation struct {
	client string // its client's name
	hash   string
	leased bool
}

// locate finds the token of an accessor, which starts with its client's id. It
// returns nil where there is none; the token it finds may have ended.
func (b *mcpBackend) locate(ctx context.Context, s logical.Storage, accessor string) (*tokenLocation, error) {
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
		return &tokenLocation{client: uid.Client, hash: t.Hash}, nil
	}
	var lease leaseEntry
	if ok, err := getJSON(ctx, s, leaseKey(id, suffix), &lease); err != nil || !ok {
		return nil, err
	}
	return &tokenLocation{client: uid.Client, hash: lease.Hash, leased: true}, nil
}

// leaseEntry leads from a leased token's accessor to its pointer.
type leaseEntry struct {
	Hash     string    `json:"hash"`
	IssuedAt time.Time `json:"issued_at"`
}

// leaseKey is the storage key of a leased token's entry. All those of one client
// are in one folder, so that listing them touches no other client's.
func leaseKey(clientID, suffix string) string { return leasePrefix + clientID + "/" + suffix }

// inactive is the whole answer to a lookup of a token that is unknown, expired, revoked or
// disabled: the four cannot be told apart.
func inactive() map[string]any { return map[string]any{"active": false} }

// lookupData returns the answer to a lookup of an active token.
func (b *mcpBackend) lookupData(f *activeToken) map[string]any {
	c := f.client
	metadata := maps.Clone(c.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	data := tokenData(f.name, c.ID, f.info, b.now())
	data["active"] = true
	data["client_version"] = c.versionString()
	data["allowed_servers"] = orEmpty(c.AllowedServers)
	data["allowed_tools"] = nil
	data["denied_tools"] = orEmpty(c.DeniedTools)
	data["token_bound_cidrs"] = orEmpty(c.TokenBoundCIDRs)
	data["policy_digest"] = f.policy.Digest()
	data["data_key"] = f.info.DataKey
	data["metadata"] = metadata
	if c.AllowedTools != nil {
		data["allowed_tools"] = c.AllowedTools
	}
	return data
}
