package feed

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/hashicorp/vault/sdk/logical"

	"vault-plugin-secrets-mcp/backend/token"
)

const (
	// Prefix is where the feed keeps everything, relative to the mount.
	Prefix = "feed/"

	stateKey    = Prefix + "state"
	eventPrefix = Prefix + "event/"

	// block is how many indexes one write reserves. A watcher that polls can
	// never be a whole block ahead of a feed that was restored from a snapshot.
	block = 1 << 20
)

// state is what must survive beside the events.
type state struct {
	Epoch    string `json:"epoch"`
	Reserved uint64 `json:"reserved"`
	Floor    uint64 `json:"floor"`
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

	f.mu.Lock()
	defer f.mu.Unlock()
	f.epoch, f.reserved, f.floor, f.head = st.Epoch, st.Reserved, st.Floor, head
	f.log, f.loaded = events, true
	return nil
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
	} else if st.Epoch, err = token.RandomID(f.opts.Random, 16); err != nil {
		return nil, err
	}
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
	st := state{Epoch: f.epoch, Reserved: f.reserved + block, Floor: f.floor}
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
// durable before the first event goes.
func (f *Feed) Prune(ctx context.Context, s logical.Storage) error {
	if err := f.Load(ctx, s); err != nil {
		return err
	}
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
	gone := f.log[:n]
	st := state{Epoch: f.epoch, Reserved: f.reserved, Floor: gone[n-1].Index}
	f.mu.RUnlock()

	if err := writeJSON(ctx, s, stateKey, st); err != nil {
		return fmt.Errorf("prune the change feed: %w", err)
	}
	f.mu.Lock()
	f.floor, f.log = st.Floor, slices.Clone(f.log[n:])
	f.mu.Unlock()
	for i := range gone {
		if err := s.Delete(ctx, eventPrefix+gone[i].id); err != nil {
			return fmt.Errorf("prune the change feed: %w", err)
		}
	}
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
