package credentials

import "vault-plugin-secrets-mcp/gateway/grants"

// OnEnd is called by the broker when access was taken away.
func (s *Store) OnEnd(end grants.End) {
	switch {
	case end.Server != nil:
		s.mu.Lock()
		held := s.servers[end.Server.Name]
		s.mu.Unlock()
		if held != nil && held.of.ID == end.Server.ID {
			s.drop(held, ErrLost)
		}
	case end.Unheard:
		s.endUnheard(&end)
	case end.Successor != nil:
		s.admit(end.Successor)
	case end.Lost && (end.Last || !s.live(end.Grant.Principal())):
		s.endAll(end.Grant.Principal(), ErrLost)
	case end.Expired:
		// Its holder has another one by now, or gets one: see idle_timeout.
	case end.Last && !s.live(end.Grant.Principal()):
		// The feed will not report on the token any more: if it returns, it gets new
		// credentials.
		s.endAll(end.Grant.Principal(), ErrUnused)
	}
}

// admit ends the credentials that the principal may not use any more under a newer
// grant.
func (s *Store) admit(grant *grants.Grant) {
	for _, h := range s.of(grant.Principal()) {
		switch {
		case grants.Allows(grant, h.server.of) != nil:
			h.end(ErrLost)
		case !grant.SameUpstreamRights(h.grant.Load()):
			h.retire()
		}
	}
}

// endUnheard ends the credentials of principals without any known token, since they may have
// lost their access. With a sign-in, it ends only the credentials that were leased in that
// sign-in.
func (s *Store) endUnheard(end *grants.End) {
	for _, p := range s.concerned(end) {
		if s.live(p) {
			continue
		}
		for _, h := range s.of(p) {
			if end.SignIn == "" || h.grant.Load().Anchor() == end.SignIn {
				h.end(ErrLost)
			}
		}
	}
}

func (s *Store) endAll(p grants.Principal, cause error) {
	for _, h := range s.of(p) {
		h.end(cause)
	}
}
