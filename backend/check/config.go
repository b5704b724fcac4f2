package check

import (
	"strings"
	"time"

	"vault-plugin-secrets-mcp/backend/kms"
	"vault-plugin-secrets-mcp/backend/token"
)

// longestWait bounds max_wait. Vault cannot step down, seal or reload a plugin
// while a request is held, and everybody else waits behind it.
const longestWait = 30 * time.Second

// maxAudienceLength bounds audience, in characters.
const maxAudienceLength = 512

// Config is the mount's configuration.
type Config struct {
	DefaultTTL           time.Duration `json:"default_ttl"`
	MaxTTL               time.Duration `json:"max_ttl"`
	GracePeriod          time.Duration `json:"grace_period"`
	MinCustomTokenLength int           `json:"min_custom_token_length"`
	MaxWait              time.Duration `json:"max_wait"`
	MaxWatchers          int           `json:"max_watchers"`
	Seal                 string        `json:"seal,omitempty"` // "": none

	// SignInLogins are the logins at which people and machines sign in: names to accessors of
	// auth mounts.
	SignInLogins map[string]string `json:"sign_in_logins,omitempty"`

	// UsageDays is the number of days for which usage is kept; 0: none is kept. Nil, as an
	// earlier version has stored it: the default.
	UsageDays *int `json:"usage_days,omitempty"`
}

// KeptDays returns usage_days, the default where it is not set.
func (c *Config) KeptDays() int {
	if c.UsageDays == nil {
		return defaultUsageDays
	}
	return *c.UsageDays
}

// DefaultConfig is the configuration until somebody writes config.
func DefaultConfig() Config {
	return Config{
		GracePeriod:          time.Hour,
		MinCustomTokenLength: token.MinCustomLength,
		MaxWait:              10 * time.Second,
		MaxWatchers:          256,
	}
}

// Check refuses values that no mount can have.
func (c *Config) Check() Problems {
	var p Problems
	if c.MaxTTL > 0 && c.DefaultTTL > c.MaxTTL {
		p.add("default_ttl", "field default_ttl: %s is above max_ttl (%s)", c.DefaultTTL, c.MaxTTL)
	}
	if c.MinCustomTokenLength < token.MinCustomLength || c.MinCustomTokenLength > token.MaxLength {
		p.add("min_custom_token_length", "field min_custom_token_length: %d is not between %d and %d", c.MinCustomTokenLength, token.MinCustomLength, token.MaxLength)
	}
	if c.MaxWait > longestWait {
		p.add("max_wait", "field max_wait: %s is above %s: Vault cannot step down, seal or reload the plugin while a request is held", c.MaxWait, longestWait)
	}
	if c.MaxWatchers < 0 {
		p.add("max_watchers", "field max_watchers: %d is negative: use 0 to hold no request", c.MaxWatchers)
	}
	checkSeal(&p, c.Seal)
	checkLogins(&p, c.SignInLogins)
	checkUsageDays(&p, c.UsageDays)
	return p
}

// KMS has the mount's settings for AWS KMS.
type KMS struct {
	KeyID        string `json:"key_id"`
	Region       string `json:"region,omitempty"`
	Endpoint     string `json:"endpoint,omitempty"`
	AccessKey    string `json:"access_key,omitempty"`
	SecretKey    string `json:"secret_key,omitempty"`
	SessionToken string `json:"session_token,omitempty"`
	Audience     string `json:"audience"`
}

// Client is how KMS is asked.
func (k *KMS) Client() kms.Config {
	return kms.Config{
		Region: k.Region, Endpoint: k.Endpoint,
		AccessKeyID: k.AccessKey, SecretAccessKey: k.SecretKey, SessionToken: k.SessionToken,
	}
}

// Check refuses settings with which KMS cannot be asked. The engine chooses the
// audience if it is empty.
func (k *KMS) Check() Problems {
	var p Problems
	if k.KeyID == "" {
		p.add("key_id", "field key_id is missing: give the id, the ARN or the alias (alias/NAME) of a KMS key")
	}
	if len(k.Audience) > maxAudienceLength || strings.ContainsFunc(k.Audience, func(r rune) bool { return r <= ' ' || r > '~' }) {
		p.add("audience", "field audience: at most %d characters of ASCII, without spaces", maxAudienceLength)
	}
	settings := k.Client()
	if err := settings.Check(); err != nil {
		p.add("", "%s", err)
	}
	return p
}
