package backend

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/feed"
	"vault-plugin-secrets-mcp/backend/kms"
	"vault-plugin-secrets-mcp/backend/token"
)

const (
	kmsPrefix = "kms/"
	kmsKey    = "config" // kms/config: the one entry below it

	// maxDataKeys is how many data keys a mount has at most.
	maxDataKeys = 32

	// dataKeySettles is how old a data key is before it seals, unless it is the
	// only one: by then every gateway that follows the change feed can open the tokens
	// that it seals.
	dataKeySettles = 5 * time.Second

	// dataKeyDrains is how long after that a request may still seal with an older
	// data key.
	dataKeyDrains = writeBound + kms.Timeout
)

// kmsEntry has the mount's settings of AWS KMS, and the data keys that KMS wraps for it. They
// are one entry so that they change together.
type kmsEntry struct {
	kmsSettings
	KeyARN string    `json:"key_arn"`   // the key for which KeyID stands
	Mount  string    `json:"mount"`     // the mount's accessor, which Vault sends with writes only
	Keys   []dataKey `json:"data_keys"` // the newest first, which is for the present key and audience
}

// kmsSettings has the fields that a caller may set.
type kmsSettings struct{ check.KMS }

// dataKey is one data key, wrapped. The tokens that it seals are bound to its mount and
// audience.
type dataKey struct {
	ID        string    `json:"id"`
	KeyARN    string    `json:"key_arn"`
	Wrapped   []byte    `json:"wrapped"`
	Mount     string    `json:"mount"` // its accessor
	Audience  string    `json:"audience"`
	CreatedAt time.Time `json:"created_at"`
}

func (k *dataKey) wrapped() *kms.WrappedKey {
	return &kms.WrappedKey{ID: k.ID, KeyARN: k.KeyARN, Wrapped: k.Wrapped, Mount: k.Mount, Audience: k.Audience}
}

// key returns the data key with that id, or nil. e may be nil.
func (e *kmsEntry) key(id string) *dataKey {
	if e == nil {
		return nil
	}
	for i := range e.Keys {
		if e.Keys[i].ID == id {
			return &e.Keys[i]
		}
	}
	return nil
}

// sealing returns the data key to seal with at now: the newest that has settled
// of those for the present key and audience, else the oldest of them.
func (e *kmsEntry) sealing(now time.Time) *dataKey {
	var oldest *dataKey
	for i := range e.Keys {
		k := &e.Keys[i]
		if k.KeyARN != e.KeyARN || k.Mount != e.Mount || k.Audience != e.Audience {
			continue
		}
		if now.Sub(k.CreatedAt) >= dataKeySettles {
			return k
		}
		oldest = k
	}
	return oldest
}

// superseded returns the ids of the data keys that seal nothing any more, from at on: all
// but the newest, once that has settled and the requests that took an older one are over.
func (e *kmsEntry) superseded(at time.Time) []string {
	if len(e.Keys) == 0 || !e.Keys[0].CreatedAt.Add(dataKeySettles+dataKeyDrains).Before(at) {
		return nil
	}
	ids := make([]string, 0, len(e.Keys)-1)
	for i := range e.Keys[1:] {
		ids = append(ids, e.Keys[1+i].ID)
	}
	return ids
}

// with returns a copy of e with another data key, the newest.
func (e *kmsEntry) with(k dataKey) *kmsEntry {
	next := *e
	next.Keys = append([]dataKey{k}, e.Keys...)
	next.KeyARN, next.Mount = k.KeyARN, k.Mount
	return &next
}

// kmsEntry returns the mount's entry, nil if KMS is not configured.
func (b *mcpBackend) kmsEntry(ctx context.Context, s logical.Storage) (*kmsEntry, error) {
	return b.kmsEntries.get(ctx, s, kmsKey)
}

// requireKMS is kmsEntry for operations that need KMS.
func (b *mcpBackend) requireKMS(ctx context.Context, s logical.Storage) (*kmsEntry, error) {
	e, err := b.kmsEntry(ctx, s)
	if err == nil && e == nil {
		err = refused(check.ErrNoKMS)
	}
	return e, err
}

// putKMS writes the entry, or removes it if next is nil, and announces it. The caller holds
// its lock.
func (b *mcpBackend) putKMS(ctx context.Context, s logical.Storage, next *kmsEntry) error {
	events := []feed.Event{{Type: feed.Config, Operation: feed.Update, Name: "data-keys"}}
	return b.feed.Around(ctx, s, events, func() error {
		if next == nil {
			return b.kmsEntries.delete(ctx, s, kmsKey)
		}
		return b.kmsEntries.put(ctx, s, kmsKey, next)
	})
}

// kmsClients keeps the client for the settings that were used last.
type kmsClients struct {
	mu     sync.Mutex
	config kms.Config
	client *kms.Client
}

// get returns a client for the settings. The error is the caller's mistake.
func (c *kmsClients) get(ctx context.Context, settings *kmsSettings) (*kms.Client, error) {
	wanted := settings.Client()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.client != nil && c.config == wanted {
		return c.client, nil
	}
	client, err := kms.New(ctx, wanted)
	if err != nil {
		return nil, userErrorf("%s", err)
	}
	c.config, c.client = wanted, client
	return client, nil
}

// askingKMS returns the context for all that one request asks of KMS.
func askingKMS(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, kms.Timeout)
}

// kmsFailure is the answer to a request that needed KMS: 400 if KMS refused, which lasts until
// somebody changes something, and 502 if KMS did not answer. Other errors stay as they are.
func kmsFailure(err error) error {
	var failure *kms.Error
	switch {
	case !errors.As(err, &failure):
		return err
	case failure.Refused:
		return userErrorf("%s", err)
	}
	return logical.CodedError(http.StatusBadGateway, err.Error())
}

// newDataKey asks KMS for a data key for the mount and the settings' audience.
// Nothing of it is stored yet. No lock may be held.
func (b *mcpBackend) newDataKey(ctx context.Context, client *kms.Client, settings *kmsSettings, mount string) (*dataKey, *kms.DataKey, error) {
	made, err := client.GenerateDataKey(ctx, settings.KeyID, kms.DataKeyContext(mount, settings.Audience))
	if err != nil {
		return nil, nil, err
	}
	id, err := token.NewKeyID(b.opts.Random)
	if err != nil {
		return nil, nil, err
	}
	return &dataKey{
		ID: id, KeyARN: made.KeyARN, Wrapped: made.Wrapped, Mount: mount, Audience: settings.Audience, CreatedAt: b.now(),
	}, made, nil
}

// dropDataKeys removes data keys. The caller knows that no live token is sealed under them.
func (b *mcpBackend) dropDataKeys(ctx context.Context, s logical.Storage, ids []string) error {
	defer b.kmsEntries.lock(kmsKey)()
	held, err := b.kmsEntries.getLocked(ctx, s, kmsKey)
	if err != nil || held == nil {
		return err
	}
	next := *held
	next.Keys = slices.DeleteFunc(slices.Clone(held.Keys), func(k dataKey) bool { return slices.Contains(ids, k.ID) })
	if len(next.Keys) == len(held.Keys) {
		return nil
	}
	if err := b.putKMS(ctx, s, &next); err != nil {
		return err
	}
	b.keyring.Keep(func(id string) bool { return next.key(id) != nil })
	return nil
}

func (b *mcpBackend) pathDataKeys() []*framework.Path {
	return build(path{
		pattern: "gateway/data-keys",
		about:   "gateway-data-keys",
		ops: operations{
			logical.ReadOperation: {
				do: b.gatewayDataKeys, runs: onActive,
				answers: merge(feedFields(), fields{
					"data_keys": {Type: framework.TypeMap, Description: "The data keys by id: key_arn, wrapped (base64), mount, audience and created_at of each.", Required: true},
					"mount":     {Type: framework.TypeString, Description: "The mount's accessor. A data key of another mount must not be used.", Required: true},
				}),
			},
		},
		synopsis: "Read the data keys of sealed tokens, as AWS KMS has wrapped them.",
		help: `
For gateways alone. The data keys are worth nothing without KMS, which unwraps them
only for identities that its key's policy allows, under the encryption context
mcp-mount=MOUNT,mcp-audience=AUDIENCE. If KMS is not configured there are none.`,
	})
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
