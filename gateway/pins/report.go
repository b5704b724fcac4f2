package pins

import (
	"context"
	"errors"
	"time"

	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

const (
	// reportEvery is the least time between two reports.
	reportEvery = time.Second

	// reportTimeout bounds one.
	reportTimeout = 5 * time.Second

	// unsupportedEvery is the time between two reports about a server of which Vault takes none.
	unsupportedEvery = 10 * time.Minute

	// tidyEvery is the time between two looks for servers that are not pinned any more, and between
	// two lines of the log about definitions that had none of their own.
	tidyEvery = time.Minute
)

// failedEvery is the time between two reports about a server while Vault fails.
var failedEvery = backoff.Backoff{Min: time.Second, Max: time.Minute}

// Engine takes reports: [vaultclient.Engine].
type Engine interface {
	ReportPins(ctx context.Context, server string, report *vaultclient.PinReport) (*vaultclient.PinsReported, error)
}

// Run makes a report a second, while there is something to report, until ctx is done. Then
// Close reports the rest.
func (k *Keeper) Run(ctx context.Context) {
	for backoff.Sleep(ctx, reportEvery) == nil {
		k.Tick(ctx)
	}
}

// Tick makes one report, if there is anything to report.
func (k *Keeper) Tick(ctx context.Context) {
	now := k.options.Now()
	if now.Sub(k.tidied) >= tidyEvery {
		k.tidied = now
		k.outboxes.tell(k.log, now)
		k.prune()
	}
	if report := k.next(now, false); report != nil {
		k.send(ctx, report, now)
	}
}

// next returns the next report about a server that is still pinned.
func (k *Keeper) next(now time.Time, last bool) *batch {
	for {
		report := k.outboxes.next(now, last)
		if report == nil || k.isPinned(report.server) {
			return report
		}
		k.outboxes.settle(report, true, atOnce)
	}
}

// Close sends the reports that wait, as far as the time of ctx goes. Nothing is judged any more by then.
func (k *Keeper) Close(ctx context.Context) {
	for ctx.Err() == nil {
		now := k.options.Now()
		report := k.next(now, true)
		if report == nil {
			return
		}
		if !k.send(ctx, report, now) {
			break
		}
	}
	if waiting := k.Waiting(); waiting > 0 {
		k.log.Warn("the gateway ends before Vault has been told of all definitions that nobody has approved", "definitions", waiting)
	}
}

// send sends a report. It forgets the definitions of one that Vault has taken or will never take;
// of any other it returns false, and keeps them.
func (k *Keeper) send(ctx context.Context, report *batch, now time.Time) (done bool) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	answer, err := k.options.Engine.ReportPins(ctx, report.server, &report.PinReport)
	result, refused := "failed", 0
	after := func(failures int) time.Time { return now.Add(failedEvery.After(failures)) }
	switch {
	case err == nil:
		result, refused, done, after = "ok", answer.Refused+answer.Lost, true, atOnce
	case errors.Is(err, vaultclient.ErrPinReport): // nor would it take the report the next time
		result, refused, done, after = "refused", len(report.Definitions), true, atOnce
	case errors.Is(err, vaultclient.ErrNoPinReports):
		result, after = "unsupported", func(int) time.Time { return now.Add(unsupportedEvery) }
	}
	k.outboxes.settle(report, done, after)
	k.told(result, report.server, err)
	k.observe(func(o Observer) {
		o.PinsReported(result)
		if refused > 0 {
			o.PinsRefused(refused)
		}
	})
	return done
}

// atOnce has a server report again in its next turn.
func atOnce(int) time.Time { return time.Time{} }

// told logs when reports about the first server fail, and when reports about all succeed
// again.
func (k *Keeper) told(result, server string, err error) {
	failing := len(k.failing)
	delete(k.failing, server)
	switch result {
	case "refused":
		k.log.Warn("Vault does not take a report of definitions of a server", "server", server, "error", err)
	case "failed", "unsupported":
		k.failing[server] = true
	}
	switch {
	case failing > 0 && len(k.failing) == 0:
		k.log.Info("Vault takes reports of definitions of servers again")
	case failing > 0 || len(k.failing) == 0:
	case result == "unsupported":
		k.log.Warn("Vault takes no reports of definitions of a server from this gateway: grant the gateway's policy update on gateway/pins/+ of the mount, or upgrade the engine",
			"server", server, "error", err)
	default:
		k.log.Warn("a report of definitions of a server did not reach Vault: trying again", "server", server, "error", err)
	}
}
