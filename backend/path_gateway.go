package backend

import (
	"context"
	"encoding/base64"
	"maps"
	"slices"
	"strconv"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/pin"
)

// fieldWait is the one duration that is not stored: gateways send milliseconds.
const fieldWait = "wait"

func (b *mcpBackend) pathChanges() []*framework.Path {
	return build(path{
		pattern: "changes",
		fields: fields{
			"epoch":   {Type: framework.TypeString, Description: "The epoch of the last answer. Without it the answer is a reset, at once.", Query: true},
			"index":   {Type: framework.TypeInt64, Description: "The index of the last answer.", Query: true},
			fieldWait: {Type: framework.TypeDurationSecond, Description: "How long the request is held if there is no change yet; at most max_wait of config. Default: it is not held.", Query: true},
			"gateway": {Type: framework.TypeString, Description: "The id under which the gateway reports usage (gateway/usage), so that the engine knows which gateways ran on a day.", Query: true},
		},
		about: "changes",
		ops: operations{
			logical.ReadOperation: {
				do: b.changes, runs: onActive,
				answers: merge(feedFields(), fields{
					"reset":   {Type: framework.TypeBool, Description: "The caller may have missed changes: it must ask again for everything that it holds.", Required: true},
					"changes": {Type: framework.TypeSlice, Description: "The changes in order, at most 1,000: index, type, operation and subject.", Required: true},
				}),
			},
		},
		synopsis: "Read the changes since an index, and wait for the first.",
		help: `
For gateways. A gateway always has one read of this waiting, which is answered within
milliseconds when a token, a client, a server or the configuration changes. Send epoch
and index of the last answer with the next request.

A request that waits has a price: Vault cannot step down, seal or reload the plugin
before it ends. So requests are held for at most max_wait, and at most max_watchers of
them.`,
	})
}

func (b *mcpBackend) changes(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	index := d.Get("index").(int64)
	if index < 0 {
		return nil, userErrorf("field index: %d is negative: send the index of the last answer", index)
	}
	conf, err := b.config(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	wait, err := check.FineDuration(d.Raw[fieldWait])
	if err != nil {
		return nil, userErrorf("field %s: %s", fieldWait, err)
	}
	gateway := d.Get("gateway").(string)
	if gateway != "" {
		if err := check.GatewayID(gateway); err != nil {
			return nil, userErrorf("field gateway: %s", err)
		}
	}
	if gateway != "" || wait > 0 {
		b.noteGateway(ctx, req.Storage, gateway)
	}
	answer, err := b.feed.Watch(ctx, req.Storage, d.Get("epoch").(string), uint64(index), min(wait, conf.MaxWait), conf.MaxWatchers)
	if err != nil {
		return nil, err
	}
	if gateway != "" && len(answer.Events) == 0 { // it was there all the time, and may never ask again
		ctx, cancel := durable(ctx)
		defer cancel()
		b.noteGateway(ctx, req.Storage, gateway)
	}
	changes := make([]map[string]any, 0, len(answer.Events))
	for _, e := range answer.Events {
		changes = append(changes, map[string]any{
			"index": e.Index, "type": string(e.Type), "operation": string(e.Operation),
			"client": e.Client, "client_id": e.ClientID, "accessor": e.Accessor, "sign_in": e.SignIn, "name": e.Name,
		})
	}
	return &logical.Response{Data: map[string]any{
		"epoch": answer.Epoch, "index": answer.Index, "reset": answer.Reset, "changes": changes,
	}}, nil
}

func (b *mcpBackend) pathGateway() []*framework.Path {
	return build(
		path{
			pattern: "gateway/servers",
			about:   "gateway-servers",
			ops: operations{
				logical.ReadOperation: {
					do: b.gatewayServers, runs: onActive,
					answers: merge(feedFields(), fields{
						"servers":            {Type: framework.TypeMap, Description: "Every registered server by name, with url, headers, env, credentials and files in full. One with pins also has pin, pin_kinds, place, and pins: the id of the set in gateway/pins.", Required: true},
						"pinned_servers":     {Type: framework.TypeMap, Description: "Those with pin=enforce, which are not among the others.", Required: true},
						"credential_servers": {Type: framework.TypeMap, Description: "Those with credentials, files or vault_policies that are in neither.", Required: true},
						"disabled":           {Type: framework.TypeStringSlice, Description: "The names of the servers that are disabled. They are not among the others.", Required: true},
					}),
				},
			},
			synopsis: "Read the registry with the upstreams' credentials.",
			help: `
For gateways alone: unlike servers/, this holds the values of headers, env, files and
the URLs' queries, and the data of credentials. A server that is disabled is named, and
nothing else is said of it: to a gateway that does not know the field it is not registered.
So is a server with pin=enforce to a gateway that does not know pinned_servers, and one with
credentials, files or vault_policies to a gateway that does not know credential_servers.`,
		},
		path{
			pattern: "gateway/policies/(?P<digest>[0-9a-f]{64})",
			fields: fields{
				"digest": {Type: framework.TypeString, Description: "The policy_digest of a lookup."},
			},
			about: "gateway-policy",
			ops: operations{
				logical.ReadOperation: {
					do: b.gatewayPolicy, runs: onActive,
					answers: fields{
						"digest":  {Type: framework.TypeString, Description: "The digest of the request.", Required: true},
						"sources": {Type: framework.TypeSlice, Description: "The policies that make it up: name, managed, missing and policy of each.", Required: true},
					},
				},
			},
			synopsis: "Read an effective policy by its digest.",
			help: `
For gateways alone: a lookup answers the digest of the client's effective policy,
and each policy is read once. 404 means that the policies have changed since:
look the token up again.`,
		},
		path{
			pattern: "gateway/keys",
			about:   "gateway-keys",
			ops: operations{
				logical.ReadOperation: {
					do: b.gatewayKeys, runs: onActive,
					answers: fields{
						"keys":            {Type: framework.TypeMap, Description: "The keys by version: key (256 bits in base64) and created_at of each.", Required: true},
						"current_version": {Type: framework.TypeInt, Description: "The version to seal under. Every version listed still opens.", Required: true},
						"mount_id":        {Type: framework.TypeString, Description: "The mount's id, which is part of what is sealed.", Required: true},

						"registration_key": {Type: framework.TypeString, Description: "The key for the registrations of applications (256 bits in base64), which time does not end.", Required: true},
					},
				},
			},
			synopsis: "Read the keys under which gateways seal session ids.",
			help: `
For gateways alone. All gateways of a mount share these keys, so a session that one
of them opened continues at any other. A new key is made every 30 days, and kept for 90.

An application that has registered itself at sign-in is known by what the gateways have
sealed for it under registration_key. That one is kept until it is dropped by
gateway/keys/rotate drop_old=true.`,
		},
		path{
			pattern: "gateway/keys/rotate",
			fields: fields{
				"drop_old": {
					Type:        framework.TypeBool,
					Description: "Forget every older key at once, as after a leak, and make a new registration key. Open sessions end, and clients begin new ones; applications register again.",
				},
			},
			about: "gateway-keys",
			ops: operations{
				logical.UpdateOperation: {do: b.gatewayKeysRotate, verb: "rotate"},
			},
			synopsis: "Make a new key for session ids now.",
			help: `
Open sessions stay open: an older key still opens the ids that it has sealed, until it is 90
days old. But a thief of that key can seal sessions under it. So after a leak,
drop_old=true forgets every older key, and makes a new registration key. Sessions that were
sealed under one of them are unknown from then on, and clients begin new ones. Applications
that have registered themselves at sign-in register again, and people sign in again.`,
		},
	)
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
	servers, pinned, supplied := make(map[string]any, len(all)), map[string]any{}, map[string]any{}
	disabled := []string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		e := all[name]
		if e.Disabled {
			disabled = append(disabled, name)
			continue
		}
		server := map[string]any{
			"id":          e.ID,
			"transport":   e.Transport,
			"url":         e.URL,
			"command":     e.Command,
			"args":        orEmpty(e.Args),
			"env":         e.Env,
			"headers":     e.Headers,
			"shared":      e.Shared,
			"description": e.Description,

			"credentials":    e.credentialsInFull(),
			"files":          e.Files,
			"vault_policies": orEmpty(e.VaultPolicies),
		}
		if err := b.addPins(ctx, req.Storage, name, e, server); err != nil {
			return nil, err
		}
		switch {
		case e.Pin == pin.Enforce:
			pinned[name] = server
		case e.supplied():
			supplied[name] = server
		default:
			servers[name] = server
		}
	}
	return &logical.Response{Data: map[string]any{
		"servers": servers, "pinned_servers": pinned, "credential_servers": supplied, "disabled": disabled,
		"epoch": epoch, "index": index,
	}}, nil
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
		"registration_key": base64.StdEncoding.EncodeToString(held.Registration),
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
