// Package provision sets up the broker in Vault: the engine in the plugin catalog and at
// its mount, ACL policies, and the gateway's login. Each step can be repeated: it
// changes nothing that is right already.
package provision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/vault/api"

	"vault-plugin-secrets-mcp/bootstrap/connect"
)

// PluginName is the engine's name in Vault's plugin catalog.
const PluginName = "vault-plugin-secrets-mcp"

// Register enters the engine's program in the plugin catalog, by its SHA-256.
// The program's file must lie in Vault's plugin_directory, as Vault sees it.
func Register(ctx context.Context, client *api.Client, program string) error {
	sum, err := Checksum(program)
	if err != nil {
		return err
	}
	err = client.Sys().RegisterPluginWithContext(ctx, &api.RegisterPluginInput{
		Name:    PluginName,
		Type:    api.PluginTypeSecrets,
		Command: filepath.Base(program),
		SHA256:  sum,
	})
	if err != nil {
		return fmt.Errorf("cannot register the plugin %s in Vault's catalog: %w", program, connect.Explain(err))
	}
	return nil
}

// Checksum is the SHA-256 of a program, in hexadecimal.
func Checksum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the plugin: %w", err)
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", fmt.Errorf("cannot read the plugin: %w", err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// CopyProgram copies a program to a file. It does not hold the program in memory: the
// kernel copies where it can.
func CopyProgram(program, path string, mode os.FileMode) error {
	from, err := os.Open(program)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// Mount mounts the registered engine. A mount of it that is there already is
// left alone; one of another type is an error.
func Mount(ctx context.Context, client *api.Client, path string) error {
	mounts, err := client.Sys().ListMountsWithContext(ctx)
	if err != nil {
		return fmt.Errorf("cannot list Vault's mounts: %w", connect.Explain(err))
	}
	switch mount := mounts[strings.TrimSuffix(path, "/")+"/"]; {
	case mount == nil:
	case mount.Type == PluginName:
		return nil
	default:
		return fmt.Errorf("cannot mount the engine at %s: a mount of type %s is there", path, mount.Type)
	}
	return MountVersion(ctx, client, path, "")
}

// MountVersion mounts a registered version of the engine; without one, that which
// was registered without a version, else the newest.
func MountVersion(ctx context.Context, client *api.Client, path, version string) error {
	err := client.Sys().MountWithContext(ctx, path, &api.MountInput{
		Type:        PluginName,
		Description: "Identities, tokens and servers of MCP clients",
		Config:      api.MountConfigInput{PluginVersion: version},
	})
	if err != nil {
		return fmt.Errorf("cannot mount the engine at %s: %w", path, connect.Explain(err))
	}
	return nil
}

// Policy writes an ACL policy.
func Policy(ctx context.Context, client *api.Client, name, rules string) error {
	if err := client.Sys().PutPolicyWithContext(ctx, name, rules); err != nil {
		return fmt.Errorf("cannot write the policy %s: %w", name, connect.Explain(err))
	}
	return nil
}

// AppRole is a login for a machine.
type AppRole struct {
	RoleID   string
	SecretID string
}

// GatewayRole is the AppRole role that gateways log in with.
const GatewayRole = "mcp-gateway"

// GatewayLogin makes the role that gateways log in with, limited to one policy
// and without Vault's default one, and issues a new secret id.
func GatewayLogin(ctx context.Context, client *api.Client, policy string) (AppRole, error) {
	const mount = "approle"
	auths, err := client.Sys().ListAuthWithContext(ctx)
	if err != nil {
		return AppRole{}, fmt.Errorf("cannot list Vault's auth methods: %w", connect.Explain(err))
	}
	if auths[mount+"/"] == nil {
		err := client.Sys().EnableAuthWithOptionsWithContext(ctx, mount, &api.EnableAuthOptions{Type: "approle"})
		if err != nil {
			return AppRole{}, fmt.Errorf("cannot enable AppRole: %w", connect.Explain(err))
		}
	}
	role := "auth/" + mount + "/role/" + GatewayRole
	if _, err := client.Logical().WriteWithContext(ctx, role, GatewayRoleSettings(policy)); err != nil {
		return AppRole{}, fmt.Errorf("cannot write the role %s: %w", GatewayRole, connect.Explain(err))
	}
	return Login(ctx, client, GatewayRole)
}

// GatewayRoleSettings are those of the role that gateways log in with, as they are
// written and read back. Times are in seconds. The login is periodic: it lasts as long as it is
// renewed, and with it the child tokens under which the gateway leases upstream credentials.
func GatewayRoleSettings(policy string) map[string]any {
	return map[string]any{
		"token_policies":          []string{policy},
		"token_no_default_policy": true,
		"token_period":            3600,
		"token_ttl":               0,
		"token_max_ttl":           0,
	}
}

// Login issues a new secret id of an AppRole role.
func Login(ctx context.Context, client *api.Client, name string) (AppRole, error) {
	role := "auth/approle/role/" + name
	roleID, err := field(client.Logical().ReadWithContext(ctx, role+"/role-id"))("role_id")
	if err != nil {
		return AppRole{}, fmt.Errorf("cannot read the role id: %w", connect.Explain(err))
	}
	secretID, err := field(client.Logical().WriteWithContext(ctx, role+"/secret-id", nil))("secret_id")
	if err != nil {
		return AppRole{}, fmt.Errorf("cannot issue a secret id: %w", connect.Explain(err))
	}
	return AppRole{RoleID: roleID, SecretID: secretID}, nil
}

var errNoAnswer = errors.New("the answer is empty")

// field reads one text out of an answer.
func field(secret *api.Secret, err error) func(name string) (string, error) {
	return func(name string) (string, error) {
		if err != nil {
			return "", err
		}
		if secret == nil {
			return "", errNoAnswer
		}
		value, ok := secret.Data[name].(string)
		if !ok || value == "" {
			return "", fmt.Errorf("the answer has no %s", name)
		}
		return value, nil
	}
}
