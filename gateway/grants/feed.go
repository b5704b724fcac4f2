package grants

import (
	"context"
	"errors"
	"time"

	"vault-plugin-secrets-mcp/gateway/backoff"
	"vault-plugin-secrets-mcp/gateway/vaultclient"
)

// FeedState tells how the change feed fares.
type FeedState int32

// States of the feed.
const (
	FeedDown        FeedState = iota // grants grow old, up to max_stale
	FeedUp                           // changes arrive as they happen
	FeedUnsupported                  // the engine or the policy of the gateway's login does not offer it
)

// String is the state's name in logs and metrics.
func (s FeedState) String() string {
	switch s {
	case FeedUp:
		return "up"
	case FeedUnsupported:
		return "unsupported"
	}
	return "down"
}

const (
	// unsupportedMaxAge is how long a grant lives where there is no feed at all.
	unsupportedMaxAge = time.Second

	// feedSlack is the time that an answer of the feed may take beyond its wait.
	feedSlack = time.Second

	// feedPatience bounds a request that is not held. It follows a failure. A Vault
	// node that has just become active is slow: with less time each request would be
	// given up, and the next one sent, before the answer came.
	feedPatience = 2 * time.Second

	// feedRest is the time between an answer with changes and the next request: all
	// that changes meanwhile comes as one answer. Otherwise each of many revocations
	// would have all gateways ask Vault at once.
	feedRest = 50 * time.Millisecond

	// feedPace is the least time between two requests that were answered
	// without being held: Vault has its reasons, and a revocation must still
	// arrive within a second.
	feedPace = 400 * time.Millisecond

	// feedPauseUnsupported is the time between two requests where there is no feed.
	feedPauseUnsupported = 5 * time.Second
)

// feedBackoff is the time from one request that fails to the next. It is short, since
// a request that fails at once costs Vault little, and those who were revoked meanwhile
// pass until the next one succeeds.
var feedBackoff = backoff.Backoff{Min: 100 * time.Millisecond, Max: time.Second}

// runFeed holds one request for changes open at all times.
func (b *Broker) runFeed(ctx context.Context) {
	failures := 0
	for b.awaitLogin(ctx) == nil {
		sent := time.Now()
		pause, err := b.poll(ctx, failures > 0)
		if err != nil && ctx.Err() == nil {
			failures++
			// One that hung has been waited for already.
			pause = b.feedFailed(err, failures) - time.Since(sent)
			b.log.Debug("a request for changes failed", "failures", failures, "took", time.Since(sent).String(), "error", err)
		} else {
			failures = 0
		}
		if backoff.Sleep(ctx, pause) != nil {
			return
		}
	}
}

// poll makes one request for changes, applies the answer, and says how long to
// wait before the next one. After a failure the request asks to be answered at
// once: the sooner Vault is known to answer, the sooner grants are confirmed.
func (b *Broker) poll(ctx context.Context, atOnce bool) (time.Duration, error) {
	v := b.position.Load()
	wait, bound := time.Duration(0), feedPatience
	if !atOnce {
		// Vault reads whole seconds, and does not hold a request for less than one.
		wait = max(backoff.Jitter(min(b.options.Grants.Wait, b.options.Grants.MaxStale/3)).Round(time.Second), time.Second)
		bound = wait + feedSlack
	}
	pollCtx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	sent := time.Now()
	answer, err := b.engine.Changes(pollCtx, v.epoch, v.applied, wait)
	if err != nil {
		return 0, err
	}
	b.outage.Observe(nil)
	b.apply(answer, sent)
	if FeedState(b.feedState.Swap(int32(FeedUp))) != FeedUp {
		b.log.Info("the change feed is up", "epoch", answer.Epoch, "index", answer.Index)
		wake(b.wakeRegistry)
		b.mu.Lock()
		close(b.back)
		b.mu.Unlock()
	}
	first := v.epoch == ""
	switch {
	case len(answer.Changes) > 0:
		return backoff.Jitter(feedRest), nil
	case !first && time.Since(sent) < wait/4:
		return backoff.Jitter(feedPace), nil
	}
	return 0, nil
}

// feedFailed notes a failure, and returns the time between the failed request and the
// next one. The first one is asked again at once: a change of
// leader or a reload of the plugin ends the request that was held, and the next one
// succeeds. Where its answer is overdue, though, the feed is down already.
func (b *Broker) feedFailed(err error, failures int) time.Duration {
	if errors.Is(err, vaultclient.ErrNoFeed) {
		b.feedLost(FeedUnsupported, unsupportedMaxAge, err)
		return backoff.Jitter(feedPauseUnsupported)
	}
	if failures > 1 || errors.Is(err, context.DeadlineExceeded) {
		b.feedLost(FeedDown, b.options.Grants.MaxStale, err)
	}
	if failures == 1 {
		return 0
	}
	return feedBackoff.After(failures - 1)
}

// feedLost has grants grow old from their last confirmation on.
func (b *Broker) feedLost(state FeedState, maxAge time.Duration, err error) {
	old := FeedState(b.feedState.Swap(int32(state)))
	b.mu.Lock()
	v := *b.position.Load()
	v.synced, v.maxAge = false, min(maxAge, b.options.Grants.MaxStale)
	b.position.Store(&v)
	if old == FeedUp {
		b.back = make(chan struct{})
	}
	b.mu.Unlock()
	if old != state {
		wake(b.wakeRegistry)
		b.log.Warn("the change feed does not answer: a revocation may take as long as a grant may grow old",
			"max_age", v.maxAge.String(), "error", err)
	}
}

// feedBack returns a channel that is closed once the feed is up again, and nil if it is up.
func (b *Broker) feedBack() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.back:
		return nil
	default:
		return b.back
	}
}
