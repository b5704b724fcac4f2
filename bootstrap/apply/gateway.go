package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

// planGateway makes the role that gateways log in with, and their login.
func (s *session) planGateway(ctx context.Context) error {
	path := "auth/approle/role/" + provision.GatewayRole
	want := provision.GatewayRoleSettings(policies.GatewayName)
	var have map[string]any
	secret, err := s.vault.Logical().ReadWithContext(ctx, path)
	switch {
	case err != nil && strings.Contains(err.Error(), "no handler for route"): // AppRole is not enabled yet
	case err != nil:
		return fmt.Errorf("cannot read the role %s: %w", provision.GatewayRole, explain(err))
	case secret != nil:
		have = secret.Data
	}
	s.add(&step{
		kind: kindRole, name: provision.GatewayRole, is: verb(have), lines: differences(want, have),
		do: func(ctx context.Context) error {
			_, err := s.vault.Logical().WriteWithContext(ctx, path, want)
			return explain(err)
		},
	})
	if s.GatewayDir == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(s.GatewayDir, "secret_id")); err == nil {
		return nil
	}
	s.steps = append(s.steps, &step{
		kind: "login", name: provision.GatewayRole, is: isCreate,
		lines: []string{"+ role_id and secret_id in " + s.GatewayDir},
		do:    s.writeLogin,
	})
	return nil
}

func (s *session) writeLogin(ctx context.Context) error {
	if err := makeDir(s.GatewayDir); err != nil {
		return err
	}
	login, err := provision.Login(ctx, s.vault, provision.GatewayRole)
	if err != nil {
		return err
	}
	if _, err := writeSecret(s.GatewayDir, "role_id", login.RoleID); err != nil {
		return err
	}
	_, err = writeSecret(s.GatewayDir, "secret_id", login.SecretID)
	return err
}

func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the folder: %w", err)
	}
	return nil
}

// writeSecret writes a file for its owner alone.
func writeSecret(dir, name, content string) (string, error) {
	path := filepath.Join(dir, name)
	// An older file would keep its own permissions.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("cannot replace the file: %w", err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return "", fmt.Errorf("cannot write the file: %w", err)
	}
	return path, nil
}
