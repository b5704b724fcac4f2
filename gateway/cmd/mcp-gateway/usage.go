package main

import (
	"context"
	"time"

	"vault-plugin-secrets-mcp/gateway/usage"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// lastReport bounds the time in which the gateway tells Vault, at its end, what was used.
const lastReport = 5 * time.Second

// newUsage makes what notes and reports what is used, under the gateway's id.
func (g *gateway) newUsage(id string) *usage.Recorder {
	var recorder *usage.Recorder
	observer := g.metrics.Usage(func() usage.Stats { return recorder.Stats() })
	recorder = usage.New(usage.Options{
		Gateway:  id,
		Engine:   vaultclient.NewEngine(g.broker.Login(), g.settings.Vault),
		Observer: observer,
		Log:      g.log.Named("usage"),
	})
	return recorder
}

// runUsage reports in the background. stop reports the rest.
func (g *gateway) runUsage(background context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(background)
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.usage.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
		last, end := context.WithTimeout(background, lastReport)
		defer end()
		g.usage.Close(last)
	}
}
