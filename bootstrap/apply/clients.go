package apply

import (
	"context"
	"fmt"
	"maps"

	"github.com/hashicorp/vault/api"
)

func (s *session) planClients(ctx context.Context) error {
	for _, c := range s.desired.clients {
		have, err := s.read(ctx, "clients/"+c.name)
		if err != nil {
			return err
		}
		p := step{kind: kindClient, name: c.name, is: verb(have), lines: differences(c.fields, have)}
		fresh := false
		if c.accessToken != "" && have != nil {
			current, err := s.isCurrent(ctx, c, have)
			if err != nil {
				return err
			}
			if fresh = !current; fresh {
				p.lines = append(p.lines, "~ access_token (it is never shown)")
			}
		}
		p.do = func(ctx context.Context) error {
			if have == nil {
				return s.createClient(ctx, c)
			}
			return s.changeClient(ctx, c, fresh)
		}
		s.add(p)
	}
	return nil
}

// isCurrent tells whether the token that a file brings is the client's current one.
func (s *session) isCurrent(ctx context.Context, c client, have map[string]any) (bool, error) {
	answer, err := s.vault.Logical().WriteWithContext(ctx, s.Mount+"/lookup", map[string]any{"token": c.accessToken})
	if err != nil {
		return false, fmt.Errorf("cannot look up the token of client %q: %w", c.name, err)
	}
	return answer != nil && answer.Data["active"] == true && answer.Data["accessor"] == have["accessor"], nil
}

func (s *session) createClient(ctx context.Context, c client) error {
	data := maps.Clone(c.fields)
	if data["allowed_tools"] == nil {
		delete(data, "allowed_tools") // unset is another thing than empty
	}
	if c.accessToken != "" {
		data["access_token"] = c.accessToken
	}
	if s.TokenDir != "" { // before a token is issued that could not be kept
		if err := makeDir(s.TokenDir); err != nil {
			return err
		}
	}
	secret, err := s.vault.Logical().WriteWithContext(ctx, s.Mount+"/clients/"+c.name, data)
	if err != nil {
		return err
	}
	return s.keepToken(c, secret)
}

// keepToken writes the token that was issued, for its owner alone.
func (s *session) keepToken(c client, secret *api.Secret) error {
	if c.accessToken != "" || secret == nil {
		return nil
	}
	if s.TokenDir == "" {
		fmt.Fprintf(s.Out, "    its token was not kept: get one with `vault write -f %s/rotate-client/%s`, or let Vault Agent read %s/creds/%s\n",
			s.Mount, c.name, s.Mount, c.name)
		return nil
	}
	token, _ := secret.Data["token"].(string)
	path, err := writeSecret(s.TokenDir, c.name, token)
	if err != nil {
		return fmt.Errorf("the client was created, but its token could not be kept (rotate-client issues another): %w", err)
	}
	fmt.Fprintf(s.Out, "    its token is in %s\n", path)
	return nil
}

func (s *session) changeClient(ctx context.Context, c client, fresh bool) error {
	data := maps.Clone(c.fields)
	if fresh {
		data["access_token"] = c.accessToken
	}
	_, err := s.vault.Logical().JSONMergePatch(ctx, s.Mount+"/clients/"+c.name, merged(data))
	return err
}

// merged makes a PATCH replace what is there: a null resets a field, and an empty
// map would merge to no change.
func merged(data map[string]any) map[string]any {
	for field, value := range data {
		if empty(canonical(value)) && field != "allowed_tools" && field != "disabled" {
			data[field] = nil
		}
	}
	return data
}
