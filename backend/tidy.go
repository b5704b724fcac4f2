package backend

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
)

const (
	// tidyEvery is how often the periodic function starts a run.
	tidyEvery = time.Hour

	// tidyBudget is how long a run started by the periodic function may take; the
	// next one goes on where it stopped.
	tidyBudget = 20 * time.Second

	// tidyMinAge is how old an unconfirmed pointer must be to be removed: a
	// younger one may belong to a write that has not committed yet.
	tidyMinAge = 10 * time.Minute
)

// tidyStatus is what tidy/status answers.
type tidyStatus struct {
	State          string // idle, running, finished, paused or failed
	StartedAt      time.Time
	FinishedAt     time.Time
	Error          string
	TokensChecked  int64
	TokensRemoved  int64
	ClientsChecked int64
	Progress       int // percent
	position       tidyPosition
}

// tidyPosition is how far a run is: a stage, and the last name that is done.
type tidyPosition struct {
	stage int
	after string
}

// tidyRun guards the one run that there may be.
type tidyRun struct {
	mu      sync.Mutex
	running bool
	status  tidyStatus
}

// begin takes the run, unless there is one already.
func (t *tidyRun) begin(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running {
		return false
	}
	t.running = true
	t.status = tidyStatus{State: "running", StartedAt: now, position: t.status.position}
	return true
}

func (t *tidyRun) end(now time.Time, done bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running = false
	t.status.FinishedAt = now
	switch {
	case err != nil:
		t.status.State, t.status.Error = "failed", err.Error()
		t.status.position = tidyPosition{}
	case done:
		t.status.State, t.status.Progress = "finished", 100
		t.status.position = tidyPosition{}
	default:
		t.status.State = "paused"
	}
}

func (t *tidyRun) update(change func(*tidyStatus)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.status)
}

func (t *tidyRun) read() tidyStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

// tidyWhenDue starts a bounded run, or the rest of one that was paused.
func (b *mcpBackend) tidyWhenDue(s logical.Storage) {
	now := b.now()
	status := b.tidying.read()
	if status.State != "paused" && now.Unix()-b.lastTidy.Load() < int64(tidyEvery/time.Second) {
		return
	}
	b.startTidy(s, tidyBudget)
}

// startTidy runs tidy in the background, for at most budget (0: to its end). It
// answers false where a run is under way.
func (b *mcpBackend) startTidy(s logical.Storage, budget time.Duration) bool {
	if !b.tidying.begin(b.now()) {
		return false
	}
	b.lastTidy.Store(b.now().Unix())
	ctx, cancel := b.background, context.CancelFunc(func() {})
	if budget > 0 {
		ctx, cancel = context.WithTimeout(ctx, budget)
	}
	go func() {
		defer cancel()
		err := b.tidy(ctx, s)
		if ctx.Err() != nil {
			b.tidying.end(b.now(), false, nil)
			return
		}
		if err != nil {
			b.Logger().Error("tidy failed, and starts again with the next run", "error", err)
		}
		b.tidying.end(b.now(), err == nil, err)
	}()
	return true
}

// tidyStage is one kind of entry to look at: the folders or entries, in order,
// and what to do with each.
type tidyStage struct {
	list func(ctx context.Context, s logical.Storage) ([]string, error)
	step func(ctx context.Context, s logical.Storage, name string) error
}

// tidyStages are what a run does, in order: expired tokens of the clients' lists,
// lease entries without a token, ids of clients that are gone, and shard by
// shard the pointers that no client confirms. Every step holds the lock of one
// entry alone.
func (b *mcpBackend) tidyStages() []tidyStage {
	folder := func(prefix string) func(context.Context, logical.Storage) ([]string, error) {
		return func(ctx context.Context, s logical.Storage) ([]string, error) { return s.List(ctx, prefix) }
	}
	return []tidyStage{
		{folder(clientPrefix), b.tidyClient},
		{folder(leasePrefix), b.tidyLeases},
		{folder(uidPrefix), b.tidyID},
		{folder(tokenPrefix), b.tidyShard},
	}
}

// tidy goes through the stages from where the last run was paused.
func (b *mcpBackend) tidy(ctx context.Context, s logical.Storage) error {
	stages := b.tidyStages()
	at := b.tidying.read().position
	for ; at.stage < len(stages); at = (tidyPosition{stage: at.stage + 1}) {
		names, err := stages[at.stage].list(ctx, s)
		if err != nil {
			return err
		}
		for i, name := range names {
			if name <= at.after {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := stages[at.stage].step(ctx, s, name); err != nil {
				return err
			}
			b.tidying.update(func(t *tidyStatus) {
				t.position = tidyPosition{stage: at.stage, after: name}
				t.Progress = (100*at.stage + 100*(i+1)/len(names)) / len(stages)
			})
		}
	}
	return nil
}

// tidyClient takes expired tokens out of the client's list. Custom ones stay
// remembered as spent.
func (b *mcpBackend) tidyClient(ctx context.Context, s logical.Storage, name string) error {
	b.tidying.update(func(t *tidyStatus) { t.ClientsChecked++ })
	held, err := b.clients.get(ctx, s, name)
	if err != nil || held == nil || !held.hasExpired(b.now()) {
		return err
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	defer b.clients.lock(name)()
	if held, err = b.clients.getLocked(ctx, s, name); err != nil || held == nil {
		return err
	}
	change := &clientChange{name: name, next: held.clone()}
	for _, t := range held.Tokens {
		if t.expired(b.now()) {
			change.dropped = append(change.dropped, change.next.remove(t.Accessor)...)
		}
	}
	change.spent = change.dropped
	b.tidying.update(func(t *tidyStatus) { t.TokensRemoved += int64(len(change.dropped)) })
	return b.commit(ctx, s, change)
}

func (c *clientEntry) hasExpired(now time.Time) bool {
	for i := range c.Tokens {
		if c.Tokens[i].expired(now) {
			return true
		}
	}
	return false
}

// tidyShard checks the pointers of one folder.
func (b *mcpBackend) tidyShard(ctx context.Context, s logical.Storage, shard string) error {
	hashes, err := b.pointers.list(ctx, s, shard)
	if err != nil {
		return err
	}
	for _, hash := range hashes {
		if err := b.tidyPointer(ctx, s, shard+hash); err != nil {
			return err
		}
	}
	return nil
}

// tidyPointer removes the pointer if it is expired, or old enough and confirmed
// by no client.
func (b *mcpBackend) tidyPointer(ctx context.Context, s logical.Storage, hash string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.tidying.update(func(t *tidyStatus) { t.TokensChecked++ })
	p, err := b.pointers.read(ctx, s, hash) // not through the cache, which serves lookups
	if err != nil || p == nil || b.now().Sub(p.IssuedAt) < tidyMinAge && !(p.Kind == kindLeased && p.expired(b.now())) {
		return err
	}
	needed, err := b.pointerNeeded(ctx, s, p, hash)
	if err != nil || needed {
		return err
	}
	ctx, cancel := durable(ctx)
	defer cancel()
	if p.Kind == kindLeased {
		_, err = b.endLeased(ctx, s, p.Client, p.Accessor, hash)
	} else {
		err = b.deletePointer(ctx, s, hash, p.Accessor)
	}
	if err == nil {
		b.tidying.update(func(t *tidyStatus) { t.TokensRemoved++ })
	}
	return err
}

// pointerNeeded tells whether p can still admit anybody, now or later: a
// disabled client's can.
func (b *mcpBackend) pointerNeeded(ctx context.Context, s logical.Storage, p *pointer, hash string) (bool, error) {
	c, err := b.clients.get(ctx, s, p.Client)
	if err != nil || c == nil || c.ID != p.ClientID {
		return false, err
	}
	if p.Kind != kindLeased {
		return c.own(hash) != nil, nil
	}
	m, err := b.mountEntry(ctx, s)
	return err == nil && p.Generation == c.Generation && p.MountGeneration == m.Generation && !p.expired(b.now()), err
}

// tidyLeases removes the lease entries of one client whose pointer is gone.
func (b *mcpBackend) tidyLeases(ctx context.Context, s logical.Storage, folder string) error {
	id := strings.TrimSuffix(folder, "/")
	suffixes, err := s.List(ctx, leaseKey(id, ""))
	if err != nil {
		return err
	}
	for _, suffix := range suffixes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.tidyLease(ctx, s, id, suffix); err != nil {
			return err
		}
	}
	return nil
}

// tidyLease removes a lease entry without a pointer, unless it is so young that
// its pointer may still be on the way.
func (b *mcpBackend) tidyLease(ctx context.Context, s logical.Storage, id, suffix string) error {
	key := leaseKey(id, suffix)
	var lease leaseEntry
	if ok, err := getJSON(ctx, s, key, &lease); err != nil || !ok {
		return err
	}
	p, err := b.pointers.read(ctx, s, lease.Hash)
	if err != nil || p != nil || b.now().Sub(lease.IssuedAt) < tidyMinAge {
		return err
	}
	return s.Delete(ctx, key)
}

// tidyID removes the index of an id whose client is gone.
func (b *mcpBackend) tidyID(ctx context.Context, s logical.Storage, id string) error {
	var uid uidEntry
	if ok, err := getJSON(ctx, s, uidPrefix+id, &uid); err != nil || !ok {
		return err
	}
	defer b.clients.lock(uid.Client)()
	c, err := b.clients.getLocked(ctx, s, uid.Client)
	if err != nil || c != nil && c.ID == id {
		return err
	}
	return s.Delete(ctx, uidPrefix+id)
}
