package main

import (
	"context"
	"time"

	"vault-plugin-secrets-mcp/gateway/pins"
	"vault-plugin-secrets-mcp/gateway/usage"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// lastReport bounds the time in which the gateway, at its end, sends the reports that wait.
const lastReport = 5 * time.Second

// newUsage makes the recorder of uses, which reports them under the gateway's id.
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

// newPins makes the keeper that judges servers' definitions, and reports those without approval.
func (g *gateway) newPins() *pins.Keeper {
	var keeper *pins.Keeper
	observer := g.metrics.Pins(func() int { return keeper.Waiting() })
	keeper = pins.New(pins.Options{
		Engine:   vaultclient.NewEngine(g.broker.Login(), g.settings.Vault),
		Registry: g.broker.Server,
		Observer: observer,
		Log:      g.log.Named("pins"),
	})
	return keeper
}

// reporter reports to Vault in the background, and at the gateway's end the rest.
type reporter interface {
	Run(ctx context.Context)
	Close(ctx context.Context)
}

// report has r report. stop has it report the rest.
func report(background context.Context, r reporter) (stop func()) {
	ctx, cancel := context.WithCancel(background)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
		last, end := context.WithTimeout(background, lastReport)
		defer end()
		r.Close(last)
	}
}
