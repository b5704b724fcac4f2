package apply

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"vault-plugin-secrets-mcp/backend/check"
)

// All mistakes in the files are reported at once, before anything is written: parts that
// are not readable, and parts that the engine would refuse, by its own rules (package
// check).

// place is the place of a thing: a file, and more if that is known.
type place struct {
	file    string
	element string              // of a list in JSON: "[2]"
	fields  map[string]position // where the thing's fields stand
	position
}

// of is the place of a field, "broker.hcl:12,3", else that of the thing.
func (p place) of(field string) string {
	at := p.position
	if own, ok := p.fields[field]; ok {
		at = own
	}
	switch {
	case at.line == 0:
		return p.file + p.element
	case at.column == 0:
		return fmt.Sprintf("%s:%d", p.file, at.line)
	}
	return fmt.Sprintf("%s:%d,%d", p.file, at.line, at.column)
}

// mistake notes a mistake with its place.
func (d *desired) mistake(where string, err error) {
	if err != nil {
		d.mistakes = append(d.mistakes, fmt.Errorf("%s: %w", where, err))
	}
}

// refuse notes the findings of package check about a thing.
func (d *desired) refuse(at place, what string, problems check.Problems) {
	for _, p := range problems {
		d.mistake(at.of(p.Field), fmt.Errorf("%s: %w", what, p))
	}
}

// failure is all mistakes as one error, and err, where there is one, behind them.
func (d *desired) failure(err error) error {
	if len(d.mistakes) == 0 {
		return err
	}
	listed := d.listed("nothing was changed, since the files have")
	if err != nil {
		return fmt.Errorf("%w\nThere may be more, which Vault could not be asked for: %w", listed, err)
	}
	return listed
}

// listed is all mistakes as one error, with their number behind a text.
func (d *desired) listed(head string) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s:", head, count(len(d.mistakes), "mistake"))
	for _, mistake := range d.mistakes {
		text.WriteString("\n  " + strings.ReplaceAll(mistake.Error(), "\n", "\n  "))
	}
	return errors.New(text.String())
}

// check finds duplicates in the files, and parts that the engine would refuse in any
// state. It removes things whose name is not valid, since Vault cannot be asked about
// them.
func (d *desired) check() {
	seen := map[string]string{}
	named := func(at place, kind, name string, err error) bool {
		if err != nil {
			d.mistake(at.of(""), fmt.Errorf("%s %q: %w", kind, name, err))
			return false
		}
		first, twice := seen[kind+" "+name]
		if twice {
			d.mistake(at.of(""), fmt.Errorf("the %s %q is in %s already: keep one of them", kind, name, first))
		}
		seen[kind+" "+name] = at.of("")
		return !twice
	}
	d.servers = keep(d.servers, func(s *server) bool {
		entry := s.entry()
		d.refuse(s.at, fmt.Sprintf("server %q", s.name), entry.Check())
		if s.pin != nil && *s.pin == "" { // of env("NAME"), perhaps: it switches nothing off
			d.mistake(s.at.of("pin"), fmt.Errorf("server %q: field pin: it is empty: write off, observe or enforce, or leave it out", s.name))
		}
		return named(s.at, kindServer, s.name, check.ServerName(s.name))
	})
	d.policies = keep(d.policies, func(p *policySource) bool {
		return named(p.at, kindPolicy, p.name, check.PolicyName(p.name))
	})
	d.roles = keep(d.roles, func(r *role) bool {
		settings := r.settings()
		d.refuse(r.at, fmt.Sprintf("role %q", r.name), settings.Check())
		return named(r.at, "role", r.name, check.RoleName(r.name))
	})
	d.clients = keep(d.clients, func(c *client) bool {
		settings := c.settings()
		d.refuse(c.at, fmt.Sprintf("client %q", c.name), settings.Check())
		fine := named(c.at, kindClient, c.name, check.ClientName(c.name))
		if !fine {
			d.misnamed = append(d.misnamed, *c)
		}
		return fine
	})
	if d.kms != nil {
		entry := d.kms.entry()
		d.refuse(d.kms.at, "kms", entry.Check())
	}
	d.checkTokens()
	d.checkSignIn()
}

// checkTokens finds a token that two clients bring.
func (d *desired) checkTokens() {
	first := map[string]*client{}
	clients := slices.Concat(d.clients, d.misnamed)
	for i := range clients {
		c := &clients[i]
		if c.accessToken == "" {
			continue
		}
		if other := first[c.accessToken]; other != nil {
			d.mistake(c.at.of(fieldToken), fmt.Errorf("client %q: it has the token of the client %q (%s): give each its own", c.name, other.name, other.at.of(fieldToken)))
			continue
		}
		first[c.accessToken] = c
	}
}

// keep returns the things without a mistake.
func keep[T any](things []T, fine func(*T) bool) []T {
	var kept []T
	for i := range things {
		if fine(&things[i]) {
			kept = append(kept, things[i])
		}
	}
	return kept
}

// readFile is os.ReadFile with an error for people.
func readFile(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the file: %w", err)
	}
	return content, nil
}
