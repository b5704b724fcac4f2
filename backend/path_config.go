package backend

import (
	"cmp"
	"context"
	"reflect"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/feed"
)

// config returns the mount's configuration, the defaults where none was written.
func (b *mcpBackend) config(ctx context.Context, s logical.Storage) (*check.Config, error) {
	c, err := b.configs.get(ctx, s, configKey)
	if err == nil && c == nil {
		c = new(check.DefaultConfig())
	}
	return c, err
}

func configFields() fields {
	return fields{
		"default_ttl": {
			Type:        framework.TypeDurationSecond,
			Description: "How long a client's own token lives if the client has no token_ttl. 0, the default: it does not expire, and leased tokens (creds/) take the mount's default lease TTL.",
		},
		"max_ttl": {
			Type:        framework.TypeDurationSecond,
			Description: "The longest life of any token, whatever a client or a request asks for. 0, the default: no limit, except the mount's maximum lease TTL for leased tokens.",
		},
		"grace_period": {
			Type:        framework.TypeDurationSecond,
			Description: "How long a token stays valid after rotate-client has replaced it, if the request does not say. Default 1h; 0 ends it at once.",
		},
		"min_custom_token_length": {
			Type:        framework.TypeInt,
			Description: "The minimum length of an access_token, in characters. Default and lowest value: 12.",
		},
		"max_wait": {
			Type:        framework.TypeDurationSecond,
			Description: "The longest time that a read of changes is held. Default 10s, at most 30s. Vault cannot step down, seal or reload the plugin while a request is held.",
		},
		"max_watchers": {
			Type:        framework.TypeInt,
			Description: "How many reads of changes are held at the same time; further ones are answered at once. Default 256; 0 holds none.",
		},
		"seal": {
			Type:        framework.TypeString,
			Description: "How tokens are handed out to clients that set no seal: none, the default, which is as they are, or kms, which is sealed under AWS KMS (config/kms).",
		},
		"sign_in_logins": {
			Type:        framework.TypeKVPairs,
			Description: "The logins of sign-ins: NAME=ACCESSOR, the accessor being that of an auth mount (vault auth list). The alias of an entity at that mount says who signs in. A write gives all of them.",
		},
		"usage_days": {
			Type:        framework.TypeInt,
			Description: "For how many days the engine keeps when clients, tokens and tools were last used, as gateways report it. Default 90, at most 400; 0 keeps nothing.",
		},
	}
}

func (b *mcpBackend) pathConfig() []*framework.Path {
	return build(path{
		pattern: "config",
		fields:  configFields(),
		ops: operations{
			logical.ReadOperation:   {do: b.readConfig, summary: "Read the mount's configuration.", about: "configuration", answers: configFields()},
			logical.UpdateOperation: {do: b.writeConfig, summary: "Configure the mount.", verb: "configure"},
		},
		synopsis: "Configure token lifetimes, rotation and the change feed.",
		help: `
Fields that a write does not name keep their value. Every field has a default
that suits a first mount, and a read shows it until the field is written.

Lifetimes apply to tokens issued from then on: tokens that exist keep theirs. So do
logins: a token of a sign-in, which lives for 15 minutes at most, stays as it is when its
login is taken away.`,
	})
}

func (b *mcpBackend) readConfig(ctx context.Context, req *logical.Request, _ *framework.FieldData) (*logical.Response, error) {
	c, err := b.config(ctx, req.Storage)
	if err != nil {
		return nil, err
	}
	return &logical.Response{Data: map[string]any{
		"default_ttl":             seconds(c.DefaultTTL),
		"max_ttl":                 seconds(c.MaxTTL),
		"grace_period":            seconds(c.GracePeriod),
		"min_custom_token_length": c.MinCustomTokenLength,
		"max_wait":                seconds(c.MaxWait),
		"max_watchers":            c.MaxWatchers,
		"seal":                    cmp.Or(c.Seal, check.SealNone),
		"sign_in_logins":          pairsOrNull(c.SignInLogins),
		"usage_days":              c.KeptDays(),
	}}, nil
}

func (b *mcpBackend) writeConfig(ctx context.Context, req *logical.Request, d *framework.FieldData) (*logical.Response, error) {
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.configs.lock(configKey)()
	held, err := b.configs.getLocked(ctx, req.Storage, configKey)
	if err != nil {
		return nil, err
	}
	next := check.DefaultConfig()
	if held != nil {
		next = *held
	}
	setDuration(d, "default_ttl", &next.DefaultTTL)
	setDuration(d, "max_ttl", &next.MaxTTL)
	setDuration(d, "grace_period", &next.GracePeriod)
	setDuration(d, "max_wait", &next.MaxWait)
	set(d, "min_custom_token_length", &next.MinCustomTokenLength)
	set(d, "max_watchers", &next.MaxWatchers)
	set(d, "seal", &next.Seal)
	set(d, "sign_in_logins", &next.SignInLogins)
	if days, given := d.GetOk("usage_days"); given {
		next.UsageDays = new(days.(int))
	}
	if len(next.SignInLogins) == 0 {
		next.SignInLogins = nil // the same as unset
	}
	if err := refusedAll(next.Check()); err != nil {
		return nil, err
	}
	if next.Seal == check.SealKMS {
		if _, err := b.requireKMS(ctx, req.Storage); err != nil {
			return nil, err
		}
	}
	if held != nil && reflect.DeepEqual(held, &next) {
		return nil, nil // nothing has changed for gateways
	}
	return nil, b.feed.Around(ctx, req.Storage, []feed.Event{{Type: feed.Config, Operation: feed.Update}}, func() error {
		return b.configs.put(ctx, req.Storage, configKey, &next)
	})
}
