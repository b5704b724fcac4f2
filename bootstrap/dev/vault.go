package dev

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

// startVault runs Vault in dev mode, which keeps everything in memory and is
// unsealed from the start.
func (s *system) startVault(ctx context.Context) error {
	// A lone server would listen for others on a port next to its own.
	config := fmt.Sprintf("plugin_directory = %q\ndisable_mlock = true\ndisable_clustering = true\n", s.path("plugins"))
	if err := s.write("vault.hcl", config); err != nil {
		return err
	}
	s.rootToken = "dev-" + rand.Text()
	vault, err := s.group.Start(process.Spec{
		Name: "Vault",
		Path: s.Vault,
		Args: []string{
			"server", "-dev", "-dev-no-store-token",
			"-dev-listen-address=" + s.VaultAddress, "-config=" + s.path("vault.hcl"),
		},
		Env:  []string{"VAULT_DEV_ROOT_TOKEN_ID=" + s.rootToken},
		Log:  s.log("vault"),
		Keep: keepLine,
	})
	if err != nil {
		return err
	}
	client, err := s.vaultClient()
	if err != nil {
		return err
	}
	return vault.Await(ctx, startTimeout, func(ctx context.Context) error {
		// Dev mode makes its root token last.
		_, err := client.Auth().Token().LookupSelfWithContext(ctx)
		return err
	})
}

// keepLine keeps the secrets that dev mode prints out of the log.
func keepLine(line []byte) bool {
	return !bytes.HasPrefix(line, []byte("Root Token:")) && !bytes.HasPrefix(line, []byte("Unseal Key:"))
}

func (s *system) vaultClient() (*api.Client, error) { return s.clientFor(s.vaultURL()) }

func (s *system) clientFor(address string) (*api.Client, error) {
	config := api.DefaultConfig()
	if config.Error != nil {
		return nil, config.Error
	}
	config.Address = address
	config.MaxRetries = 0
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for Vault: %w", err)
	}
	client.SetToken(s.rootToken)
	return client, nil
}

func (s *system) vaultURL() string { return "http://" + s.VaultAddress }

// provision sets Vault up for the gateway, which gets a login of its own.
func (s *system) provision(ctx context.Context) error {
	program, err := s.copyPlugin()
	if err != nil {
		return err
	}
	client, err := s.vaultClient()
	if err != nil {
		return err
	}
	if err := provision.Register(ctx, client, program); err != nil {
		return err
	}
	if err := provision.Mount(ctx, client, mount); err != nil {
		return err
	}
	if s.Keep {
		if err := s.takeUpPlugin(ctx, client, program); err != nil {
			return err
		}
	}
	if err := provision.Policy(ctx, client, policies.GatewayName, policies.Gateway); err != nil {
		return err
	}
	login, err := provision.GatewayLogin(ctx, client, policies.GatewayName)
	if err != nil {
		return err
	}
	if err := errors.Join(writePolicies(ctx, client), s.provisionChildren(ctx, client)); err != nil {
		return err
	}
	return errors.Join(s.write(roleIDFile, login.RoleID), s.write(secretIDFile, login.SecretID))
}

// writePolicies writes the ACL policies that nothing here needs and the docs speak of,
// as `mcp-bootstrap apply` does. AppRole is there by then.
func writePolicies(ctx context.Context, vault *api.Client) error {
	auths, err := vault.Sys().ListAuthWithContext(ctx)
	if err != nil {
		return fmt.Errorf("cannot list Vault's auth methods: %w", connect.Explain(err))
	}
	approle := auths["approle/"]
	if approle == nil {
		return errNoAppRole
	}
	return errors.Join(
		provision.Policy(ctx, vault, policies.AdminName, policies.Admin),
		provision.Policy(ctx, vault, policies.ClientName, policies.Client(approle.Accessor)),
	)
}

var errNoAppRole = errors.New("AppRole is not among Vault's auth methods")

// copyPlugin puts the plugin into Vault's plugin folder. The copy still
// matches its registration when the program is built again.
func (s *system) copyPlugin() (string, error) {
	name, err := s.pluginFile()
	if err != nil {
		return "", err
	}
	program := filepath.Join(s.path("plugins"), name)
	if _, err := os.Stat(program); err == nil && s.Keep {
		return program, nil // and Vault runs it
	}
	err = errors.Join(
		os.MkdirAll(filepath.Dir(program), 0o700),
		provision.CopyProgram(s.Plugin, program+".new", 0o700),
		os.Rename(program+".new", program),
	)
	if err != nil {
		return "", fmt.Errorf("cannot copy the plugin: %w", err)
	}
	return program, nil
}

// register enters the demo servers, and a client that may use one of them.
func (s *system) register(ctx context.Context) error {
	vault, err := s.vaultClient()
	if err != nil {
		return err
	}
	write := func(path string, data map[string]any) (*api.Secret, error) {
		secret, err := vault.Logical().WriteWithContext(ctx, mount+"/"+path, data)
		if err != nil {
			return nil, fmt.Errorf("cannot write %s/%s: %w", mount, path, connect.Explain(err))
		}
		return secret, nil
	}
	if _, err := write("servers/"+calculator, map[string]any{
		"transport": "http", "url": s.calculatorURL, "description": "A calculator, over HTTP",
	}); err != nil {
		return err
	}
	if _, err := write("servers/"+notesServer, map[string]any{
		"transport": "stdio", "command": s.Self, "args": []string{"demo", notesServer},
		"description": "Notes, over standard input and output",
	}); err != nil {
		return err
	}
	if s.Upstream {
		if err := s.registerUpstream(write); err != nil {
			return err
		}
	}
	if s.SignIn {
		if err := s.registerSignIn(write); err != nil {
			return err
		}
	}
	for _, server := range s.own {
		if _, err := write("servers/"+server.Name, server.Data); err != nil {
			return err
		}
	}
	if s.Agent {
		if err := registerAgentClient(ctx, vault, s.allowed()); err != nil {
			return err
		}
	}
	there := false
	if s.Keep {
		if there, err = s.keptClient(ctx, vault); err != nil {
			return err
		}
	}
	if !there {
		// Tokens end some day, so that the warning about those that do not means
		// something.
		if _, err := write("config", map[string]any{"default_ttl": defaultTTL}); err != nil {
			return err
		}
		secret, err := write("clients/"+client, map[string]any{"allowed_servers": s.allowed()})
		if err != nil {
			return err
		}
		if secret != nil {
			s.clientToken, _ = secret.Data["token"].(string)
		}
	}
	if s.clientToken == "" || strings.ContainsAny(s.clientToken, "'\n") {
		return fmt.Errorf("cannot use the answer to writing %s/clients/%s: it holds no token", mount, client)
	}
	if !s.Keep {
		return nil
	}
	s.kept.ClientToken = s.clientToken
	return s.saveKept()
}

// defaultTTL is the TTL of tokens without one of their own.
const defaultTTL = "720h"
