// Package feed is the change feed. It tells every gateway, within milliseconds and without
// polling, that a token, a client, a policy, a server or the configuration has changed.
//
// # The order that makes it safe
//
// [Feed.Around] runs each mutation of the engine in four steps:
//
//  1. intent: it writes the event to storage, without an index;
//  2. the mutation itself writes durably;
//  3. under one mutex it gives the event the next index, adds it to the log and wakes the
//     watchers. It does so even if step 2 returned an error, since the write may have
//     happened anyway;
//  4. it writes the event again, now with its index, and returns to the caller.
//
// A crash between 1 and 4 leaves an event without an index. [Feed.Load] gives it one, so
// gateways still learn of a mutation whose answer was lost. A superfluous event only costs
// a gateway one more lookup; a missing event would let a revoked token pass.
//
// A reader takes [Feed.Head] before its first storage read. If it read storage before a
// mutation wrote, the mutation's index is greater than that head. A gateway that has
// applied this index drops the reading.
//
// # Indexes
//
// A run takes its indexes from blocks that are reserved in storage before their first use,
// so no index is ever used twice, whatever a crash has lost. Each run first skips a random
// number of indexes. So two runs that start from the same snapshot, restored twice, do not
// use the same ones. Indexes rise, but have holes.
//
// The feed keeps events for [Retention], and at most [Capacity] of them. The floor is the
// greatest index that it no longer keeps. A watcher below the floor, above the head or of
// another epoch cannot be served without a gap, and is told to reset. So is a watcher at an
// index that storage does not know: it has heard of changes that a restored snapshot has
// undone.
package feed

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/token"
)

const (
	// Retention is how long an event is kept for watchers that fell behind.
	Retention = 10 * time.Minute

	// Capacity is how many events are kept at most.
	Capacity = 8192

	// MaxAnswer is how many events one answer holds at most.
	MaxAnswer = 1000

	// Coalesce is how long the first event of a burst waits for others, so that
	// several within that time are one answer.
	Coalesce = 20 * time.Millisecond
)

// Type says what kind of thing an event is about.
type Type string

// The types of events.
const (
	Token  Type = "token"
	Client Type = "client"
	Role   Type = "role" // every client that has it
	Policy Type = "policy"
	Server Type = "server"
	Config Type = "config"
	Mount  Type = "mount" // every token of the mount
)

// Operation is the kind of change.
type Operation string

// The operations. Revoke and Delete take access away for good: a gateway that holds a
// grant ends it without asking again. After an Update it must ask again.
const (
	Create Operation = "create"
	Update Operation = "update"
	Revoke Operation = "revoke"
	Delete Operation = "delete"
)

// Event is one change.
type Event struct {
	Index     uint64    `json:"index"`
	Type      Type      `json:"type"`
	Operation Operation `json:"operation"`
	Client    string    `json:"client,omitempty"`
	ClientID  string    `json:"client_id,omitempty"`
	Accessor  string    `json:"accessor,omitempty"`
	SignIn    string    `json:"sign_in,omitempty"` // that has leased the token
	Name      string    `json:"name,omitempty"`
	Time      time.Time `json:"time"`

	// id is the key in storage.
	id string
}

// Answer is the answer to a watcher.
type Answer struct {
	Epoch  string
	Index  uint64
	Reset  bool
	Events []Event
}

// Options are the parts of the outside world that a feed needs. Where one has its zero
// value, the feed uses the real one.
type Options struct {
	Now    func() time.Time
	Random io.Reader
	Logger hclog.Logger
}

// Feed is the log of one mount. It is safe for concurrent use.
type Feed struct {
	opts Options

	loading sync.Mutex // held while the log is read from storage

	mu       sync.RWMutex
	loaded   bool
	epoch    string
	head     uint64   // index of the newest event
	floor    uint64   // greatest index that is no longer kept
	runs     []uint64 // after which the last runs began; never changed inside
	reserved uint64   // greatest index that may be used without writing
	log      []Event
	gone     []string      // keys in storage of events that are no longer kept
	wake     chan struct{} // closed to wake the watchers
	pending  bool          // a wake-up is on its way
	watchers int
	closed   bool
}

// New returns a feed that is not loaded yet.
func New(opts Options) *Feed {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Random == nil {
		opts.Random = rand.Reader
	}
	if opts.Logger == nil {
		opts.Logger = hclog.NewNullLogger()
	}
	return &Feed{opts: opts, wake: make(chan struct{})}
}

// Head returns the epoch and the index of the newest event. Take it before the first
// storage read of an answer that is compared with the feed.
func (f *Feed) Head(ctx context.Context, s logical.Storage) (epoch string, index uint64, err error) {
	f.mu.RLock()
	epoch, index, loaded := f.epoch, f.head, f.loaded
	f.mu.RUnlock()
	if loaded {
		return epoch, index, nil
	}
	if err := f.Load(ctx, s); err != nil {
		return "", 0, err
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.epoch, f.head, nil
}

// Around runs mutate between the durable intent and the publication of its
// events, as the package comment says. The error is that of the intent, in which
// case mutate did not run, or that of mutate.
func (f *Feed) Around(ctx context.Context, s logical.Storage, events []Event, mutate func() error) error {
	if err := f.Load(ctx, s); err != nil {
		return err
	}
	for i := range events {
		if err := f.intend(ctx, s, &events[i]); err != nil {
			f.forget(ctx, s, events[:i])
			return err
		}
	}
	err := mutate()
	for i := range events {
		f.publish(ctx, s, &events[i])
	}
	return err
}

func (f *Feed) intend(ctx context.Context, s logical.Storage, e *Event) error {
	if err := f.reserve(ctx, s); err != nil {
		return fmt.Errorf("reserve an index for the change: %w", err)
	}
	id, err := token.RandomID(f.opts.Random, 16)
	if err != nil {
		return err
	}
	e.id, e.Index, e.Time = id, 0, f.opts.Now()
	if err := f.write(ctx, s, e); err != nil {
		return fmt.Errorf("announce the change: %w", err)
	}
	return nil
}

// forget removes intents whose mutation never ran. Where that fails too, the
// next load publishes them, which costs gateways a lookup and nothing else.
func (f *Feed) forget(ctx context.Context, s logical.Storage, events []Event) {
	for i := range events {
		if err := s.Delete(ctx, eventPrefix+events[i].id); err != nil {
			f.opts.Logger.Warn("an unused change event stays until it is pruned", "error", err)
		}
	}
}

// publish gives e its index and wakes the watchers. It has no error: where the
// index cannot be stored, the intent is, and the next load publishes it again.
func (f *Feed) publish(ctx context.Context, s logical.Storage, e *Event) {
	f.mu.Lock()
	f.head++
	e.Index = f.head
	f.log = append(f.log, *e)
	f.announce()
	f.mu.Unlock()

	if err := f.write(ctx, s, e); err != nil {
		f.opts.Logger.Warn("a change event is durable without its index and will be published again after a restart", "error", err)
	}
}

// announce wakes the watchers after the coalescing time. The caller holds mu.
func (f *Feed) announce() {
	if f.pending || f.closed {
		return
	}
	f.pending = true
	time.AfterFunc(Coalesce, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.pending = false
		f.release()
	})
}

// release wakes every watcher now. The caller holds mu.
func (f *Feed) release() {
	if f.closed {
		return
	}
	close(f.wake)
	f.wake = make(chan struct{})
}

// Close releases all watchers, at once and for good: a held request would keep
// Vault from sealing, stepping down or unmounting.
func (f *Feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.release()
		f.closed = true
	}
}

// Watch answers with the events after index, and waits up to wait for the first
// of them. It answers at once where the caller cannot be served without a gap
// (Reset), where maxWatchers are waiting already, and when ctx ends.
func (f *Feed) Watch(ctx context.Context, s logical.Storage, epoch string, index uint64, wait time.Duration, maxWatchers int) (Answer, error) {
	if err := f.Load(ctx, s); err != nil {
		return Answer{}, err
	}
	answer, wake := f.since(epoch, index)
	if wake == nil || wait <= 0 || !f.enter(maxWatchers) {
		return answer, nil
	}
	defer f.leave()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	// A wake-up may be for events that the caller has been given already.
	for wake != nil {
		select {
		case <-wake:
			answer, wake = f.since(epoch, index)
		case <-timer.C:
			answer, _ = f.since(epoch, index)
			return answer, nil
		case <-ctx.Done():
			return answer, nil
		}
	}
	return answer, nil
}

// Watchers returns how many watchers wait now.
func (f *Feed) Watchers() int {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.watchers
}

// since returns the events that a watcher at index has missed or, if there are none,
// the channel to wait on (nil otherwise). Taking both under one lock loses no event in
// between.
func (f *Feed) since(epoch string, index uint64) (Answer, <-chan struct{}) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if epoch != f.epoch || index < f.floor || index > f.head {
		return Answer{Epoch: f.epoch, Index: f.head, Reset: true}, nil
	}
	first, _ := slices.BinarySearchFunc(f.log, index+1, func(e Event, i uint64) int {
		switch {
		case e.Index < i:
			return -1
		case e.Index > i:
			return 1
		default:
			return 0
		}
	})
	// If there is neither an event nor the start of a run at the index, this history never
	// gave the index to a watcher. The index belongs to a history that the restore of a
	// snapshot has undone.
	given := index == f.floor || slices.Contains(f.runs, index) || first > 0 && f.log[first-1].Index == index
	if !given {
		return Answer{Epoch: f.epoch, Index: f.head, Reset: true}, nil
	}
	missed := f.log[first:]
	if len(missed) == 0 {
		if f.closed {
			return Answer{Epoch: f.epoch, Index: f.head}, nil
		}
		return Answer{Epoch: f.epoch, Index: f.head}, f.wake
	}
	answer := Answer{Epoch: f.epoch, Index: f.head}
	if len(missed) > MaxAnswer {
		missed = missed[:MaxAnswer]
		answer.Index = missed[MaxAnswer-1].Index
	}
	answer.Events = slices.Clone(missed)
	return answer, nil
}

func (f *Feed) enter(maxWatchers int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watchers >= maxWatchers {
		return false
	}
	f.watchers++
	return true
}

func (f *Feed) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watchers--
}
