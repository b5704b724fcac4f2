package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

// Kinds of things that planSignIn makes.
const (
	kindAuth        = "auth"
	kindLoginConfig = "login-config"
	kindLoginRole   = "login-role"
	kindGroup       = "group"
	kindLogins      = "logins"
)

// planSignIn plans sign-in: the policies of people, their logins, the groups that may act as
// clients, and the names by which the engine knows the logins.
func (s *session) planSignIn(ctx context.Context) error {
	want := s.desired.signIn
	used := map[string]bool{} // keys of things that the files want
	if want != nil || len(s.desired.signInClients()) > 0 {
		if err := s.planPeople(ctx, used); err != nil {
			return err
		}
	}
	if want == nil {
		return s.pruneSignIn(ctx, used)
	}
	auths, err := s.vault.Sys().ListAuthWithContext(ctx)
	if err != nil {
		return fmt.Errorf("cannot list Vault's auth methods: %w", explain(err))
	}
	for i := range want.logins {
		if err := s.planLogin(ctx, &want.logins[i], auths, used); err != nil {
			return err
		}
	}
	for _, m := range want.machines {
		if auths[m.mount+"/"] == nil {
			s.desired.mistake(m.at.of("mount"), fmt.Errorf("machine %q: field mount: no auth method is at %s: set it up first, or take the block out", m.name, m.mount))
		}
	}
	if err := s.planLogins(ctx, auths); err != nil {
		return err
	}
	return s.pruneSignIn(ctx, used)
}

// planPeople plans the ACL policies: one with the rights of everybody who signs in, and one
// for each client that people may act as.
func (s *session) planPeople(ctx context.Context, used map[string]bool) error {
	rules := map[string]string{policies.PersonName: policies.Person}
	for _, client := range s.desired.signInClients() {
		rules[policies.PersonClientName(client)] = policies.At(s.Mount, policies.PersonClient(client))
	}
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		used[kindACL+" "+name] = true
		err := s.planACLPolicy(ctx, name, rules[name], "as it comes with this version", func(ctx context.Context) error {
			return provision.Policy(ctx, s.vault, name, rules[name])
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// planLogin sets up the oidc method of a login, its role, and the groups.
func (s *session) planLogin(ctx context.Context, l *login, auths map[string]*api.AuthMount, used map[string]bool) error {
	method := auths[l.mount+"/"]
	if method != nil && method.Type != "oidc" && method.Type != "jwt" {
		s.desired.mistake(l.at.of("mount"), fmt.Errorf("login %q: field mount: an auth method of type %s is at %s: choose another path", l.name, method.Type, l.mount))
		return nil
	}
	s.planMethod(l, method, used)
	have := func(path string) (map[string]any, error) {
		if method == nil {
			return nil, nil
		}
		return s.readVault(ctx, path)
	}
	config, err := have("auth/" + l.mount + "/config")
	if err != nil {
		return err
	}
	s.planLoginConfig(l, config, used)
	path := "auth/" + l.mount + "/role/" + l.roleName
	role, err := have(path)
	if err != nil {
		return err
	}
	p := &step{kind: kindLoginRole, name: l.mount + "/" + l.roleName, is: verb(role), lines: differences(l.role.Settings(), role)}
	p.do = func(ctx context.Context) error {
		_, err := s.vault.Logical().WriteWithContext(ctx, path, l.role.Settings())
		return explain(err)
	}
	used[p.key()] = true
	s.add(p)
	for _, group := range slices.Sorted(maps.Keys(l.groups)) {
		if err := s.planGroup(ctx, l, group, method, used); err != nil {
			return err
		}
	}
	return nil
}

// planMethod enables the oidc method. A method that apply has not created has other users,
// and sign-in would share their entities.
func (s *session) planMethod(l *login, method *api.AuthMount, used map[string]bool) {
	p := &step{kind: kindAuth, name: l.mount, is: isCreate, lines: []string{"+ an oidc method that is there for sign-in alone"}}
	p.do = func(ctx context.Context) error {
		return explain(s.vault.Sys().EnableAuthWithOptionsWithContext(ctx, l.mount, &api.EnableAuthOptions{
			Type: "oidc", Description: "Sign-in of MCP applications: " + l.name,
		}))
	}
	used[p.key()] = true
	if method != nil {
		if s.record.own(p) {
			return
		}
		p.is, p.lines = isChange, []string{"~ an oidc method that is there for sign-in alone (who logs in there otherwise?)"}
		p.do = func(context.Context) error { return nil } // to take it over is all
	}
	s.add(p)
}

func (s *session) planLoginConfig(l *login, have map[string]any, used map[string]bool) {
	p := &step{kind: kindLoginConfig, name: l.mount, is: verb(have), lines: withoutValues(differences(l.config, have))}
	used[p.key()] = true
	held := s.record.held[p.key()]
	p.fingerprint = held
	same := sameSecrets(held, l.secret)
	if !same {
		p.lines = append(p.lines, "~ oidc_client_secret (never shown)")
	}
	p.do = func(ctx context.Context) (err error) {
		data := maps.Clone(l.config)
		data["oidc_client_secret"] = l.secret
		if _, err = s.vault.Logical().WriteWithContext(ctx, "auth/"+l.mount+"/config", data); err != nil {
			if strings.Contains(err.Error(), "discovery") {
				return fmt.Errorf("%w: Vault must reach %s/.well-known/openid-configuration, and trust its certificate (discovery_ca_pem)",
					explain(err), strings.TrimSuffix(fmt.Sprint(l.config["oidc_discovery_url"]), "/"))
			}
			return explain(err)
		}
		if !same {
			p.fingerprint, err = fingerprint(l.secret)
		}
		return err
	}
	s.add(p)
}

// withoutValues hides those of provider_config.
func withoutValues(lines []string) []string {
	for i, line := range lines {
		if mark, found := strings.CutSuffix(line[:min(len(line), len("~ ")+len(fieldProvider))], fieldProvider); found {
			lines[i] = mark + fieldProvider + " (its values are not shown)"
		}
	}
	return lines
}

// planGroup maps a group of the identity provider to clients, by an external group of Vault.
func (s *session) planGroup(ctx context.Context, l *login, group string, method *api.AuthMount, used map[string]bool) error {
	name := provision.SignInGroup(l.name, group)
	path := "identity/group/name/" + name
	have, err := s.readVault(ctx, path)
	if err != nil {
		return err
	}
	granted := []string{}
	for _, client := range unique(l.groups[group]) {
		granted = append(granted, policies.PersonClientName(client))
	}
	slices.Sort(granted)
	want := map[string]any{"type": "external", "policies": granted}
	p := &step{kind: kindGroup, name: name, is: verb(have), lines: differences(want, have)}
	used[p.key()] = true
	alias, _ := have["alias"].(map[string]any)
	if method == nil || alias["mount_accessor"] != method.Accessor || !strings.EqualFold(fmt.Sprint(alias["name"]), group) {
		p.lines = append(p.lines, fmt.Sprintf("+ for the group %q of %s", group, l.mount))
	}
	p.do = func(ctx context.Context) error { return s.writeGroup(ctx, l, path, group, want) }
	s.add(p)
	return nil
}

func (s *session) writeGroup(ctx context.Context, l *login, path, group string, want map[string]any) error {
	if _, err := s.vault.Logical().WriteWithContext(ctx, path, want); err != nil {
		return explain(err)
	}
	written, err := s.readVault(ctx, path)
	if err != nil {
		return err
	}
	accessor, err := s.accessor(ctx, l.mount)
	if err != nil {
		return err
	}
	alias := map[string]any{"name": group, "mount_accessor": accessor, "canonical_id": written["id"]}
	if held, _ := written["alias"].(map[string]any); held["id"] != nil { // a group has one alias
		alias["id"] = held["id"]
	}
	if _, err := s.vault.Logical().WriteWithContext(ctx, "identity/group-alias", alias); err != nil {
		return fmt.Errorf("cannot make the alias %q of the group: %w", group, explain(err))
	}
	return nil
}

// planLogins tells the engine the names of the logins. Accessors of methods that are yet to be
// made are not known in the plan.
func (s *session) planLogins(ctx context.Context, auths map[string]*api.AuthMount) error {
	config, err := s.read(ctx, "config")
	if err != nil {
		return err
	}
	have, _ := config["sign_in_logins"].(map[string]any)
	mounts := s.desired.signIn.mounts()
	p := &step{kind: kindLogins, name: s.Mount, is: isChange}
	for _, name := range slices.Sorted(maps.Keys(mounts)) {
		method := auths[mounts[name]+"/"]
		if method == nil || have[name] != method.Accessor {
			p.lines = append(p.lines, fmt.Sprintf("+ %s = the accessor of the auth method at %s", name, mounts[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if mounts[name] == "" {
			p.lines = append(p.lines, fmt.Sprintf("- %s, which no file names: who has signed in there is out at the next refresh", name))
		}
	}
	if len(p.lines) == 0 {
		return nil
	}
	p.do = func(ctx context.Context) error {
		accessors := map[string]any{}
		for name, mount := range mounts {
			if accessors[name], err = s.accessor(ctx, mount); err != nil {
				return err
			}
		}
		_, err := s.put(ctx, "config", map[string]any{"sign_in_logins": accessors})
		return err
	}
	// The mount's own, as the rest of its config is.
	s.steps = append(s.steps, p)
	return nil
}

var errNoMethod = errors.New("no auth method is there any more")

// accessor is that of an auth method, once it is there.
func (s *session) accessor(ctx context.Context, mount string) (string, error) {
	auths, err := s.vault.Sys().ListAuthWithContext(ctx)
	if err != nil {
		return "", fmt.Errorf("cannot list Vault's auth methods: %w", explain(err))
	}
	method := auths[mount+"/"]
	if method == nil {
		return "", fmt.Errorf("%s: %w", mount, errNoMethod)
	}
	return method.Accessor, nil
}

// readVault reads any path of Vault; nil where there is nothing.
func (s *session) readVault(ctx context.Context, path string) (map[string]any, error) {
	secret, err := s.vault.Logical().ReadWithContext(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, explain(err))
	}
	if secret == nil {
		return nil, nil
	}
	return secret.Data, nil
}
