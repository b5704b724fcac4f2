package apply

import (
	"context"
	"maps"
	"slices"
)

func (s *session) planClients(ctx context.Context) error {
	for _, c := range s.desired.misnamed { // report their other mistakes, too
		s.judgeForm(c, true)
	}
	for _, c := range s.desired.clients {
		have, err := s.read(ctx, "clients/"+c.name)
		if err != nil {
			return err
		}
		current, err := s.judgeToken(ctx, c, have)
		if err != nil {
			return err
		}
		p := &step{kind: kindClient, name: c.name, is: verb(have), lines: differences(c.fields, have)}
		if s.DryRun {
			if err := s.warnOfNames(ctx, c, p); err != nil {
				return err
			}
		}
		held := s.record.held[p.key()]
		p.fingerprint = held
		if have == nil {
			if s.TokenDir != "" && !c.brings() && !c.signedInto() {
				p.during = notKept
			}
			p.do = func(ctx context.Context) error { return s.createClient(ctx, c, p) }
			s.add(p)
			continue
		}
		settings := len(p.lines) > 0
		token := s.tokenLine(c, have, held, current)
		if token != "" {
			p.lines = append(p.lines, token)
		}
		p.do = func(ctx context.Context) error {
			if settings {
				if err := s.changeClient(ctx, c); err != nil {
					return err
				}
			}
			if token == "" {
				return nil
			}
			return s.replaceToken(ctx, c, p)
		}
		s.add(p)
	}
	return nil
}

func (s *session) createClient(ctx context.Context, c client, p *step) error {
	data := maps.Clone(c.fields)
	for _, field := range unsetOrEmpty {
		if data[field] == nil {
			delete(data, field)
		}
	}
	maps.Copy(data, c.tokenFields())
	if s.TokenDir != "" { // before a token is issued that could not be kept
		if err := makeDir(s.TokenDir); err != nil {
			return err
		}
	}
	secret, err := s.put(ctx, "clients/"+c.name, data)
	if err != nil {
		return err
	}
	return s.keepToken(ctx, c, secret, p)
}

func (s *session) changeClient(ctx context.Context, c client) error {
	secret, err := s.vault.Logical().JSONMergePatch(ctx, s.Mount+"/clients/"+c.name, merged(maps.Clone(c.fields)))
	s.warn(secret)
	return explain(err)
}

// unsetOrEmpty are the lists of a client that say something else if they are unset than if
// they are empty.
var unsetOrEmpty = []string{"allowed_tools", "allowed_prompts", "allowed_resources", "upstream_policies"}

// merged makes a PATCH replace the present values: null resets a field, while an empty map
// would change nothing.
func merged(data map[string]any) map[string]any {
	for field, value := range data {
		if empty(canonical(value)) && !slices.Contains(unsetOrEmpty, field) && field != "disabled" {
			data[field] = nil
		}
	}
	return data
}
