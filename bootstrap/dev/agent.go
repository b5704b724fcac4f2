package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/agent"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/process"
)

// With Options.Agent, a real Vault Agent keeps a token of a second client in a file.
// Its configuration is the one that is shipped, with the paths of this folder.

// agentClient is the client whose token the Agent keeps.
const agentClient = "agent-local"

// Life of its tokens: short, so that one can watch the Agent at work.
const (
	agentTTL    = time.Minute
	agentMaxTTL = 3 * time.Minute
)

// agentDir is the Agent's folder in ours.
const agentDir = "agent"

func (s *system) agentPath(name string) string { return s.path(filepath.Join(agentDir, name)) }

// startAgent runs the Agent until it has written the first token.
func (s *system) startAgent(ctx context.Context) error {
	if err := s.writeAgentFiles(ctx); err != nil {
		return err
	}
	running, err := s.group.Start(process.Spec{
		Name: "Vault Agent",
		Path: s.Vault,
		Args: []string{"agent", "-config=" + s.agentPath(agent.TokenFileConfig)},
		Env:  []string{"VAULT_ADDR=" + s.vaultURL(), "MCP_CLIENT=" + agentClient},
		Log:  s.log(agentDir),
	})
	if err != nil {
		return err
	}
	return running.Await(ctx, startTimeout, func(context.Context) error {
		content, err := os.ReadFile(s.agentPath("token"))
		if err == nil && len(content) == 0 {
			err = errors.New("its token is empty")
		}
		return err
	})
}

// writeAgentFiles lays out the Agent's folder, with a login of its own.
func (s *system) writeAgentFiles(ctx context.Context) error {
	if err := errors.Join(os.RemoveAll(s.path(agentDir)), os.MkdirAll(s.path(agentDir), 0o700)); err != nil {
		return fmt.Errorf("cannot make the Agent's folder: %w", err)
	}
	here := strings.NewReplacer(agent.ConfigDir, s.path(agentDir), agent.RunDir, s.path(agentDir))
	for _, name := range []string{agent.TokenFileConfig, agent.TokenFileTemplate, agent.HeadersHelper} {
		content, err := agent.Files.ReadFile(name)
		if err != nil {
			return err
		}
		text := string(content)
		if name == agent.TokenFileConfig {
			text = here.Replace(text)
		}
		if err := s.write(filepath.Join(agentDir, name), text); err != nil {
			return err
		}
	}
	if err := os.Chmod(s.agentPath(agent.HeadersHelper), 0o700); err != nil { //nolint:gosec // it is a program
		return err
	}
	roleID, secretID, err := s.agentLogin(ctx)
	if err != nil {
		return err
	}
	return errors.Join(s.write(filepath.Join(agentDir, roleIDFile), roleID), s.write(filepath.Join(agentDir, secretIDFile), secretID))
}

// agentLogin makes the Agent's AppRole role, and a secret id.
func (s *system) agentLogin(ctx context.Context) (roleID, secretID string, err error) {
	vault, err := s.vaultClient()
	if err != nil {
		return "", "", err
	}
	role := "auth/approle/role/" + agentClient
	if _, err := vault.Logical().WriteWithContext(ctx, role, map[string]any{
		"token_policies": policies.ClientName, "token_no_default_policy": true, "token_period": "1h",
	}); err != nil {
		return "", "", fmt.Errorf("cannot write the role %s: %w", agentClient, err)
	}
	read, err := vault.Logical().ReadWithContext(ctx, role+"/role-id")
	if err != nil || read == nil {
		return "", "", fmt.Errorf("cannot read the role id: %w", err)
	}
	roleID, _ = read.Data["role_id"].(string)
	secret, err := vault.Logical().WriteWithContext(ctx, role+"/secret-id", nil)
	if err != nil || secret == nil {
		return "", "", fmt.Errorf("cannot issue a secret id: %w", err)
	}
	secretID, _ = secret.Data["secret_id"].(string)
	return roleID, secretID, nil
}

// registerAgentClient creates the client whose token the Agent keeps. Nobody uses the
// token in the answer; it ends within a minute.
func registerAgentClient(ctx context.Context, vault *api.Client, servers []string) error {
	_, err := vault.Logical().WriteWithContext(ctx, mount+"/clients/"+agentClient, map[string]any{
		"allowed_servers": servers, "token_ttl": agentTTL.String(), "token_max_ttl": agentMaxTTL.String(),
	})
	if err != nil {
		return fmt.Errorf("cannot write %s/clients/%s: %w", mount, agentClient, err)
	}
	return nil
}
