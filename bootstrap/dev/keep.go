package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/vault/api"

	local "vault-plugin-secrets-mcp/bootstrap/cluster"
	"vault-plugin-secrets-mcp/bootstrap/connect"
	"vault-plugin-secrets-mcp/bootstrap/process"
	"vault-plugin-secrets-mcp/bootstrap/provision"
)

// With Options.Keep, Vault has its storage in the folder, and the next run continues with
// it. So a client's configuration that was pasted somewhere stays valid.

const (
	keptFile   = "kept.json"     // the keys to the storage: a secret
	storageDir = "vault-storage" // Vault's own files, encrypted under the unseal key
	keptNode   = "vault"         // the name of the one server in its cluster
)

// kept has the keys that open the storage again.
type kept struct {
	UnsealKey   string `json:"unseal_key"`
	RootToken   string `json:"root_token"`
	ClientToken string `json:"client_token,omitempty"`
}

var errKeepAlone = errors.New("-keep goes with one Vault and with tokens that are not sealed: leave out -ha and -kms, whose Vaults and keys start from scratch each time")

// startKeptVault runs a Vault on the storage of the last run, or on a new one.
func (s *system) startKeptVault(ctx context.Context) error {
	if err := s.readKept(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.path(storageDir), 0o700); err != nil {
		return fmt.Errorf("cannot make the folder for Vault's storage: %w", err)
	}
	// Integrated storage is in every build of Vault. Nobody else joins this one, so that
	// its cluster address may be another one each time.
	addresses, err := freePorts(ctx, 1)
	if err != nil {
		return fmt.Errorf("cannot find a port for Vault: %w", err)
	}
	node := local.Node{
		Name: keptNode, Address: s.VaultAddress, ClusterAddress: addresses[0], APIAddress: s.vaultURL(),
		Plugins: s.path("plugins"), Data: s.path(storageDir),
	}
	err = errors.Join(s.write("vault.hcl", "# Written by mcp-bootstrap dev.\n"+node.File()), os.MkdirAll(s.path("plugins"), 0o700))
	if err != nil {
		return err
	}
	vault, err := s.group.Start(process.Spec{
		Name: "Vault", Path: s.Vault, Args: []string{"server", "-config=" + s.path("vault.hcl")}, Log: s.log("vault"),
	})
	if err != nil {
		return err
	}
	return vault.Await(ctx, startTimeout, s.openStorage)
}

// openStorage initializes and unseals Vault, as far as it must be.
func (s *system) openStorage(ctx context.Context) error {
	client, err := s.vaultClient()
	if err != nil {
		return err
	}
	status, err := client.Sys().SealStatusWithContext(ctx)
	if err != nil {
		return err
	}
	if !status.Initialized {
		answer, err := client.Sys().InitWithContext(ctx, &api.InitRequest{SecretShares: 1, SecretThreshold: 1})
		if err != nil {
			return err
		}
		s.kept = kept{UnsealKey: answer.KeysB64[0], RootToken: answer.RootToken}
		s.rootToken = answer.RootToken
		client.SetToken(s.rootToken)
		if err := s.saveKept(); err != nil {
			return err
		}
	}
	if status.Sealed {
		if _, err := client.Sys().UnsealWithContext(ctx, s.kept.UnsealKey); err != nil {
			return err
		}
	}
	_, err = client.Auth().Token().LookupSelfWithContext(ctx)
	return err
}

// readKept reads the keys of the last run. It removes a storage without its key, which
// nobody can use.
func (s *system) readKept() error {
	content, err := os.ReadFile(s.path(keptFile))
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.RemoveAll(s.path(storageDir)); err != nil {
			return fmt.Errorf("cannot remove a storage that nothing opens: %w", err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the keys of the last run: %w", err)
	}
	if err := json.Unmarshal(content, &s.kept); err != nil || s.kept.UnsealKey == "" || s.kept.RootToken == "" {
		return fmt.Errorf("%s does not have the keys of the last run: correct it, or remove it and lose Vault's storage", s.path(keptFile))
	}
	s.rootToken = s.kept.RootToken
	return nil
}

// saveKept writes it whole or not at all.
func (s *system) saveKept() error {
	content, err := json.MarshalIndent(s.kept, "", "  ") //nolint:gosec // tokens are kept on purpose, in a file of mode 0600
	if err != nil {
		return err
	}
	if err := s.write(keptFile+".new", string(content)+"\n"); err != nil {
		return err
	}
	if err := os.Rename(s.path(keptFile+".new"), s.path(keptFile)); err != nil {
		return fmt.Errorf("cannot write the file: %w", err)
	}
	return nil
}

// hasKept reports whether an earlier run has kept its state.
func (s *system) hasKept() bool {
	_, err := os.Stat(s.path(keptFile))
	return err == nil
}

// pluginFile is the file's name in Vault's plugin folder. A Vault that is started again
// runs the plugin of the last run until it is told otherwise, so that its file stays
// beside that of a new one.
func (s *system) pluginFile() (string, error) {
	if !s.Keep {
		return provision.PluginName, nil
	}
	sum, err := provision.Checksum(s.Plugin)
	if err != nil {
		return "", err
	}
	return provision.PluginName + "-" + sum[:12], nil
}

// takeUpPlugin has Vault run the plugin that was just registered, where it runs that of
// an earlier run.
func (s *system) takeUpPlugin(ctx context.Context, vault *api.Client, program string) error {
	sum, err := provision.Checksum(program)
	if err != nil {
		return err
	}
	mounts, err := vault.Sys().ListMountsWithContext(ctx)
	if err != nil {
		return fmt.Errorf("cannot list Vault's mounts: %w", connect.Explain(err))
	}
	if m := mounts[mount+"/"]; m == nil || m.RunningSha256 != sum {
		_, err := vault.Sys().ReloadPluginWithContext(ctx, &api.ReloadPluginInput{Mounts: []string{mount + "/"}})
		if err != nil {
			return fmt.Errorf("cannot reload the plugin: %w", connect.Explain(err))
		}
	}
	older, err := filepath.Glob(filepath.Join(filepath.Dir(program), provision.PluginName+"-*"))
	for _, path := range older {
		if path != program {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// keptClient finds the client of an earlier run and its token. It is false where there
// is no such client.
func (s *system) keptClient(ctx context.Context, vault *api.Client) (bool, error) {
	path := mount + "/clients/" + client
	have, err := vault.Logical().ReadWithContext(ctx, path)
	if err != nil || have == nil {
		return false, connect.Explain(err)
	}
	var allowed []string
	listed, _ := have.Data["allowed_servers"].([]any)
	for _, name := range listed {
		allowed = append(allowed, fmt.Sprint(name))
	}
	before := len(allowed)
	for _, name := range slices.Concat(s.upstreamNames(), s.ownNames()) {
		if !slices.Contains(allowed, name) && !slices.Contains(allowed, "*") {
			allowed = append(allowed, name)
		}
	}
	if len(allowed) > before {
		if _, err := vault.Logical().WriteWithContext(ctx, path, map[string]any{"allowed_servers": allowed}); err != nil {
			return true, fmt.Errorf("cannot write %s: %w", path, connect.Explain(err))
		}
	}
	if s.kept.ClientToken != "" {
		answer, err := vault.Logical().WriteWithContext(ctx, mount+"/lookup", map[string]any{"token": s.kept.ClientToken})
		if err != nil {
			return true, fmt.Errorf("cannot look the token of %s up: %w", client, connect.Explain(err))
		}
		if answer != nil && answer.Data["active"] == true {
			s.clientToken, s.sameToken = s.kept.ClientToken, true
			return true, nil
		}
	}
	secret, err := vault.Logical().WriteWithContext(ctx, mount+"/rotate-client/"+client, nil)
	if err != nil {
		return true, fmt.Errorf("cannot issue another token of %s: %w", client, connect.Explain(err))
	}
	if secret != nil {
		s.clientToken, _ = secret.Data["token"].(string)
	}
	return true, nil
}
