package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func lookupResponseFields() map[string]*framework.FieldSchema {
	return merge(
		pick(tokenResponseFields, "client", "client_id", "accessor", "kind", "issued_at", "expires_at", "ttl", "data_key"),
		pick(settingFields(), "allowed_servers", "allowed_tools", "denied_tools", "token_bound_cidrs", "metadata"),
		feedFields(),
		map[string]*framework.FieldSchema{
			"active":         {Type: framework.TypeBool, Description: "Whether the token is valid now. Of one that is not, nothing else is said.", Required: true},
			"client_version": {Type: framework.TypeString, Description: "Changes with every change of the client."},
			"policy_digest":  {Type: framework.TypeString, Description: "Names the effective policy (gateway/policies); empty where no policy applies."},
			"answered_at":    {Type: framework.TypeString, Description: "The engine's clock (RFC 3339), to compare expires_at with."},
		})
}

// feedFields are in every answer that a gateway must be able to order among the
// events of the change feed.
func feedFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"epoch": {Type: framework.TypeString, Description: "The change feed that index belongs to.", Required: true},
		"index": {Type: framework.TypeInt64, Description: "The change feed's index before the answer was read from storage: the answer knows of every change up to it.", Required: true},
	}
}

func (b *mcpBackend) pathLookup() []*framework.Path {
	return []*framework.Path{
		describe(&framework.Path{
			Pattern: "lookup",
			Fields: map[string]*framework.FieldSchema{
				"token": tokenField,
				"data_key": {
					Type:        framework.TypeString,
					Description: "Id of the data key under which the token came sealed to a gateway, which has opened it. A token that was sealed under another one, or none, is not active.",
				},
			},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: &framework.PathOperation{
					Callback:                    b.lookup,
					Summary:                     "Tell whether a token is valid, and what it may reach.",
					DisplayAttrs:                &framework.DisplayAttributes{OperationVerb: "look-up", OperationSuffix: "token"},
					Responses:                   responses(lookupResponseFields()),
					ForwardPerformanceStandby:   true,
					ForwardPerformanceSecondary: true,
				},
			},
			HelpSynopsis: "Tell whether a token is valid, and what it may reach.",
			HelpDescription: `
The answer is 200 with active=false for a token that is unknown, expired or
revoked, or whose client is disabled or deleted, alike. Any other status says
nothing about the token: it could not be asked. White space at the ends is cut;
of what cannot be a token, such as one with "Bearer" in front, a warning says so.

A sealed token is opened here, too. A gateway opens it itself, and asks about the
token in it with the id of the data key; bare, that token is not active.`,
		}),
		describe(&framework.Path{
			Pattern: "lookup-accessor",
			Fields:  map[string]*framework.FieldSchema{"accessor": accessorField},
			Operations: map[logical.Operation]framework.OperationHandler{
				logical.UpdateOperation: &framework.PathOperation{
					Callback:                    b.lookupAccessor,
					Summary:                     "Tell whether the token of an accessor is valid, and what it may reach.",
					DisplayAttrs:                &framework.DisplayAttributes{OperationVerb: "look-up", OperationSuffix: "accessor"},
					Responses:                   responses(lookupResponseFields()),
					ForwardPerformanceStandby:   true,
					ForwardPerformanceSecondary: true,
				},
			},
			HelpSynopsis:    "Tell whether the token of an accessor is valid, and what it may reach.",
			HelpDescription: "As lookup, for one who has the accessor and not the token.",
		}),
	}
}

func (b *mcpBackend) lookup(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	secret, given := d.GetOk("token")
	if !given {
		return nil, userErrorf("field token is missing: give the token to look up in the request's body")
	}
	dataKey, opened := d.GetOk("data_key")
	if !opened {
		resp, err := b.answerLookup(ctx, req.Storage, func() (*activeToken, error) {
			return b.find(ctx, req.Storage, secret.(string))
		})
		return warnOfForm(resp, err, func() error { return notAToken("token", secret.(string)) })
	}
	shown := &unsealedToken{token: secret.(string), dataKey: dataKey.(string)}
	return b.answerLookup(ctx, req.Storage, func() (*activeToken, error) {
		return b.findUnsealed(ctx, req.Storage, shown)
	})
}

func (b *mcpBackend) lookupAccessor(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	accessor, given := d.GetOk("accessor")
	if !given {
		return nil, userErrorf("field accessor is missing: give the accessor of the token to look up")
	}
	resp, err := b.answerLookup(ctx, req.Storage, func() (*activeToken, error) {
		at, err := b.locate(ctx, req.Storage, accessor.(string))
		if err != nil || at == nil {
			return nil, err
		}
		return b.findHash(ctx, req.Storage, at.hash)
	})
	return warnOfForm(resp, err, func() error { return notAnAccessor(accessor.(string)) })
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

// answerLookup takes the feed's head, and only then reads storage: the order that
// lets a gateway tell an answer that is older than a change it knows of.
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
