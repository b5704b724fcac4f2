package feed

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// history is a test's own record of events, against which a feed is checked.
type history struct {
	given map[uint64]string // indexes that a watcher has got, with their events
}

// note records the feed's answers, and fails the test if an index was given out twice.
func (h *history) note(b *bench) {
	b.t.Helper()
	_, head := b.head()
	for _, e := range b.feed.log {
		require.LessOrEqual(b.t, e.Index, head)
		if held, ok := h.given[e.Index]; ok {
			require.Equal(b.t, held, e.Accessor, "the index %d was used again", e.Index)
		}
		h.given[e.Index] = e.Accessor
	}
}

// check fails the test unless everybody who has been told everything up to some
// index is either told all that came later, or that there is a gap.
func (h *history) check(b *bench) {
	b.t.Helper()
	h.note(b)
	indexes := []uint64{0}
	for index := range h.given {
		indexes = append(indexes, index-1, index)
	}
	for _, at := range indexes {
		answer := b.watch(at, 0)
		if answer.Reset {
			continue
		}
		names := answer.names()
		for index, name := range h.given {
			require.True(b.t, index <= at || slices.Contains(names, name), "who is at %d does not hear of %s at %d", at, name, index)
		}
	}
}

// The process dies before or after each write of a mutation. Where the mutation
// may have been done, the next process tells of it.
func TestAMutationIsHeardOfWhereverTheProcessDies(t *testing.T) {
	for _, done := range []bool{false, true} {
		for at := 1; ; at++ {
			b := newBench(t)
			h := &history{given: map[uint64]string{}}
			_, before := b.head()
			b.publish("earlier")
			h.note(b)

			mutated := false
			b.storage.dieAt(at, done)
			_ = b.feed.Around(context.Background(), b.storage, []Event{event("a"), event("b")}, func() error {
				mutated = true
				return nil
			})
			died := b.storage.died()
			if died {
				b.start()
			}
			b.storage.revive()
			h.check(b)
			names := b.names(before)
			require.Contains(t, names, "earlier")
			if mutated {
				require.Subset(t, names, []string{"a", "b"}, "died at write %d, done %t", at, done)
			}
			b.publish("later")
			h.check(b)
			b.start()
			h.check(b)
			if !died {
				require.Equal(t, 5, at, "a mutation with two events makes four writes of its own")
				break
			}
		}
	}
}

func TestLoadingIsDoneAgainWhereverItFails(t *testing.T) {
	for _, done := range []bool{false, true} {
		for at := 1; ; at++ {
			b := newBench(t)
			h := &history{given: map[uint64]string{}}
			_, before := b.head()
			b.publish("a", "b")
			h.note(b)
			b.storage.dieAt(3, true)
			_ = b.feed.Around(context.Background(), b.storage, []Event{event("c"), event("d")}, func() error { return nil })

			b.start() // which finds c and d without an index
			b.storage.failAt(at, done)
			err := b.feed.Load(context.Background(), b.storage)
			b.storage.revive()
			require.Subset(t, b.names(before), []string{"a", "b", "c", "d"})
			h.check(b)
			if err == nil {
				break
			}
		}
	}
}

// The process dies before or after each write of a pruning. Whatever remains in
// storage, no watcher is served over a gap.
func TestPruningLeavesNoGapWhereverTheProcessDies(t *testing.T) {
	for _, done := range []bool{false, true} {
		for at := 1; ; at++ {
			b := newBench(t)
			h := &history{given: map[uint64]string{}}
			b.publish("a", "b", "c", "d")
			h.note(b)
			b.now = b.now.Add(Retention + time.Second)
			b.publish("e")
			h.check(b)

			b.storage.dieAt(at, done)
			err := b.feed.Prune(context.Background(), b.storage)
			b.start()
			h.check(b)
			b.publish("f")
			h.check(b)
			require.NoError(t, b.feed.Prune(context.Background(), b.storage), "the next process prunes the rest")
			h.check(b)
			b.start()
			h.check(b)
			require.Len(t, b.stored(), 2, "what was pruned stayed in storage")
			if err == nil {
				require.Equal(t, 6, at, "the floor and four events")
				break
			}
		}
	}
}

func TestTheFloorIsDurableBeforeAnEventGoes(t *testing.T) {
	b := newBench(t)
	b.publish("a", "b")
	b.now = b.now.Add(Retention + time.Second)
	b.storage.calls = nil
	require.NoError(t, b.feed.Prune(context.Background(), b.storage))
	require.Equal(t, []string{"put", "delete", "delete"}, b.storage.calls)
	b.storage.calls = nil
	require.NoError(t, b.feed.Prune(context.Background(), b.storage))
	require.Empty(t, b.storage.calls, "there is nothing to prune")
}

func TestWhatCouldNotBeDeletedIsDeletedWithTheNextPruning(t *testing.T) {
	b := newBench(t)
	b.publish("a", "b", "c")
	b.now = b.now.Add(Retention + time.Second)
	b.storage.failAt(3, false)
	require.ErrorIs(t, b.feed.Prune(context.Background(), b.storage), errStorage)
	require.Len(t, b.stored(), 2)
	require.NoError(t, b.feed.Prune(context.Background(), b.storage))
	require.Empty(t, b.stored())
}

func TestEventsAreKeptForTheirTimeAndUpToACount(t *testing.T) {
	b := newBench(t)
	_, start := b.head()
	b.publish("a")
	b.now = b.now.Add(Retention)
	require.NoError(t, b.feed.Prune(context.Background(), b.storage))
	require.Equal(t, []string{"a"}, b.names(start), "an event went before its time")

	for i := range Capacity + 5 {
		b.publish(fmt.Sprint(i))
	}
	require.NoError(t, b.feed.Prune(context.Background(), b.storage))
	require.Len(t, b.feed.log, Capacity)
	require.Len(t, b.stored(), Capacity)
	require.True(t, b.watch(start, 0).Reset)
	require.Equal(t, "5", b.feed.log[0].Accessor)
}

// Deleting thousands of events takes seconds, in which tokens must be revoked.
func TestPruningKeepsNobodyWaiting(t *testing.T) {
	b := newBench(t)
	_, at := b.head()
	b.publish("a")
	b.now = b.now.Add(Retention + time.Second)
	deleting, goOn := make(chan struct{}), make(chan struct{})
	b.storage.hold = func(what string) {
		if what == "delete" {
			close(deleting)
			<-goOn
		}
	}
	pruned := make(chan error)
	go func() { pruned <- b.feed.Prune(context.Background(), b.storage) }()
	<-deleting
	b.publish("b") // hangs where it waits for the pruning
	require.Equal(t, []string{"b"}, b.names(at+1))
	close(goOn)
	require.NoError(t, <-pruned)
}

func TestIndexesAreReservedBeforeTheyAreUsed(t *testing.T) {
	b := newBench(t)
	_, first := b.head()
	require.EqualValues(t, block, first+b.feed.reserved-first, "the first block")
	b.feed.head = b.feed.reserved - block/2 - 2 // as after half a million events
	for i := range 5 {
		b.publish(fmt.Sprint(i))
		_, head := b.head()
		require.LessOrEqual(t, head+block/2, b.feed.reserved+1)
		last := head
		again := &bench{t: t, storage: b.storage, now: b.now}
		again.start()
		_, head = again.head()
		require.GreaterOrEqual(t, head, last, "the next process starts below what was used")
		b.feed.reserved = again.feed.reserved // it has taken a block
	}
}

// Publishers, watchers, pruning and readers of the head, all at once: every
// watcher hears of every event once, with rising indexes.
func TestWatchersLoseNothingAmongManyPublishers(t *testing.T) {
	const publishers, each, watchers = 8, 150, 8
	b := newBench(t)
	epoch, start := b.head()
	var working atomic.Int64
	working.Store(publishers)
	var all sync.WaitGroup
	for p := range publishers {
		all.Go(func() {
			defer working.Add(-1)
			for i := range each {
				events := []Event{event(fmt.Sprintf("%d-%d", p, i))}
				if err := b.feed.Around(context.Background(), b.storage, events, func() error { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for working.Load() > 0 {
			if err := b.feed.Prune(context.Background(), b.storage); err != nil {
				t.Error(err)
			}
		}
	})
	for range watchers {
		all.Go(func() {
			seen, at := map[string]bool{}, start
			for len(seen) < publishers*each {
				answer, err := b.feed.Watch(context.Background(), b.storage, epoch, at, time.Minute, watchers)
				if err != nil || answer.Reset || len(answer.Events) == 0 {
					t.Errorf("after %d events at %d: %+v %v", len(seen), at, answer, err)
					return
				}
				for _, e := range answer.Events {
					if e.Index <= at || seen[e.Accessor] {
						t.Errorf("%s at %d came after %d", e.Accessor, e.Index, at)
						return
					}
					seen[e.Accessor], at = true, e.Index
				}
				if answer.Index != at {
					t.Errorf("the answer's index is %d, its last event's %d", answer.Index, at)
					return
				}
			}
		})
	}
	all.Wait()
	require.Zero(t, b.feed.Watchers())
	b.start()
	require.False(t, b.watch(start, 0).Reset)
	require.Len(t, b.feed.log, publishers*each, "the next process does not know of all")
}

// A reading that began before a mutation wrote is older than the mutation's
// index; one whose head is not older saw the mutation's write.
func TestTheHeadOrdersReadingsAndMutations(t *testing.T) {
	b := newBench(t)
	var value atomic.Uint64
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_ = b.feed.Around(context.Background(), b.storage, []Event{event("x")}, func() error {
					value.Add(1)
					return nil
				})
			}
		})
	}
	for range 2000 {
		_, index, err := b.feed.Head(context.Background(), b.storage)
		require.NoError(t, err)
		require.GreaterOrEqual(t, value.Load(), index, "an event was told before its mutation wrote")
	}
	close(stop)
	all.Wait()
}

func TestManyLoadsAtOnceAreOne(t *testing.T) {
	b := newBench(t)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { b.head() })
	}
	all.Wait()
	require.Equal(t, []string{"put"}, b.storage.calls)
}
