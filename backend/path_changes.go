package backend

import (
	"context"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
)

// fieldWait is the one duration that is not stored: gateways send milliseconds.
const fieldWait = "wait"

func (b *mcpBackend) pathChanges() []*framework.Path {
	return []*framework.Path{describe(&framework.Path{
		Pattern: "changes",
		Fields: map[string]*framework.FieldSchema{
			"epoch":   {Type: framework.TypeString, Description: "The epoch of the last answer. Without it the answer is a reset, at once.", Query: true},
			"index":   {Type: framework.TypeInt64, Description: "The index of the last answer.", Query: true},
			fieldWait: {Type: framework.TypeDurationSecond, Description: "How long the request is held if there is no change yet; at most max_wait of config. Default: it is not held.", Query: true},
		},
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback:     b.changes,
				Summary:      "Read the changes since an index, and wait for the first.",
				DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "read", OperationSuffix: "changes"},
				Responses: responses(merge(feedFields(), map[string]*framework.FieldSchema{
					"reset":   {Type: framework.TypeBool, Description: "The caller may have missed changes: everything it holds must be asked again.", Required: true},
					"changes": {Type: framework.TypeSlice, Description: "The changes in order, at most 1,000: index, type, operation and what they are about.", Required: true},
				})),
				ForwardPerformanceStandby:   true,
				ForwardPerformanceSecondary: true,
			},
		},
		HelpSynopsis: "Read the changes since an index, and wait for the first.",
		HelpDescription: `
For gateways: one read of this is always held, and answers within milliseconds
when a token, a client, a server or the configuration changes. Send epoch and
index of the last answer with the next request.

A request that is held has a price that Vault sets: it cannot step down, seal or
reload the plugin before the request ends. So requests are held for at most
max_wait, and at most max_watchers of them.`,
	})}
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
	answer, err := b.feed.Watch(ctx, req.Storage, d.Get("epoch").(string), uint64(index), min(wait, conf.MaxWait), conf.MaxWatchers)
	if err != nil {
		return nil, err
	}
	changes := make([]map[string]any, 0, len(answer.Events))
	for _, e := range answer.Events {
		changes = append(changes, map[string]any{
			"index": e.Index, "type": string(e.Type), "operation": string(e.Operation),
			"client": e.Client, "client_id": e.ClientID, "accessor": e.Accessor, "name": e.Name,
		})
	}
	return &logical.Response{Data: map[string]any{
		"epoch": answer.Epoch, "index": answer.Index, "reset": answer.Reset, "changes": changes,
	}}, nil
}
