package policy

// Widening says why clients may reach more once next is the policy of all clients
// instead of old, where next is old without one of its sources. It returns an empty
// string if none can. others reports whether there are policies with an allow-list that
// apply, and applied, to some clients only.
//
// It looks at no client and no server, and a denial that another one covers counts
// as lost: so it may err, on the side of caution.
func Widening(old, next *Policy, others bool) string {
	switch {
	case !next.deniesAllOf(old):
		return "its denials end"
	case old.limited && !next.limited:
		return "no managed policy has an allow-list any more"
	case old.lockedBy != "" && next.lockedBy == "" && others:
		return "the allow-lists of other policies count from then on"
	}
	// The first entry of a stricter kind switches names off, and the last one on again.
	byName := len(next.allowed.names) > 0 || others && next.lockedBy == ""
	if old.limited && byName && (len(old.allowed.urls) > 0 && len(next.allowed.urls) == 0 ||
		len(old.allowed.commands) > 0 && len(next.allowed.commands) == 0) {
		return "servers are then admitted by their names alone"
	}
	return ""
}

// deniesAllOf reports whether each entry that denies in o stands in p, too.
func (p *Policy) deniesAllOf(o *Policy) bool {
	held := map[string]bool{}
	for i := range p.sources {
		for _, e := range p.sources[i].Policy.Denied {
			held[e.String()] = true
		}
	}
	for i := range o.sources {
		for _, e := range o.sources[i].Policy.Denied {
			if !held[e.String()] {
				return false
			}
		}
	}
	return true
}
