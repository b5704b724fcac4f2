package backend

import (
	"cmp"
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/feed"
	"vault-plugin-secrets-mcp/backend/token"
)

// config is the mount's configuration.
type config struct {
	DefaultTTL           time.Duration `json:"default_ttl"`
	MaxTTL               time.Duration `json:"max_ttl"`
	GracePeriod          time.Duration `json:"grace_period"`
	MinCustomTokenLength int           `json:"min_custom_token_length"`
	MaxWait              time.Duration `json:"max_wait"`
	MaxWatchers          int           `json:"max_watchers"`
	Seal                 string        `json:"seal,omitempty"` // "": none
}

// defaultConfig is what holds until somebody writes config.
func defaultConfig() *config {
	return &config{
		GracePeriod:          time.Hour,
		MinCustomTokenLength: token.MinCustomLength,
		MaxWait:              10 * time.Second,
		MaxWatchers:          256,
	}
}

// longestWait bounds max_wait. Vault cannot step down, seal or reload a plugin
// while a request is held, and everybody else waits behind it.
const longestWait = 30 * time.Second

// config returns the mount's configuration, the defaults where none was written.
func (b *mcpBackend) config(ctx context.Context, s logical.Storage) (*config, error) {
	c, err := b.configs.get(ctx, s, configKey)
	if err == nil && c == nil {
		c = defaultConfig()
	}
	return c, err
}

func configFields() map[string]*framework.FieldSchema {
	return map[string]*framework.FieldSchema{
		"default_ttl": {
			Type:        framework.TypeDurationSecond,
			Description: "How long a client's own token lives where the client sets no token_ttl. 0, the default: it does not expire. Leased tokens (creds/) take the mount's default lease TTL where this is 0.",
		},
		"max_ttl": {
			Type:        framework.TypeDurationSecond,
			Description: "The longest life of any token, whatever a client or a request asks for. 0, the default: no bound but, for leased tokens, the mount's maximum lease TTL.",
		},
		"grace_period": {
			Type:        framework.TypeDurationSecond,
			Description: "How long a token that rotate-client replaces lives on where the request does not say. Default 1h; 0 ends it at once.",
		},
		"min_custom_token_length": {
			Type:        framework.TypeInt,
			Description: "The least length of an access_token that a client brings, in characters. Default and least value: 12.",
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
			Description: "How the tokens of clients that set no seal are handed out: none, the default, or kms, sealed under AWS KMS (config/kms).",
		},
	}
}

func (b *mcpBackend) pathConfig() []*framework.Path {
	return []*framework.Path{describe(&framework.Path{
		Pattern: "config",
		Fields:  configFields(),
		Operations: map[logical.Operation]framework.OperationHandler{
			logical.ReadOperation: &framework.PathOperation{
				Callback:     b.readConfig,
				Summary:      "Read the mount's configuration.",
				DisplayAttrs: &framework.DisplayAttributes{OperationVerb: "read", OperationSuffix: "configuration"},
				Responses:    responses(configFields()),
			},
			logical.UpdateOperation: &framework.PathOperation{
				Callback:                    b.writeConfig,
				Summary:                     "Configure the mount.",
				DisplayAttrs:                &framework.DisplayAttributes{OperationVerb: "configure"},
				Responses:                   noContent(),
				ForwardPerformanceStandby:   true,
				ForwardPerformanceSecondary: true,
			},
		},
		HelpSynopsis: "Configure token lifetimes, rotation and the change feed.",
		HelpDescription: `
Fields that a write does not name keep their value. Every field has a default
that suits a first mount; a mount that was never configured reads as them.

Lifetimes apply to tokens issued from then on: tokens that exist keep theirs.`,
	})}
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
		"seal":                    cmp.Or(c.Seal, sealNone),
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
	next := defaultConfig()
	if held != nil {
		*next = *held
	}
	for field, target := range map[string]*time.Duration{
		"default_ttl": &next.DefaultTTL, "max_ttl": &next.MaxTTL, "grace_period": &next.GracePeriod, "max_wait": &next.MaxWait,
	} {
		setDuration(d, field, target)
	}
	for field, target := range map[string]*int{
		"min_custom_token_length": &next.MinCustomTokenLength, "max_watchers": &next.MaxWatchers,
	} {
		if v, ok := d.GetOk(field); ok {
			*target = v.(int)
		}
	}
	if v, ok := d.GetOk("seal"); ok {
		next.Seal = v.(string)
	}
	if err := next.check(); err != nil {
		return nil, err
	}
	if next.Seal == sealKMS {
		if _, err := b.requireKMS(ctx, req.Storage); err != nil {
			return nil, err
		}
	}
	return nil, b.feed.Around(ctx, req.Storage, []feed.Event{{Type: feed.Config, Operation: feed.Update}}, func() error {
		return b.configs.put(ctx, req.Storage, configKey, next)
	})
}

func (c *config) check() error {
	switch {
	case c.MaxTTL > 0 && c.DefaultTTL > c.MaxTTL:
		return userErrorf("field default_ttl: %s is above max_ttl (%s)", c.DefaultTTL, c.MaxTTL)
	case c.MinCustomTokenLength < token.MinCustomLength || c.MinCustomTokenLength > token.MaxLength:
		return userErrorf("field min_custom_token_length: %d is not between %d and %d", c.MinCustomTokenLength, token.MinCustomLength, token.MaxLength)
	case c.MaxWait > longestWait:
		return userErrorf("field max_wait: %s is above %s: Vault cannot step down, seal or reload the plugin while a request is held", c.MaxWait, longestWait)
	case c.MaxWatchers < 0:
		return userErrorf("field max_watchers: %d is negative: use 0 to hold no request", c.MaxWatchers)
	}
	return checkSeal(c.Seal)
}

// setDuration sets target from a field of seconds, if the request has it. The
// framework refuses negative durations.
func setDuration(d *framework.FieldData, field string, target *time.Duration) {
	if v, ok := d.GetOk(field); ok {
		*target = time.Duration(v.(int)) * time.Second
	}
}
