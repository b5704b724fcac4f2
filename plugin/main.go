// Command vault-plugin-secrets-mcp is the secrets engine as a Vault plugin. Vault
// starts it; it is of no use by itself.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/sdk/plugin"

	"vault-plugin-secrets-mcp/backend"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		hclog.New(&hclog.LoggerOptions{Name: "vault-plugin-secrets-mcp"}).Error("the plugin ends", "error", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	meta := &api.PluginAPIClientMeta{}
	flags := meta.FlagSet()
	version := flags.Bool("version", false, "print the version and exit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *version {
		fmt.Println(backend.Version)
		return nil
	}
	tuneMemory()
	go whenOrphaned(os.Getppid, orphanPoll, func() { os.Exit(0) })
	return plugin.ServeMultiplex(&plugin.ServeOpts{
		BackendFactoryFunc: backend.Factory,
		// Vault older than 1.16 passes certificates instead of using go-plugin's.
		TLSProviderFunc: api.VaultPluginTLSProvider(meta.GetTLSConfig()),
	})
}
