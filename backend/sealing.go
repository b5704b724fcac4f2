package backend

import (
	"cmp"
	"context"
	"encoding/base64"
	"strings"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/kms"
	"vault-plugin-secrets-mcp/backend/token"
)

// sealOf returns how a client's tokens are handed out.
func sealOf(c *clientSettings, conf *check.Config) string {
	return cmp.Or(c.Seal, conf.Seal, check.SealNone)
}

// sealWarnings warns if tokens of the client are not handed out as seal says.
func (b *mcpBackend) sealWarnings(ctx context.Context, s logical.Storage, c *clientEntry) ([]string, error) {
	conf, err := b.config(ctx, s)
	if err != nil {
		return nil, err
	}
	sealed := sealOf(&c.clientSettings, conf) == check.SealKMS
	var warnings []string
	if sealed {
		e, err := b.kmsEntry(ctx, s)
		if err != nil {
			return nil, err
		}
		if e == nil {
			warnings = append(warnings, "AWS KMS is not configured: until it is (config/kms), no token can be issued to the client")
		}
	}
	if t := c.current(); t != nil && sealed != (t.DataKey != "") {
		warnings = append(warnings, "seal is for tokens issued from now on: the present one stays as it is until rotate-client replaces it")
	}
	return warnings, nil
}

// seal seals the named client's token with the source's key.
func (b *mcpBackend) seal(m *minted, name string, src *tokenSource) error {
	switch {
	case !src.answered:
		return userErrorf("the client's tokens are sealed, and this write answers none: write rotate-client/%s instead, which answers the new token in its sealed form", name)
	case src.key == nil:
		return userErrorf("seal was changed meanwhile: try again")
	}
	sealed, err := src.key.Seal(b.opts.Random, m.secret)
	if err != nil {
		return userErrorf("field %s: %s", src.field, err)
	}
	m.sealed, m.DataKey = sealed, src.key.ID()
	return nil
}

// sealWith gets the key to seal with, and takes the lock that keeps its data key.
func (b *mcpBackend) sealWith(ctx context.Context, s logical.Storage, src *tokenSource) error {
	key, err := b.sealingKey(ctx, s)
	if err != nil {
		return err
	}
	b.sealing.RLock()
	// The data key may have been removed since.
	e, err := b.kmsEntry(ctx, s)
	if err == nil && e.key(key.ID()) == nil {
		err = userErrorf("config/kms was changed meanwhile: try again")
	}
	if err != nil {
		b.sealing.RUnlock()
		return err
	}
	b.sealedSince.Add(1)
	src.key, src.release = key, b.sealing.RUnlock
	return nil
}

// sealingKey returns the key that seals now. It asks KMS if KMS's last confirmation is too
// old.
func (b *mcpBackend) sealingKey(ctx context.Context, s logical.Storage) (*token.SealingKey, error) {
	e, err := b.requireKMS(ctx, s)
	if err != nil {
		return nil, err
	}
	key, err := b.unwrapped(ctx, e, e.sealing(b.now()))
	return key, kmsFailure(err)
}

// unwrapped returns a data key, unwrapped. The error is that of the keyring.
func (b *mcpBackend) unwrapped(ctx context.Context, e *kmsEntry, k *dataKey) (*token.SealingKey, error) {
	client, err := b.kmsClients.get(ctx, &e.kmsSettings)
	if err != nil {
		return nil, err
	}
	return b.keyring.Key(ctx, client, k.wrapped())
}

// decryptToken lets KMS decrypt a token that was encrypted elsewhere. The caller cannot choose
// the key and the encryption context: otherwise the engine would decrypt anything that its
// identity may.
func (b *mcpBackend) decryptToken(ctx context.Context, req *logical.Request, name, text string) (string, error) {
	e, err := b.requireKMS(ctx, req.Storage)
	if err != nil {
		return "", err
	}
	ciphertext, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(ciphertext) == 0 || len(ciphertext) > kms.MaxCiphertext {
		return "", userErrorf("field access_token_ciphertext: it is not the output of `aws kms encrypt --output text --query CiphertextBlob`: base64 of at most %d bytes", kms.MaxCiphertext)
	}
	client, err := b.kmsClients.get(ctx, &e.kmsSettings)
	if err != nil {
		return "", err
	}
	plaintext, err := client.Decrypt(ctx, e.KeyARN, ciphertext, kms.TokenContext(e.Mount, name))
	if kms.Refused(err) {
		return "", userErrorf("field access_token_ciphertext: encrypt it under the mount's key with the encryption context mcp-mount=%s,mcp-client=%s: %s", e.Mount, name, err)
	}
	return strings.TrimSpace(string(plaintext)), kmsFailure(err)
}

// unsealedToken is a token out of its seal, with the id of the data key that sealed it; "" if
// it came without a seal.
type unsealedToken struct {
	token   string
	dataKey string
}

// unseal opens a token if it is sealed. It returns nil for one that was never
// sealed here. The error is the keyring's if KMS does not unwrap the data key.
func (b *mcpBackend) unseal(ctx context.Context, s logical.Storage, secret string) (*unsealedToken, error) {
	if !token.IsSealed(secret) {
		return &unsealedToken{token: secret}, nil
	}
	id, err := token.SealedUnder(secret)
	if err != nil {
		return nil, nil //nolint:nilerr // a text that cannot be a token is not active
	}
	e, err := b.kmsEntry(ctx, s)
	if err != nil {
		return nil, err
	}
	k := e.key(id)
	if k == nil {
		return nil, nil
	}
	key, err := b.unwrapped(ctx, e, k)
	if err != nil {
		return nil, err
	}
	inner, err := key.Open(secret)
	if err != nil {
		return nil, nil //nolint:nilerr // a forgery
	}
	return &unsealedToken{token: inner, dataKey: id}, nil
}

// sealedClient returns the name of a client with a live sealed token, "" if no client has
// one.
func (b *mcpBackend) sealedClient(ctx context.Context, s logical.Storage) (string, error) {
	mount, err := b.mountEntry(ctx, s)
	if err != nil {
		return "", err
	}
	sealed := ""
	err = b.clients.each(ctx, s, func(name string, c *clientEntry) {
		for i := range c.Tokens {
			if t := &c.Tokens[i]; t.DataKey != "" && t.live(mount.Generation, b.now()) {
				sealed = name
			}
		}
	})
	if err != nil || sealed != "" {
		return sealed, err
	}
	return b.sealedLease(ctx, s)
}

// sealedLease is sealedClient for leased tokens, which no client entry lists.
func (b *mcpBackend) sealedLease(ctx context.Context, s logical.Storage) (string, error) {
	ids, err := s.List(ctx, leasePrefix)
	if err != nil {
		return "", err
	}
	for _, id := range ids {
		suffixes, err := s.List(ctx, leasePrefix+id)
		if err != nil {
			return "", err
		}
		for _, suffix := range suffixes {
			if name, err := b.sealedLeaseAt(ctx, s, leasePrefix+id+suffix); err != nil || name != "" {
				return name, err
			}
		}
	}
	return "", nil
}

func (b *mcpBackend) sealedLeaseAt(ctx context.Context, s logical.Storage, key string) (string, error) {
	var lease leaseEntry
	if ok, err := getJSON(ctx, s, key, &lease); err != nil || !ok {
		return "", err
	}
	p, err := b.pointers.read(ctx, s, lease.Hash)
	if err != nil || p == nil || p.DataKey == "" || p.expired(b.now()) {
		return "", err
	}
	needed, err := b.pointerNeeded(ctx, s, p, lease.Hash)
	if err != nil || !needed {
		return "", err
	}
	return p.Client, nil
}
