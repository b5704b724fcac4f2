package backend

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *mcpBackend) pathClientTokens() []*framework.Path {
	return []*framework.Path{
		describe(&framework.Path{
			Pattern: "clients/(?P<name>[^/]+)/tokens/?$",
			Fields:  map[string]*framework.FieldSchema{"name": nameField},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ListOperation: &framework.PathOperation{
					Callback:     b.listClientTokens,
					Summary:      "List the accessors of a client's tokens.",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "list", OperationSuffix: "client-tokens"},
					Responses:    listed(),
				},
			},
			HelpSynopsis: "List the accessors of a client's tokens.",
			HelpDescription: `
The client's own tokens come first, the current one at the head, and then the
leased ones. Tokens that have expired are listed until tidy removes them.`,
		}),
		describe(&framework.Path{
			Pattern: "clients/(?P<name>[^/]+)/tokens/(?P<accessor>[^/]+)",
			Fields:  map[string]*framework.FieldSchema{"name": nameField, "accessor": accessorField},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{
					Callback:     b.readClientToken,
					Summary:      "Read what is known of a token, without the token.",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "read", OperationSuffix: "client-token"},
					Responses: responses(pick(tokenResponseFields,
						"accessor", "client", "client_id", "kind", "issued_at", "expires_at", "ttl", "issued_by", "issued_by_entity", "issued_by_alias", "issued_by_role", "data_key", "state")),
				},
				logical.DeleteOperation: &framework.PathOperation{
					Callback:                    b.deleteClientToken,
					Summary:                     "End one token of a client at once.",
					DisplayAttrs:                &framework.DisplayAttributes{OperationVerb: "revoke", OperationSuffix: "client-token"},
					Responses:                   noContent(),
					ForwardPerformanceStandby:   true,
					ForwardPerformanceSecondary: true,
				},
			},
			HelpSynopsis: "Read or end one token of a client by its accessor.",
			HelpDescription: `
Who may write clients/NAME/* may end the client's tokens here without knowing
them. A token that has ended already is no error.`,
		}),
	}
}

func (b *mcpBackend) listClientTokens(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	c, err := b.clients.get(ctx, req.Storage, d.Get("name").(string))
	if err != nil || c == nil {
		return nil, err
	}
	accessors := make([]string, 0, len(c.Tokens))
	for _, t := range c.Tokens {
		accessors = append(accessors, t.Accessor)
	}
	leased, err := req.Storage.List(ctx, leaseKey(c.ID, ""))
	if err != nil {
		return nil, err
	}
	for _, suffix := range leased {
		accessors = append(accessors, c.ID+suffix)
	}
	return logical.ListResponse(accessors), nil
}

func (b *mcpBackend) readClientToken(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name, accessor := d.Get("name").(string), d.Get("accessor").(string)
	at, err := b.locate(ctx, req.Storage, accessor)
	if err != nil || at == nil || at.client != name {
		return nil, err
	}
	c, err := b.clients.get(ctx, req.Storage, name)
	if err != nil || c == nil {
		return nil, err
	}
	p, err := b.pointers.get(ctx, req.Storage, at.hash)
	if err != nil {
		return nil, err
	}
	m, err := b.mountEntry(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	var info *tokenInfo
	switch own := c.byAccessor(accessor); {
	case own != nil:
		info = &own.tokenInfo
	case p != nil && p.Accessor == accessor:
		info = &p.tokenInfo
	default:
		return nil, nil
	}
	return &logical.Response{Data: shown(with(with(tokenData(name, c.ID, info, b.now()), info.issuerData()), map[string]any{
		"data_key": info.DataKey,
		"state":    c.state(p, at.hash, info, m.Generation, b.now()),
	}))}, nil
}

// state returns the state of a token, in a word.
func (c *clientEntry) state(p *pointer, hash string, info *tokenInfo, mountGeneration uint64, now time.Time) string {
	switch {
	case info.expired(now):
		return "expired"
	case p == nil || !c.confirmsOnceEnabled(p, hash, mountGeneration, now):
		return "revoked"
	case c.Disabled:
		return "disabled"
	case info.Kind != kindLeased && c.own(hash).Replaced:
		return "grace"
	default:
		return "active"
	}
}

func (b *mcpBackend) deleteClientToken(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := durable(ctx)
	defer cancel()
	name, accessor := d.Get("name").(string), d.Get("accessor").(string)
	if err := notAnAccessor(accessor); err != nil {
		return nil, err
	}
	at, err := b.locate(ctx, req.Storage, accessor)
	if err != nil {
		return nil, err
	}
	if at == nil || at.client != name {
		return nothingToRevoke(), nil
	}
	return b.revokeAt(ctx, req.Storage, accessor, at)
}

// remove takes the token with that accessor out of the client's list.
func (c *clientEntry) remove(accessor string) (dropped []clientToken) {
	c.Tokens = slices.DeleteFunc(c.Tokens, func(t clientToken) bool {
		if t.Accessor != accessor {
			return false
		}
		dropped = append(dropped, t)
		return true
	})
	return dropped
}
