package grants

import (
	"maps"
	"slices"
	"sync"

	"vault-plugin-secrets-mcp/backend/policy"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// A change of a role is one change for all tokens of its clients. None of them is used before
// Vault was asked again. The first answer has the role as it is now, so all live requests of
// the role's clients are compared with it at once: those that it does not admit any more end
// then, however many tokens there are still to ask about.

// rolesKept is how many changed roles are told apart. Beyond it, a change of one more
// concerns every grant.
const rolesKept = 1024

// changeRole raises the least index of grants with a role.
func (v *feedPosition) changeRole(name string, index uint64) {
	roles := maps.Clone(v.roles)
	if roles == nil || len(roles) >= rolesKept {
		roles = make(map[string]uint64, 1)
	}
	if len(v.roles) >= rolesKept {
		v.floor = index
	}
	roles[name] = index
	v.roles = roles
}

// applyToRole applies a change of a role to the grants of all clients that have it. Those
// that nobody uses are asked for again when they are used. Which principals have the role,
// of whom no token is in the cache, is not known. Broker.mu is held.
func (b *Broker) applyToRole(c *vaultclient.Change, v *feedPosition) {
	v.changeRole(c.Name, c.Index)
	b.live.each(func(e *entry) {
		if g := e.grant.Load(); g != nil && !v.tracks(g) {
			b.applyToEntry(e, c, v)
			if g.role == c.Name {
				b.changedRoles[c.Name] = c.Index
			}
		}
	})
	b.notify(End{Unheard: true})
}

// cutByRole ends the live requests that the role of g, as g has it, does not admit any more,
// once after each change of the role. Broker.mu is held.
func (b *Broker) cutByRole(g *Grant) {
	changed, waits := b.changedRoles[g.role]
	if !waits || g.index < changed {
		return
	}
	delete(b.changedRoles, g.role)
	made := make(map[*entitlements]*entitlements)
	b.live.each(func(e *entry) {
		old := e.grant.Load()
		if old == nil || old.role != g.role || old.epoch != g.epoch || old.index >= changed {
			return
		}
		if made[old.entitlements] == nil {
			made[old.entitlements] = old.withRoleOf(g.entitlements)
		}
		e.cut(&Grant{Client: old.Client, ClientID: old.ClientID, Accessor: old.Accessor, entitlements: made[old.entitlements]})
	})
}

// withRoleOf returns the entitlements with the rights of the other's role, which has the same
// name.
func (t *entitlements) withRoleOf(other *entitlements) *entitlements {
	isRole := func(r policy.Rights) bool { return r.Role != "" }
	next := *t
	next.rights = append(slices.DeleteFunc(slices.Clone(t.rights), isRole), other.rights[slices.IndexFunc(other.rights, isRole)])
	next.rules = nil
	if slices.ContainsFunc(next.rights, policy.Rights.HasRules) {
		next.rules = new(sync.Map)
	}
	return &next
}
