package backend

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/kms"
)

func kmsFields() fields {
	return fields{
		"key_id": {
			Type:        framework.TypeString,
			Description: "The KMS key: its id, its ARN or alias/NAME. A symmetric key for encryption.",
		},
		"region": {
			Type:        framework.TypeString,
			Description: "The key's AWS region. Default: the one in key_id if that is an ARN, else the AWS SDK's.",
		},
		"endpoint": {
			Type:        framework.TypeString,
			Description: "URL of a private KMS endpoint. Default: AWS's public one.",
		},
		"audience": {
			Type:        framework.TypeString,
			Description: "The audience of sealed tokens, such as the gateway's canonical URL. Only gateways that are configured with the same audience open them. Default: the mount's accessor.",
		},
	}
}

func kmsCredentialFields() fields {
	secret := &framework.DisplayAttributes{Sensitive: true}
	return fields{
		"access_key": {
			Type:        framework.TypeString,
			Description: "AWS access key id; write it together with secret_key. Default: the AWS SDK's chain (environment, shared files, the machine's role). Write both empty to return to it.",
		},
		"secret_key": {
			Type: framework.TypeString, DisplayAttrs: secret,
			Description: "AWS secret access key. It is never read back.",
		},
		"session_token": {
			Type: framework.TypeString, DisplayAttrs: secret,
			Description: "Session token of temporary credentials. It is never read back.",
		},
	}
}

func kmsResponseFields() fields {
	return merge(kmsFields(), fields{
		"key_arn":          {Type: framework.TypeString, Description: "The ARN of the key in use: the key that key_id named when config/kms or config/kms/rotate was last written."},
		"credentials":      {Type: framework.TypeString, Description: "configured, or default chain."},
		"mount":            {Type: framework.TypeString, Description: "The mount's accessor: mcp-mount in every encryption context."},
		"current_data_key": {Type: framework.TypeString, Description: "Id of the data key that seals now."},
		"data_keys":        {Type: framework.TypeStringSlice, Description: "Ids of all data keys, the newest first. Each opens the tokens that it has sealed."},
	})
}

func (b *mcpBackend) pathConfigKMS() []*framework.Path {
	written := merge(kmsFields(), kmsCredentialFields())
	return build(
		path{
			pattern: "config/kms",
			fields: merge(written, fields{
				"force": {
					Type:        framework.TypeBool,
					Description: "Delete even if sealed tokens live. They end at once.",
					Query:       true,
				},
			}),
			about: "kms-configuration",
			ops: operations{
				logical.ReadOperation: {
					do: b.readKMS, summary: "Read how the mount uses AWS KMS, without credentials.",
					takes: noFields, answers: kmsResponseFields(),
				},
				logical.UpdateOperation: {
					do: b.writeKMS, summary: "Configure AWS KMS, and check the key by using it.", verb: "configure", about: "kms",
					takes: slices.Collect(maps.Keys(written)),
				},
				logical.DeleteOperation: {do: b.deleteKMS, summary: "Stop using AWS KMS, and forget the data keys."},
			},
			synopsis: "Configure AWS KMS, for sealed tokens and for tokens that come encrypted.",
			help: `
A write asks KMS to make a data key and to unwrap it again, so the answer says at once
if a permission is missing (kms:GenerateDataKey, kms:Decrypt), the region is wrong or the
key is disabled.
Fields that a write does not name keep their value. access_key and secret_key are
written together; neither they nor session_token are ever read back.

Another key or audience is for tokens that are sealed from then on. Those sealed
before still open, as long as KMS unwraps their data key.

A delete is refused while sealed tokens live, unless force=true ends them.`,
		},
		path{
			pattern: "config/kms/rotate",
			ops: operations{
				logical.UpdateOperation: {do: b.rotateKMS, verb: "rotate", about: "kms-data-key"},
			},
			synopsis: "Make a new data key.",
			help: `
The new data key is used after five seconds, when every gateway knows it. Tokens that
were sealed under an older one still open; tidy removes a data key once no live token
is sealed under it. If key_id is an alias, it is looked up again.`,
		},
	)
}

func (b *mcpBackend) readKMS(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	e, err := b.kmsEntry(ctx, req.Storage)
	if err != nil || e == nil {
		return nil, err
	}
	ids := make([]string, 0, len(e.Keys))
	for i := range e.Keys {
		ids = append(ids, e.Keys[i].ID)
	}
	from := "default chain"
	if e.AccessKey != "" {
		from = "configured"
	}
	return &logical.Response{Data: nullUnset(map[string]any{
		"key_id":           e.KeyID,
		"key_arn":          e.KeyARN,
		"region":           e.Region,
		"endpoint":         e.Endpoint,
		"audience":         e.Audience,
		"credentials":      from,
		"mount":            e.Mount,
		"current_data_key": e.sealing(b.now()).ID,
		"data_keys":        ids,
	})}, nil
}

// writeKMS first asks KMS and then takes the lock. It does not overwrite another write that
// came in between.
func (b *mcpBackend) writeKMS(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	held, err := b.kmsEntry(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	next := &kmsEntry{}
	if held != nil {
		*next = *held
	}
	mount := cmp.Or(req.MountAccessor, next.Mount)
	if err := next.apply(d, mount); err != nil {
		return nil, err
	}
	key, made, err := b.checkedDataKey(ctx, &next.kmsSettings, mount)
	if err != nil {
		return nil, kmsFailure(err)
	}
	defer clear(made.Plaintext)
	if held == nil || held.KeyARN != key.KeyARN || held.Mount != key.Mount || held.Audience != key.Audience {
		return nil, b.addDataKey(ctx, req.Storage, held, next, key, made)
	}
	if held.kmsSettings == next.kmsSettings {
		return nil, nil // nothing has changed for gateways
	}
	return nil, b.replaceKMS(ctx, req.Storage, held, next) // the new data key was only a check
}

// apply sets the fields that the request names.
func (s *kmsSettings) apply(d *framework.FieldData, mount string) error {
	for field, target := range map[string]*string{
		"key_id": &s.KeyID, "region": &s.Region, "endpoint": &s.Endpoint, "audience": &s.Audience,
	} {
		if v, ok := d.GetOk(field); ok {
			*target = strings.TrimSpace(v.(string))
		}
	}
	access, withAccess := d.GetOk("access_key")
	secret, withSecret := d.GetOk("secret_key")
	session, withSession := d.GetOk("session_token")
	if withAccess != withSecret || withSession && !withAccess {
		return userErrorf("fields access_key, secret_key and session_token: write them together, since each belongs to the others")
	}
	if withAccess {
		s.AccessKey, s.SecretKey, s.SessionToken = access.(string), secret.(string), ""
	}
	if withSession {
		s.SessionToken = session.(string)
	}
	if s.Audience == "" {
		s.Audience = mount
	}
	if err := refusedAll(s.Check()); err != nil {
		return err
	}
	if mount == "" {
		return errors.New("this server does not tell the plugin its mount's accessor, to which everything sealed is bound")
	}
	return nil
}

// checkedDataKey asks KMS to make a data key and to unwrap it again: the engine needs no
// other operation of KMS.
func (b *mcpBackend) checkedDataKey(ctx context.Context, settings *kmsSettings, mount string) (*dataKey, *kms.DataKey, error) {
	ctx, cancel := askingKMS(ctx)
	defer cancel()
	client, err := b.kmsClients.get(ctx, settings)
	if err != nil {
		return nil, nil, err
	}
	key, made, err := b.newDataKey(ctx, client, settings, mount)
	if err != nil {
		return nil, nil, err
	}
	unwrapped, err := client.Decrypt(ctx, key.KeyARN, key.Wrapped, kms.DataKeyContext(key.Mount, key.Audience))
	clear(unwrapped)
	return key, made, err
}

// addDataKey commits next with another data key.
func (b *mcpBackend) addDataKey(ctx context.Context, s logical.Storage, held, next *kmsEntry, key *dataKey, made *kms.DataKey) error {
	if len(next.Keys) >= maxDataKeys {
		return userErrorf("the mount has %d data keys, which is the most it can have: run tidy, which removes those that nothing is sealed under any more, or rotate the clients whose tokens are sealed under the oldest", len(next.Keys))
	}
	if err := b.replaceKMS(ctx, s, held, next.with(*key)); err != nil {
		return err
	}
	_, err := b.keyring.Put(key.wrapped(), made.Plaintext)
	return err
}

// replaceKMS commits next, unless held, from which it was made, has changed meanwhile.
func (b *mcpBackend) replaceKMS(ctx context.Context, s logical.Storage, held, next *kmsEntry) error {
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.kmsEntries.lock(kmsKey)()
	now, err := b.kmsEntries.getLocked(ctx, s, kmsKey)
	if err != nil {
		return err
	}
	if !now.same(held) {
		return userErrorf("somebody else has written config/kms meanwhile: read it, and try again")
	}
	return b.putKMS(ctx, s, next)
}

// same reports whether nothing was written between the two readings.
func (e *kmsEntry) same(other *kmsEntry) bool {
	if e == nil || other == nil {
		return e == other
	}
	return e.kmsSettings == other.kmsSettings && e.KeyARN == other.KeyARN && e.Mount == other.Mount && len(e.Keys) == len(other.Keys) && e.Keys[0].ID == other.Keys[0].ID
}

func (b *mcpBackend) rotateKMS(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	held, err := b.requireKMS(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	client, err := b.kmsClients.get(ctx, &held.kmsSettings)
	if err != nil {
		return nil, err
	}
	key, made, err := b.newDataKey(ctx, client, &held.kmsSettings, cmp.Or(req.MountAccessor, held.Mount))
	if err != nil {
		return nil, kmsFailure(err)
	}
	defer clear(made.Plaintext)
	return nil, b.addDataKey(ctx, req.Storage, held, held, key, made)
}

// refuseSealed refuses to forget the data keys while sealed tokens live.
func (b *mcpBackend) refuseSealed(ctx context.Context, s logical.Storage) error {
	name, err := b.sealedClient(ctx, s)
	if err != nil || name == "" {
		return err
	}
	return userErrorf("sealed tokens live, such as one of the client %q, and would end at once: rotate those clients with seal=none first, or pass force=true", name)
}

func (b *mcpBackend) deleteKMS(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	// Reading every client may take long, but no other request waits for it. The count
	// shows if tokens were sealed meanwhile.
	b.sealing.Lock() // every writer of a sealed token is counted, and has committed
	forced, seen := d.Get("force").(bool), b.sealedSince.Load()
	b.sealing.Unlock()
	if !forced {
		if err := b.refuseSealed(ctx, req.Storage); err != nil {
			return nil, err
		}
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	b.sealing.Lock()
	defer b.sealing.Unlock()
	if !forced && b.sealedSince.Load() != seen {
		return nil, userErrorf("a token was sealed while the others were looked at: set seal=none in config and for those clients first, or pass force=true")
	}
	defer b.kmsEntries.lock(kmsKey)()
	held, err := b.kmsEntries.getLocked(ctx, req.Storage, kmsKey)
	if err != nil || held == nil {
		return nil, err
	}
	if err := b.putKMS(ctx, req.Storage, nil); err != nil {
		return nil, err
	}
	b.keyring.Keep(func(string) bool { return false })
	return nil, nil
}
