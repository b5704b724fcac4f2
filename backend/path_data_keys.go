package backend

import (
	"context"
	"encoding/base64"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

func (b *mcpBackend) pathDataKeys() []*framework.Path {
	return []*framework.Path{describe(&framework.Path{
		Pattern: "gateway/data-keys",
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback:     b.gatewayDataKeys,
				Summary:      "Read the data keys of sealed tokens, as AWS KMS has wrapped them.",
				DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "read", OperationSuffix: "gateway-data-keys"},
				Responses: responses(merge(feedFields(), map[string]*framework.FieldSchema{
					"data_keys": {Type: framework.TypeMap, Description: "The data keys by id: key_arn, wrapped (base64), mount, audience and created_at of each.", Required: true},
					"mount":     {Type: framework.TypeString, Description: "The mount's accessor. A data key of another mount must not be used.", Required: true},
				})),
				ForwardPerformanceStandby:   true,
				ForwardPerformanceSecondary: true,
			},
		},
		HelpSynopsis: "Read the data keys of sealed tokens, as AWS KMS has wrapped them.",
		HelpDescription: `
For gateways alone. They are worth nothing without KMS, which unwraps them for
those whom its key's policy allows to, under the encryption context
mcp-mount=MOUNT,mcp-audience=AUDIENCE. Where KMS is not configured there are none.`,
	})}
}

func (b *mcpBackend) gatewayDataKeys(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	epoch, index, err := b.feed.Head(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	e, err := b.kmsEntry(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	keys, mount := map[string]any{}, ""
	if e != nil {
		mount = e.Mount
		for i := range e.Keys {
			k := &e.Keys[i]
			keys[k.ID] = map[string]any{
				"key_arn":    k.KeyARN,
				"wrapped":    base64.StdEncoding.EncodeToString(k.Wrapped),
				"mount":      k.Mount,
				"audience":   k.Audience,
				"created_at": formatTime(k.CreatedAt),
			}
		}
	}
	return &logical.Response{Data: map[string]any{
		"data_keys": keys, "mount": mount, "epoch": epoch, "index": index,
	}}, nil
}
