package backend

import (
	"context"
	"encoding/base64"
	"strconv"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *mcpBackend) pathGateway() []*framework.Path {
	return []*framework.Path{
		describe(&framework.Path{
			Pattern: "gateway/servers",
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{
					Callback:     b.gatewayServers,
					Summary:      "Read the registry with the upstreams' credentials.",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "read", OperationSuffix: "gateway-servers"},
					Responses: responses(merge(feedFields(), map[string]*framework.FieldSchema{
						"servers": {Type: framework.TypeMap, Description: "Every registered server by name, with url, headers and env in full.", Required: true},
					})),
					ForwardPerformanceStandby:   true,
					ForwardPerformanceSecondary: true,
				},
			},
			HelpSynopsis: "Read the registry with the upstreams' credentials.",
			HelpDescription: `
For gateways alone: unlike servers/, this holds the values of headers, env and the
URLs' queries.`,
		}),
		describe(&framework.Path{
			Pattern: "gateway/policies/(?P<digest>[0-9a-f]{64})",
			Fields: map[string]*framework.FieldSchema{
				"digest": {Type: framework.TypeString, Description: "The policy_digest of a lookup."},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{
					Callback:     b.gatewayPolicy,
					Summary:      "Read an effective policy by its digest.",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "read", OperationSuffix: "gateway-policy"},
					Responses: responses(map[string]*framework.FieldSchema{
						"digest":  {Type: framework.TypeString, Description: "The digest, again.", Required: true},
						"sources": {Type: framework.TypeSlice, Description: "The policies that make it up: name, managed, missing and policy of each.", Required: true},
					}),
					ForwardPerformanceStandby:   true,
					ForwardPerformanceSecondary: true,
				},
			},
			HelpSynopsis: "Read an effective policy by its digest.",
			HelpDescription: `
For gateways alone: a lookup answers the digest of the client's effective policy,
and each policy is read once. 404 means that the policies have changed since:
look the token up again.`,
		}),
		describe(&framework.Path{
			Pattern: "gateway/keys",
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.ReadOperation: &framework.PathOperation{
					Callback:     b.gatewayKeys,
					Summary:      "Read the keys under which gateways seal session ids.",
					DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "read", OperationSuffix: "gateway-keys"},
					Responses: responses(map[string]*framework.FieldSchema{
						"keys":            {Type: framework.TypeMap, Description: "The keys by version: key (256 bits in base64) and created_at of each.", Required: true},
						"current_version": {Type: framework.TypeInt, Description: "The version to seal under. Every version listed still opens.", Required: true},
						"mount_id":        {Type: framework.TypeString, Description: "The mount's id, which is part of what is sealed.", Required: true},
					}),
					ForwardPerformanceStandby:   true,
					ForwardPerformanceSecondary: true,
				},
			},
			HelpSynopsis: "Read the keys under which gateways seal session ids.",
			HelpDescription: `
For gateways alone. All gateways of a mount share these keys, so that a session
which one of them opened goes on at any other. A new key is made every 30 days,
and kept for 90.`,
		}),
		describe(&framework.Path{
			Pattern: "gateway/keys/rotate",
			Fields: map[string]*framework.FieldSchema{
				"drop_old": {
					Type:        framework.TypeBool,
					Description: "Forget every older key at once, as after a leak. Sessions that are open end: clients begin new ones.",
				},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: &framework.PathOperation{
					Callback:                    b.gatewayKeysRotate,
					Summary:                     "Make a new key for session ids now.",
					DisplayAttrs:                &framework.DisplayAttributes{OperationVerb: "rotate", OperationSuffix: "gateway-keys"},
					Responses:                   noContent(),
					ForwardPerformanceStandby:   true,
					ForwardPerformanceSecondary: true,
				},
			},
			HelpSynopsis: "Make a new key for session ids now.",
			HelpDescription: `
Sessions that are open stay open: an older key still opens what it has sealed, until
it is 90 days old. So it does for one who has copied it, and who can seal sessions
under it: after a leak, drop_old=true forgets every older key. The sessions that were
sealed under them are unknown from then on, and clients begin new ones.`,
		}),
	}
}

func (b *mcpBackend) gatewayServers(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	epoch, index, err := b.feed.Head(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	all, err := b.allServers(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	servers := make(map[string]any, len(all))
	for name, e := range all {
		servers[name] = map[string]any{
			"id":          e.ID,
			"transport":   e.Transport,
			"url":         e.URL,
			"command":     e.Command,
			"args":        orEmpty(e.Args),
			"env":         e.Env,
			"headers":     e.Headers,
			"shared":      e.Shared,
			"description": e.Description,
		}
	}
	return &logical.Response{Data: map[string]any{"servers": servers, "epoch": epoch, "index": index}}, nil
}

func (b *mcpBackend) gatewayKeys(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	held, err := b.sessionKeys(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	mount, err := b.mountEntry(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	keys := make(map[string]any, len(held.Keys))
	for version, k := range held.Keys {
		keys[strconv.Itoa(version)] = map[string]any{
			"key":        base64.StdEncoding.EncodeToString(k.Key),
			"created_at": formatTime(k.CreatedAt),
		}
	}
	return &logical.Response{Data: map[string]any{
		"keys": keys, "current_version": held.Current, "mount_id": mount.ID,
	}}, nil
}

func (b *mcpBackend) gatewayKeysRotate(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := durable(ctx)
	defer cancel()
	life := sessionKeyLife
	if d.Get("drop_old").(bool) {
		life = 0
	}
	return nil, b.rotateSessionKeys(ctx, req.Storage, life)
}

func (b *mcpBackend) gatewayPolicy(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	all, err := b.policies(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	digest := d.Get("digest").(string)
	held := all.byDigest(digest)
	if held == nil {
		return nil, nil
	}
	return &logical.Response{Data: map[string]any{"digest": digest, "sources": held.Sources()}}, nil
}
