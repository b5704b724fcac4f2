package policy

import (
	"fmt"
	"strings"
)

// shown describes the property of the server that was compared.
func (s *subject) shown(kind Kind) string {
	switch kind {
	case ServerURL:
		if s.target.parsed {
			return "URL " + s.target.shown()
		}
		return "URL"
	case ServerCommand:
		return "command"
	default:
		return "name"
	}
}

// whyUnlimited says why no allow-list limits the servers.
func (p *Policy) whyUnlimited() string {
	switch {
	case p.lockedBy == "":
		return "no policy sets " + AllowedSetting
	case len(p.ignored) == 0:
		return fmt.Sprintf("no managed policy sets %s (policy %q has %s)", AllowedSetting, p.lockedBy, ManagedOnlySetting)
	default:
		return fmt.Sprintf("no managed policy sets %s; the lists of %s do not count, since policy %q has %s",
			AllowedSetting, listNames(p.ignored), p.lockedBy, ManagedOnlySetting)
	}
}

// whyNotAllowed says why no entry admits the server, and which one would.
func (p *Policy) whyNotAllowed(s *subject, kind Kind) string {
	var b strings.Builder
	if p.allowed.empty() {
		fmt.Fprintf(&b, "server %q is not allowed, as none is: %s of %s is empty. ", s.server.Name, AllowedSetting, listNames(p.allowing))
	} else {
		fmt.Fprintf(&b, "server %q is not allowed: its %s matches no %s entry in %s of %s. ",
			s.server.Name, s.shown(kind), kind, AllowedSetting, listNames(p.allowing))
	}
	if r, ok := p.allowed.names[s.server.Name]; ok && kind != ServerName {
		fmt.Fprintf(&b, "The entry %s of policy %q does not count, since a list with a %s entry admits such servers by %s only. ",
			r.entry, r.source, kind, kind)
	}
	if len(p.ignored) > 0 {
		fmt.Fprintf(&b, "The lists of %s do not count, since policy %q has %s. ", listNames(p.ignored), p.lockedBy, ManagedOnlySetting)
	}
	if e, ok := s.admitting(kind); ok {
		fmt.Fprintf(&b, "Add %s to allow it", e)
	} else {
		b.WriteString("No entry can allow it as it is: correct its registration")
	}
	return b.String()
}

// admitting returns the narrowest entry of a kind that would admit the server.
// The query, which may hold a credential, is left open.
func (s *subject) admitting(kind Kind) (Entry, bool) {
	e := Entry{Kind: kind}
	switch kind {
	case ServerURL:
		if !s.target.parsed {
			return Entry{}, false
		}
		e.Text = s.target.authority() + s.target.path
		if s.target.query != "" {
			e.Text += "?*"
		}
		p := compileURL(e.Text)
		return e, p.allows(s.target)
	case ServerCommand:
		e.Command = append([]string{s.server.Command}, s.server.Args...)
	case ServerName:
		e.Text = s.server.Name
		return e, checkName(e.Text, false) == nil
	}
	return e, true
}
