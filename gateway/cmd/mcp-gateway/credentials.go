package main

import (
	"vault-plugin-secrets-mcp/gateway/config"
	"vault-plugin-secrets-mcp/gateway/credentials"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// makeCredentials makes the store of the servers' credentials. It hears of the end of access
// before those who use credentials do, so that they know by then that theirs are lost.
func (g *gateway) makeCredentials(settings *config.Config) error {
	children, err := vaultclient.NewChildren(g.broker.Login(), settings.Vault, g.log.Named("login"))
	if err != nil {
		return err
	}
	var store *credentials.Store
	observer := g.metrics.Credentials(func() credentials.Stats { return store.Stats() })
	store, err = credentials.New(credentials.Options{
		Config: settings, Vault: children, Live: g.broker.Live, Observer: observer, Log: g.log.Named("credentials"),
	})
	if err != nil {
		return err
	}
	g.broker.OnEnd(store.OnEnd)
	g.credentials = store
	return nil
}
