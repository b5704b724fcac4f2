package backend

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
)

// maxRotationIDLength bounds rotation_id, in characters.
const maxRotationIDLength = 128

func (b *mcpBackend) pathRotateClient() []*framework.Path {
	return build(path{
		pattern: "rotate-client/" + segment("name"),
		fields: fields{
			"name": nameField,
			"grace_period": {
				Type:        framework.TypeDurationSecond,
				Description: "How long the replaced token stays valid. Default: the mount's grace_period. 0 ends it and every earlier one at once, as after a leak.",
			},
			"rotation_id": {
				Type:        framework.TypeString,
				Description: "A name of your own for this rotation. The same one again within ten minutes replaces the token whose answer was lost, and leaves the old token's grace period as it is. Later it names a new rotation.",
			},
			"access_token":            accessTokenField,
			"access_token_ciphertext": ciphertextField,
			"allow_reuse":             allowReuseField,
		},
		about: "client",
		ops: operations{
			logical.UpdateOperation: {
				do: b.rotateClient, summary: "Issue a new token for a client and let the old one live on for a while.", verb: "rotate",
				answers: merge(tokenFields("token"), fields{
					"predecessors": {Type: framework.TypeSlice, Description: "The earlier tokens that are still accepted: accessor and expires_at of each, the newest first."},
				}),
			},
		},
		synopsis: "Replace a client's token, with an overlap.",
		help: `
The answer holds the new token, once. The token that it replaces is accepted
until grace_period is over, so a client can be given the new one meanwhile.
Earlier tokens keep their own ends; a client has at most eight tokens at a time.

There is no rotation_period: for tokens that are replaced without a request, use the
leases of creds/.

If the answer of a rotation was lost, repeat it with the same rotation_id within ten
minutes; a warning names the token that this ends. After that the same id names a new
rotation, with its grace period. grace_period=0 ends every earlier token, also in a
repetition. A client whose tokens were revoked gets a new token here.`,
	})
}

func (b *mcpBackend) rotateClient(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	name := d.Get("name").(string)
	r := rotation{id: d.Get("rotation_id").(string)}
	if len(r.id) > maxRotationIDLength {
		return nil, userErrorf("field rotation_id: it is %d characters long: at most %d are allowed", len(r.id), maxRotationIDLength)
	}
	src, err := b.rotationSource(ctx, req, d, name)
	if err != nil {
		return nil, err
	}
	defer src.done()
	ctx, cancel := durable(ctx)
	defer cancel()
	conf, err := b.config(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	r.grace = conf.GracePeriod
	setDuration(d, "grace_period", &r.grace)
	_, asked := d.GetOk("grace_period")
	r.endAll = asked && r.grace == 0

	defer b.clients.lock(name)()
	held, err := b.clients.getLocked(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	if held == nil {
		return nil, noSuchClient(name)
	}
	change := &clientChange{name: name, next: held.clone()}
	m, warnings, err := b.newClientToken(ctx, req, name, change.next, src)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return b.rotatedTo(name, held, []string{"the access_token is the client's current token already: nothing was changed"}), nil
	}
	defer m.release()
	warnings = append(warnings, rotationIDWarnings(held, &r, b.now())...)
	if err := b.replaceToken(ctx, req.Storage, change, m, r); err != nil {
		return nil, err
	}
	if err := b.commit(ctx, req.Storage, change); err != nil {
		return nil, err
	}
	resp := b.rotatedTo(name, change.next, warnings)
	resp.Data = with(resp.Data, m.answer(name, change.next.ID, b.now()))
	return resp, nil
}

// rotationIDWarnings explains the effect of a rotation_id that was used before.
func rotationIDWarnings(held *clientEntry, r *rotation, now time.Time) []string {
	if repeated := held.repeated(r, now); repeated != nil {
		return []string{fmt.Sprintf("rotation_id repeats a rotation of %s ago: the token that it issued, with the accessor %s, has ended", now.Sub(repeated.IssuedAt).Round(time.Second), repeated.Accessor)}
	}
	if r.id != "" && r.id == held.RotationID && held.current() != nil {
		return []string{fmt.Sprintf("rotation_id was used by the rotation of %s already, more than %s ago: this is a new rotation", formatTime(held.current().IssuedAt), rotationIDLife)}
	}
	return nil
}

// rotationSource is the source of the new token of a client that exists.
func (b *mcpBackend) rotationSource(ctx context.Context, req *logical.Request, d *framework.FieldData, name string) (*tokenSource, error) {
	c, err := b.requireClient(ctx, req.Storage, name)
	if err != nil {
		return nil, err
	}
	return b.tokenSource(ctx, req, d, name, &c.clientSettings, true)
}

// rotatedTo is the answer of a rotation, without the token.
func (b *mcpBackend) rotatedTo(name string, c *clientEntry, warnings []string) *logical.Response {
	predecessors := make([]map[string]any, 0, len(c.Tokens))
	for _, t := range c.Tokens[1:] {
		predecessors = append(predecessors, map[string]any{"accessor": t.Accessor, "expires_at": formatTime(t.ExpiresAt)})
	}
	return &logical.Response{
		Data: with(tokenData(name, c.ID, &c.Tokens[0].tokenInfo, b.now()), map[string]any{
			"predecessors": predecessors,
		}),
		Warnings: warnings,
	}
}
