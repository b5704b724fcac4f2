package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

// release is the plugin as it shall run.
type release struct {
	version, sha256, command string
}

// release finds the program to register.
func (s *session) release(ctx context.Context) (release, error) {
	r := release{version: s.PluginVersion, sha256: s.PluginSHA256, command: s.PluginCommand}
	if r.command == "" {
		r.command = filepath.Base(s.Plugin)
	}
	if r.sha256 == "" {
		sum, err := provision.Checksum(s.Plugin)
		if err != nil {
			return r, fmt.Errorf("%w: name the plugin's program with -plugin, or give -plugin-sha256 and -plugin-version where it is not on this machine", err)
		}
		r.sha256 = sum
	}
	if r.version == "" {
		if s.PluginSHA256 != "" {
			return r, errors.New("-plugin-sha256 needs -plugin-version beside it: the program's answer to -version")
		}
		program, err := filepath.Abs(s.Plugin)
		if err != nil {
			return r, err
		}
		out, err := exec.CommandContext(ctx, program, "-version").Output() //nolint:gosec // the program that Vault is about to run
		if err != nil {
			return r, fmt.Errorf("cannot ask the plugin for its version: %s -version: %w", program, err)
		}
		r.version, _, _ = strings.Cut(strings.TrimSpace(string(out)), " ")
	}
	return r, nil
}

// planPlugin registers the plugin, and mounts it or upgrades the mount.
func (s *session) planPlugin(ctx context.Context) error {
	r, err := s.release(ctx)
	if err != nil {
		return err
	}
	mounts, err := s.vault.Sys().ListMountsWithContext(ctx)
	if err != nil {
		return fmt.Errorf("cannot list Vault's mounts: %w", explain(err))
	}
	mount := mounts[s.Mount+"/"]
	if mount != nil && mount.Type != provision.PluginName {
		return fmt.Errorf("a mount of type %s is at %s/: choose another path with -mount", mount.Type, s.Mount)
	}
	s.mounted = mount != nil
	registered, err := s.registered(ctx, r.version)
	if err != nil {
		return err
	}
	want := map[string]any{"sha256": r.sha256, "command": r.command}
	changed := differences(want, registered)
	if len(changed) > 0 {
		s.add(&step{
			kind: "plugin", name: provision.PluginName + " " + r.version, is: verb(registered), lines: changed,
			do: func(ctx context.Context) error { return s.register(ctx, r) },
		})
	}
	switch {
	case mount == nil:
		s.add(&step{
			kind: kindMount, name: s.Mount, is: isCreate, lines: []string{"+ plugin_version = " + r.version},
			do: func(ctx context.Context) error {
				if err := provision.MountVersion(ctx, s.vault, s.Mount, r.version); err != nil {
					return err
				}
				s.mounted = true
				return nil
			},
		})
	case mount.PluginVersion != r.version:
		s.add(&step{
			kind: kindMount, name: s.Mount, is: isChange,
			lines: []string{fmt.Sprintf("~ plugin_version = %q (was %q), and the plugin reloaded", r.version, mount.PluginVersion)},
			do:    func(ctx context.Context) error { return s.upgrade(ctx, r) },
		})
	case mount.RunningSha256 != "" && mount.RunningSha256 != r.sha256:
		s.add(&step{
			kind: kindMount, name: s.Mount, is: isChange, lines: []string{"~ the plugin reloaded, to run " + r.sha256},
			do: s.reload,
		})
	}
	return nil
}

// registered reads the plugin's entry of a version in the catalog.
func (s *session) registered(ctx context.Context, version string) (map[string]any, error) {
	path := "sys/plugins/catalog/secret/" + provision.PluginName
	secret, err := s.vault.Logical().ReadWithDataWithContext(ctx, path, map[string][]string{"version": {version}})
	var answer *api.ResponseError
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound || err == nil && secret == nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read Vault's plugin catalog: %w", explain(err))
	}
	if secret.Data["version"] != version { // an entry without a version answers for all
		return nil, nil
	}
	return secret.Data, nil
}

func (s *session) register(ctx context.Context, r release) error {
	err := s.vault.Sys().RegisterPluginWithContext(ctx, &api.RegisterPluginInput{
		Name: provision.PluginName, Type: api.PluginTypeSecrets, Command: r.command, SHA256: r.sha256, Version: r.version,
	})
	var answer *api.ResponseError
	missing := errors.As(err, &answer) && strings.Contains(err.Error(), "no such file") // and not a socket of ours
	switch {
	case err == nil:
		return nil
	case connect.Advice(err) != "" && !missing:
		return fmt.Errorf("cannot register the plugin: %w", explain(err))
	default:
		return fmt.Errorf("cannot register the plugin: %w: the file %s must lie in the plugin_directory of every Vault server, and be the one that was registered", explain(err), r.command)
	}
}

// upgrade has the mount run another version: Vault takes it up at the next
// reload, and the mount keeps everything.
func (s *session) upgrade(ctx context.Context, r release) error {
	err := s.vault.Sys().TuneMountAllowNilWithContext(ctx, s.Mount, api.TuneMountConfigInput{PluginVersion: &r.version})
	if err != nil {
		return fmt.Errorf("cannot tune the mount: %w", explain(err))
	}
	return s.reload(ctx)
}

// reload has every server of the cluster start the plugin again.
func (s *session) reload(ctx context.Context) error {
	_, err := s.vault.Sys().ReloadPluginWithContext(ctx, &api.ReloadPluginInput{Mounts: []string{s.Mount + "/"}, Scope: "global"})
	if err != nil {
		return fmt.Errorf("cannot reload the plugin: %w", explain(err))
	}
	return nil
}

// planACL writes the ACL policies that come with the engine.
func (s *session) planACL(ctx context.Context) error {
	auths, err := s.vault.Sys().ListAuthWithContext(ctx)
	if err != nil {
		return fmt.Errorf("cannot list Vault's auth methods: %w", explain(err))
	}
	accessor := ""
	if auth := auths["approle/"]; auth != nil {
		accessor = auth.Accessor
	}
	if accessor == "" {
		s.add(&step{
			kind: "auth", name: "approle", is: isCreate, lines: []string{"+ the auth method that gateways and Vault Agents log in with"},
			do: func(ctx context.Context) error {
				return explain(s.vault.Sys().EnableAuthWithOptionsWithContext(ctx, "approle", &api.EnableAuthOptions{Type: "approle"}))
			},
		})
	}
	for _, acl := range []struct {
		name  string
		rules func(accessor string) string
	}{
		{policies.GatewayName, func(string) string { return policies.Gateway }},
		{policies.AdminName, func(string) string { return policies.Admin }},
		{policies.ClientName, policies.Client},
	} {
		want := policies.At(s.Mount, acl.rules(accessor))
		err := s.planACLPolicy(ctx, acl.name, want, "as it comes with this version", func(ctx context.Context) error {
			accessor, err := s.approle(ctx)
			if err != nil {
				return err
			}
			return provision.Policy(ctx, s.vault, acl.name, policies.At(s.Mount, acl.rules(accessor)))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// planACLPolicy plans to write an ACL policy, unless it is the wanted one already.
func (s *session) planACLPolicy(ctx context.Context, name, want, how string, write func(context.Context) error) error {
	have, err := s.vault.Sys().GetPolicyWithContext(ctx, name)
	if err != nil {
		return fmt.Errorf("cannot read the ACL policy %s: %w", name, explain(err))
	}
	p := &step{kind: kindACL, name: name, is: isCreate, lines: []string{"+ " + how}, do: write}
	if have != "" {
		p.is, p.lines = isChange, nil
		if strings.TrimSpace(have) != strings.TrimSpace(want) {
			p.lines = []string{"~ " + how + " (see it with: vault policy read " + name + ")"}
		}
	}
	s.add(p)
	return nil
}

// approle is the accessor of the auth method, once it is there.
func (s *session) approle(ctx context.Context) (string, error) {
	auths, err := s.vault.Sys().ListAuthWithContext(ctx)
	if err != nil {
		return "", fmt.Errorf("cannot list Vault's auth methods: %w", explain(err))
	}
	auth := auths["approle/"]
	if auth == nil {
		return "", errors.New("the auth method approle is gone")
	}
	return auth.Accessor, nil
}
