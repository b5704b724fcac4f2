package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/kms"
	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/backend/token"
)

func lookupResponseFields() fields {
	return merge(
		tokenFields("data_key"),
		signInFields(),
		pick(settingFields(), "token_bound_cidrs", "metadata", "upstream_policies"),
		lookupRightsFields(),
		feedFields(),
		fields{
			"active":         {Type: framework.TypeBool, Description: "Whether the token is valid now. If it is not, the answer says nothing else about it.", Required: true},
			"client_version": {Type: framework.TypeString, Description: "Changes with every change of the client."},
			"policy_digest":  {Type: framework.TypeString, Description: "Names the effective policy (gateway/policies); empty if no policy applies."},
			"answered_at":    {Type: framework.TypeString, Description: "The engine's clock (RFC 3339), to compare expires_at with."},
		})
}

func lookupRightsFields() fields {
	return merge(pick(settingFields(), "allowed_servers", "allowed_tools", "denied_tools"), fields{
		"rights":     {Type: framework.TypeSlice, Description: "The client's rights where the fields allowed_servers, allowed_tools and denied_tools do not say all, or where the token is good for one resource alone: these admit nothing then. One object a source: role, empty for the client's own fields; missing, if there is no such role; and the lists of a client."},
		"rate_limit": {Type: framework.TypeFloat, Description: "Requests a second that the client may send to each gateway. 0: no limit."},
		"rate_burst": {Type: framework.TypeInt, Description: "Requests that may come at once under rate_limit."},
	})
}

func (b *mcpBackend) pathLookup() []*framework.Path {
	return build(
		path{
			pattern: "lookup",
			fields: fields{
				"token": tokenField,
				"data_key": {
					Type:        framework.TypeString,
					Description: "From a gateway that has opened a sealed token: the id of the data key under which it was sealed. A token that was issued under another data key, or under none, is not active.",
				},
			},
			about: "token",
			ops: operations{
				logical.UpdateOperation: {do: b.lookup, verb: "look-up", answers: lookupResponseFields()},
			},
			synopsis: "Check whether a token is valid, and read its rights.",
			help: `
The answer is 200 with active=false, and gives no reason, for a token that is unknown,
expired or revoked, or whose client is disabled or deleted. Any other status says
nothing about the token. White space at the ends is cut. If the value cannot be a token,
such as one with "Bearer" in front, a warning says so.

The engine opens sealed tokens, too. A gateway opens them itself, and asks about the
token inside with the id of the data key: without the id, that token is not active.`,
		},
		path{
			pattern: "lookup-accessor",
			fields:  fields{"accessor": accessorField},
			about:   "accessor",
			ops: operations{
				logical.UpdateOperation: {do: b.lookupAccessor, verb: "look-up", answers: lookupResponseFields()},
			},
			synopsis: "Check whether the token of an accessor is valid, and read its rights.",
			help:     "Like lookup, for those who have the accessor and not the token.",
		},
	)
}

func (b *mcpBackend) lookup(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	secret, err := required(d, "token", "give the token to look up in the request's body")
	if err != nil {
		return nil, err
	}
	dataKey, opened := d.GetOk("data_key")
	if !opened {
		resp, err := b.answerLookup(ctx, req.Storage, func() (*activeToken, error) {
			return b.find(ctx, req.Storage, secret)
		})
		return warnOfForm(resp, err, func() error { return notAToken("token", secret) })
	}
	unsealed := &unsealedToken{token: secret, dataKey: dataKey.(string)}
	return b.answerLookup(ctx, req.Storage, func() (*activeToken, error) {
		return b.findUnsealed(ctx, req.Storage, unsealed)
	})
}

func (b *mcpBackend) lookupAccessor(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	accessor, err := required(d, "accessor", "give the accessor of the token to look up")
	if err != nil {
		return nil, err
	}
	resp, err := b.answerLookup(ctx, req.Storage, func() (*activeToken, error) {
		return b.findAccessor(ctx, req.Storage, accessor)
	})
	return warnOfForm(resp, err, func() error { return notAnAccessor(accessor) })
}

// warnOfForm adds a warning to a lookup's answer if no active token was found and the given
// value has the wrong form. It is not an error: the answer, that no such token is active, is
// true.
func warnOfForm(resp *logical.Response, err error, form func() error) (*logical.Response, error) {
	if err != nil || resp.Data["active"] == true {
		return resp, err
	}
	if problem := form(); problem != nil {
		resp.AddWarning(problem.Error())
	}
	return resp, nil
}

// answerLookup takes the feed's head, and only then reads storage: the order that lets
// a gateway recognize an answer that is older than a change it knows of.
func (b *mcpBackend) answerLookup(ctx context.Context, s logical.Storage, read func() (*activeToken, error)) (*logical.Response, error) {
	epoch, index, err := b.feed.Head(ctx, s)
	if err != nil {
		return nil, err
	}
	f, err := read()
	if err != nil {
		return nil, err
	}
	data := inactive()
	if f != nil {
		data = b.lookupData(f)
	}
	data["epoch"], data["index"], data["answered_at"] = epoch, index, formatTime(b.now())
	return &logical.Response{Data: data}, nil
}

// inactive is the whole answer to a lookup of a token that is unknown, expired, revoked or
// disabled: the four cannot be told apart.
func inactive() map[string]any { return map[string]any{"active": false} }

// lookupData returns the answer to a lookup of an active token.
func (b *mcpBackend) lookupData(f *activeToken) map[string]any {
	c := f.client
	data := tokenData(f.name, c.ID, f.info, b.now())
	data["active"] = true
	data["client_version"] = c.versionString()
	f.rights.addTo(data, f.info.SignIn != nil)
	data["token_bound_cidrs"] = orEmpty(c.TokenBoundCIDRs)
	data["policy_digest"] = f.policy.Digest()
	data["data_key"] = f.info.DataKey
	data["metadata"] = copyOf(c.Metadata)
	data["upstream_policies"] = listOrNull(c.UpstreamPolicies)
	f.info.SignIn.addTo(data)
	return data
}

// activeToken is an active token with the client that confirms it.
type activeToken struct {
	name   string
	client *clientEntry
	info   *tokenInfo
	rights *clientRights
	policy *policy.Policy
}

// find looks up a token, sealed or not, and returns nil unless it is active.
func (b *mcpBackend) find(ctx context.Context, s logical.Storage, secret string) (*activeToken, error) {
	unsealed, err := b.unseal(ctx, s, secret)
	switch {
	case kms.Refused(err):
		return nil, nil // a token that KMS does not open is not active
	case err != nil:
		return nil, kmsFailure(err)
	case unsealed == nil:
		return nil, nil
	}
	return b.findUnsealed(ctx, s, unsealed)
}

// findUnsealed is find for a token whose seal, if any, is open. It reads at most one entry that
// is not in memory: the token's pointer. A token that was issued sealed under one data key
// is not active without its seal, nor under another data key.
func (b *mcpBackend) findUnsealed(ctx context.Context, s logical.Storage, unsealed *unsealedToken) (*activeToken, error) {
	if token.Malformed(unsealed.token) != nil {
		return nil, nil //nolint:nilerr // a text that cannot be a token is not active
	}
	hash, err := b.hashToken(ctx, s, unsealed.token)
	if err != nil {
		return nil, err
	}
	f, err := b.findHash(ctx, s, hash)
	if err != nil || f == nil || f.info.DataKey != unsealed.dataKey {
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
	rights, err := b.rights(ctx, s, c)
	if err != nil {
		return nil, err
	}
	return &activeToken{name: p.Client, client: c, info: info, rights: rights, policy: all.effective(c.Policies)}, nil
}

// findAccessor is find for the token of an accessor.
func (b *mcpBackend) findAccessor(ctx context.Context, s logical.Storage, accessor string) (*activeToken, error) {
	at, err := b.locate(ctx, s, accessor)
	if err != nil || at == nil {
		return nil, err
	}
	return b.findHash(ctx, s, at.hash)
}

// tokenLocation is where storage has the token of an accessor.
type tokenLocation struct {
	client string // its client's name
	hash   string
	leased bool
}

// locate finds the token of an accessor, which starts with its client's id. It
// returns nil if there is none; the token it finds may have ended.
func (b *mcpBackend) locate(ctx context.Context, s logical.Storage, accessor string) (*tokenLocation, error) {
	if len(accessor) != accessorLength {
		return nil, nil
	}
	id, suffix := accessor[:idLength], accessor[idLength:]
	name, c, err := b.clientOfID(ctx, s, id)
	if err != nil || c == nil {
		return nil, err
	}
	if t := c.byAccessor(accessor); t != nil {
		return &tokenLocation{client: name, hash: t.Hash}, nil
	}
	var lease leaseEntry
	if ok, err := getJSON(ctx, s, leaseKey(id, suffix), &lease); err != nil || !ok {
		return nil, err
	}
	return &tokenLocation{client: name, hash: lease.Hash, leased: true}, nil
}
