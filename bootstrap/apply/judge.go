package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"vault-plugin-secrets-mcp/backend/check"
	"vault-plugin-secrets-mcp/backend/token"
)

// mount has the engine's state on which its answer to the files depends, as it will be once
// they are applied.
type mount struct {
	config check.Config
	kms    bool // config/kms is there
}

// judgeConfig computes the new config, in which fields that no file names stay as they are,
// and checks whether the engine accepts it.
func (s *session) judgeConfig(have map[string]any, kms bool) {
	c := check.DefaultConfig()
	for _, values := range []map[string]any{have, s.desired.config} {
		for field, value := range values {
			n := number(value)
			switch field {
			case "default_ttl":
				c.DefaultTTL = time.Duration(n) * time.Second
			case "max_ttl":
				c.MaxTTL = time.Duration(n) * time.Second
			case "grace_period":
				c.GracePeriod = time.Duration(n) * time.Second
			case "max_wait":
				c.MaxWait = time.Duration(n) * time.Second
			case "min_custom_token_length":
				c.MinCustomTokenLength = int(n)
			case "max_watchers":
				c.MaxWatchers = int(n)
			case "usage_days":
				c.UsageDays = new(int(n))
			case "seal":
				c.Seal, _ = value.(string)
			}
		}
	}
	s.mount = mount{config: c, kms: kms}
	if len(s.desired.config) == 0 {
		return
	}
	at := s.desired.configAt
	s.desired.refuse(at, "config", c.Check())
	if c.Seal == check.SealKMS && !kms {
		s.desired.mistake(at.of("seal"), fmt.Errorf("config: field seal: %w", check.ErrNoKMS))
	}
}

// number reads a number of a file or of Vault's answer.
func number(value any) int64 {
	switch n := value.(type) {
	case int64:
		return n
	case json.Number:
		whole, _ := n.Int64()
		return whole
	}
	return 0
}

// judgeToken records why the engine would refuse the token of a file. It cannot know whether
// the token was revoked, which the engine does not show. It reports whether the token is the
// client's current one.
func (s *session) judgeToken(ctx context.Context, c client, have map[string]any) (current bool, err error) {
	if !s.judgeForm(c, have == nil) || !s.mounted {
		return false, nil
	}
	answer, err := s.lookup(ctx, c)
	tooShort := token.CheckCustom(c.accessToken, s.mount.config.MinCustomTokenLength)
	present := err == nil && have != nil && answer["active"] == true && answer["accessor"] == have["accessor"]
	switch {
	case err != nil:
		return false, err
	case tooShort != nil && !present:
		s.refuseField(c, fieldToken, tooShort)
	case answer["active"] != true:
	case have == nil || answer["client_id"] != have["client_id"]:
		s.refuseField(c, fieldToken, check.ErrTokenInUse)
	case answer["accessor"] != have["accessor"]:
		s.refuseField(c, fieldToken, check.ErrTokenReplaced)
	default:
		return true, nil
	}
	return false, nil
}

func (s *session) refuseField(c client, field string, err error) {
	s.desired.mistake(c.at.of(field), fmt.Errorf("client %q: field %s: %w", c.name, field, err))
}

// judgeForm checks a client by itself, without a question to Vault. It reports whether
// there is a token to look up.
func (s *session) judgeForm(c client, created bool) bool {
	switch { // where config seals, that is told of config
	case s.mount.kms:
	case c.ciphertext != "":
		s.refuseField(c, fieldCiphertext, check.ErrNoKMS)
	case c.fields["seal"] == check.SealKMS && created:
		s.refuseField(c, "seal", check.ErrNoKMS)
	}
	if c.accessToken == "" {
		return false
	}
	least := token.MinCustomLength // a raised minimum is for the tokens to come: the present one stays
	if created {
		least = s.mount.config.MinCustomTokenLength
	}
	if err := token.CheckCustom(c.accessToken, least); err != nil {
		s.refuseField(c, fieldToken, err)
		return false
	}
	return true
}

var errNoAnswer = errors.New("the answer is empty")

// lookup asks for the token that a file brings.
func (s *session) lookup(ctx context.Context, c client) (map[string]any, error) {
	answer, err := s.write(ctx, "lookup", map[string]any{"token": c.accessToken})
	if err == nil && answer == nil {
		err = errNoAnswer
	}
	if err != nil {
		return nil, fmt.Errorf("cannot look up the token of client %q: %w", c.name, err)
	}
	return answer.Data, nil
}

// warnOfNames adds to the steps of a dry run warnings about names in a client that do not
// exist. The engine accepts them; in a real run its own answer has the warning.
func (s *session) warnOfNames(ctx context.Context, c client, p *step) error {
	settings := c.settings()
	var roles []string
	if settings.Role != "" {
		roles = []string{settings.Role}
	}
	return errors.Join(
		s.warnOfMissing(ctx, p, kindServer, settings.AllowedServers, check.NoSuchServer),
		s.warnOfMissing(ctx, p, kindClientRole, roles, check.NoSuchRole),
		s.warnOfMissing(ctx, p, kindPolicy, settings.Policies, check.NoSuchPolicy))
}

// warnOfMissing warns of names that exist neither in Vault nor in a file.
func (s *session) warnOfMissing(ctx context.Context, p *step, kind string, names []string, warning func(string) string) error {
	for _, name := range names {
		if name == check.AnyServer || s.desired.names(kind, name) {
			continue
		}
		have, err := s.read(ctx, folders[kind]+name)
		if err != nil {
			return err
		}
		if have == nil {
			p.warnings = append(p.warnings, warning(name))
		}
	}
	return nil
}

// names reports whether a file names the thing.
func (d *desired) names(kind, name string) bool {
	return d.wanted()[kind+" "+name]
}

// wanted are all things that the files name, by kind and name.
func (d *desired) wanted() map[string]bool {
	wanted := map[string]bool{}
	for _, x := range d.servers {
		wanted[kindServer+" "+x.name] = true
	}
	for _, x := range d.policies {
		wanted[kindPolicy+" "+x.name] = true
	}
	for _, x := range d.roles {
		wanted[kindClientRole+" "+x.name] = true
	}
	for _, x := range d.clients {
		wanted[kindClient+" "+x.name] = true
	}
	return wanted
}
