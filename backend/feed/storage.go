package feed

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"slices"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/token"
)

const (
	// Prefix is where the feed keeps everything, relative to the mount.
	Prefix = "feed/"

	stateKey    = Prefix + "state"
	eventPrefix = Prefix + "event/"

	// block is how many indexes one write reserves.
	block = 1 << 20

	// gap bounds the indexes that a run leaves out before its first. How many is
	// left to chance, so that two runs over the same state, which there are where
	// one snapshot is restored twice, hand out different indexes.
	gap = 1 << 40

	// maxRuns is how many runs are remembered. A watcher whose last index is from before
	// the oldest of them is told to reset.
	maxRuns = 64
)

// state is the part of the feed, besides the events, that must survive.
type state struct {
	Epoch    string `json:"epoch"`
	Reserved uint64 `json:"reserved"`
	Floor    uint64 `json:"floor"`
	// Runs are the indexes after which the last runs began. Watchers have been told
	// of them before the first event of the run.
	Runs []uint64 `json:"runs,omitempty"`
}

// Load reads the log from storage, once. It gives an index to every event that
// a crash left without one.
func (f *Feed) Load(ctx context.Context, s logical.Storage) error {
	if f.isLoaded() {
		return nil
	}
	f.loading.Lock()
	defer f.loading.Unlock()
	if f.isLoaded() {
		return nil
	}

	st, err := f.nextBlock(ctx, s)
	if err != nil {
		return fmt.Errorf("load the change feed: %w", err)
	}
	events, err := f.readEvents(ctx, s)
	if err != nil {
		return fmt.Errorf("load the change feed: %w", err)
	}
	head := st.Reserved - block
	for i := range events {
		if events[i].Index != 0 {
			continue
		}
		head++
		events[i].Index = head
		if err := f.write(ctx, s, &events[i]); err != nil {
			return fmt.Errorf("load the change feed: %w", err)
		}
	}
	slices.SortFunc(events, func(a, b Event) int { return cmp.Compare(a.Index, b.Index) })
	// Events at or below the floor were being deleted.
	kept := slices.IndexFunc(events, func(e Event) bool { return e.Index > st.Floor })
	if kept < 0 {
		kept = len(events)
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	f.epoch, f.reserved, f.floor, f.runs, f.head = st.Epoch, st.Reserved, st.Floor, st.Runs, head
	f.log, f.gone, f.loaded = events[kept:], keys(events[:kept]), true
	return nil
}

func keys(events []Event) []string {
	keys := make([]string, 0, len(events))
	for i := range events {
		keys = append(keys, eventPrefix+events[i].id)
	}
	return keys
}

func (f *Feed) isLoaded() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.loaded
}

// nextBlock reserves the indexes of this run. A mount without a state gets a new
// epoch.
func (f *Feed) nextBlock(ctx context.Context, s logical.Storage) (*state, error) {
	st := &state{}
	entry, err := s.Get(ctx, stateKey)
	if err != nil {
		return nil, err
	}
	if entry != nil {
		if err := entry.DecodeJSON(st); err != nil {
			return nil, err
		}
		left, err := rand.Int(f.opts.Random, big.NewInt(gap))
		if err != nil {
			return nil, err
		}
		st.Reserved += left.Uint64()
	} else if st.Epoch, err = token.RandomID(f.opts.Random, 16); err != nil {
		return nil, err
	}
	st.Runs = append(st.Runs[max(0, len(st.Runs)-maxRuns+1):], st.Reserved)
	st.Reserved += block
	return st, writeJSON(ctx, s, stateKey, st)
}

func (f *Feed) readEvents(ctx context.Context, s logical.Storage) ([]Event, error) {
	ids, err := s.List(ctx, eventPrefix)
	if err != nil {
		return nil, err
	}
	events := make([]Event, 0, len(ids))
	for _, id := range ids {
		entry, err := s.Get(ctx, eventPrefix+id)
		if err != nil {
			return nil, err
		}
		if entry == nil {
			continue
		}
		e := Event{id: id}
		if err := entry.DecodeJSON(&e); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, nil
}

// reserve makes sure that half a block of indexes is left, far more than there
// can be mutations under way. It writes once in half a million events.
func (f *Feed) reserve(ctx context.Context, s logical.Storage) error {
	f.loading.Lock()
	defer f.loading.Unlock()
	f.mu.RLock()
	st := state{Epoch: f.epoch, Reserved: f.reserved + block, Floor: f.floor, Runs: f.runs}
	enough := f.head+block/2 < f.reserved
	f.mu.RUnlock()
	if enough {
		return nil
	}
	if err := writeJSON(ctx, s, stateKey, st); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reserved = st.Reserved
	return nil
}

// Prune forgets events older than Retention or beyond Capacity. The floor is
// durable before the first event goes. Events that cannot be deleted are left to the
// next call.
func (f *Feed) Prune(ctx context.Context, s logical.Storage) error {
	if err := f.Load(ctx, s); err != nil {
		return err
	}
	if err := f.raiseFloor(ctx, s); err != nil {
		return fmt.Errorf("prune the change feed: %w", err)
	}
	f.mu.Lock()
	gone := f.gone
	f.gone = nil
	f.mu.Unlock()
	// Without any lock: deleting thousands of events takes seconds.
	for i, key := range gone {
		if err := s.Delete(ctx, key); err != nil {
			f.mu.Lock()
			f.gone = append(f.gone, gone[i:]...)
			f.mu.Unlock()
			return fmt.Errorf("prune the change feed: %w", err)
		}
	}
	return nil
}

// raiseFloor takes events that are too old or too many out of the log.
func (f *Feed) raiseFloor(ctx context.Context, s logical.Storage) error {
	f.loading.Lock()
	defer f.loading.Unlock()

	f.mu.RLock()
	oldest := f.opts.Now().Add(-Retention)
	n := max(0, len(f.log)-Capacity)
	for n < len(f.log) && f.log[n].Time.Before(oldest) {
		n++
	}
	if n == 0 {
		f.mu.RUnlock()
		return nil
	}
	st := state{Epoch: f.epoch, Reserved: f.reserved, Floor: f.log[n-1].Index, Runs: f.runs}
	f.mu.RUnlock()

	if err := writeJSON(ctx, s, stateKey, st); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = append(f.gone, keys(f.log[:n])...)
	f.floor, f.log = st.Floor, slices.Clone(f.log[n:])
	return nil
}

func (f *Feed) write(ctx context.Context, s logical.Storage, e *Event) error {
	return writeJSON(ctx, s, eventPrefix+e.id, e)
}

func writeJSON(ctx context.Context, s logical.Storage, key string, v any) error {
	entry, err := logical.StorageEntryJSON(key, v)
	if err != nil {
		return err
	}
	return s.Put(ctx, entry)
}
