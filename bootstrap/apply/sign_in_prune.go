package apply

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/policies"
)

// pruneSignIn finds the things that apply created for sign-in and that the files no
// longer name.
func (s *session) pruneSignIn(ctx context.Context, used map[string]bool) error {
	auths, err := s.vault.Sys().ListAuthWithContext(ctx)
	if err != nil {
		return fmt.Errorf("cannot list Vault's auth methods: %w", explain(err))
	}
	for _, key := range slices.Sorted(maps.Keys(s.record.held)) {
		if used[key] {
			continue
		}
		if err := s.pruneThing(ctx, key, auths, used); err != nil {
			return err
		}
	}
	s.pruneLogins()
	return nil
}

// pruneThing prunes the thing of a key of the record, if it belongs to sign-in.
func (s *session) pruneThing(ctx context.Context, key string, auths map[string]*api.AuthMount, used map[string]bool) error {
	kind, name, _ := strings.Cut(key, " ")
	var (
		path  string
		there bool
		err   error
	)
	switch {
	case kind == kindAuth && name != "approle":
		path, there = "sys/auth/"+name, auths[name+"/"] != nil
	case kind == kindLoginConfig, kind == kindLoginRole:
		mount, role := methodOf(kind, name)
		switch {
		case auths[mount+"/"] == nil: // it is gone with its method
			delete(s.record.held, key)
			return nil
		case kind == kindLoginConfig, !used[kindAuth+" "+mount]: // it goes with its method
			return nil
		}
		path = "auth/" + mount + "/role/" + role
		there, err = s.exists(ctx, path)
	case kind == kindGroup:
		path = "identity/group/name/" + name
		there, err = s.exists(ctx, path)
	case kind == kindACL && (name == policies.PersonName || strings.HasPrefix(name, policies.PersonName+"-")):
		path = "sys/policies/acl/" + name
		there, err = s.exists(ctx, path)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	s.prune(&step{kind: kind, name: name, is: isDelete}, path, there)
	return nil
}

// methodOf is the auth method of a config or a role, and the role's name.
func methodOf(kind, name string) (mount, role string) {
	if i := strings.LastIndex(name, "/"); kind == kindLoginRole && i >= 0 {
		return name[:i], name[i+1:]
	}
	return name, ""
}

func (s *session) exists(ctx context.Context, path string) (bool, error) {
	have, err := s.readVault(ctx, path)
	return have != nil, err
}

// prune deletes a thing of Vault, if told to prune.
func (s *session) prune(p *step, path string, there bool) {
	switch {
	case !there: // deleted by hand
		delete(s.record.held, p.key())
	case !s.Prune:
		s.kept = append(s.kept, p.key())
	default:
		p.do = func(ctx context.Context) error {
			_, err := s.vault.Logical().DeleteWithContext(ctx, path)
			return explain(err)
		}
		s.steps = append(s.steps, p)
	}
}

// pruneLogins takes the logins' names back from the engine, where apply gave it some and no
// file has the block any more.
func (s *session) pruneLogins() {
	p := &step{kind: kindLogins, name: s.Mount, is: isDelete}
	if s.desired.signIn != nil || !s.record.own(p) {
		return
	}
	if !s.Prune {
		s.kept = append(s.kept, p.key())
		return
	}
	p.do = s.puts("config", map[string]any{"sign_in_logins": map[string]any{}})
	s.steps = append(s.steps, p)
}
