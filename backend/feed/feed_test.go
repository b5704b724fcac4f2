package feed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// bench is a feed over storage in memory.
type bench struct {
	t       testing.TB
	feed    *Feed
	storage *mortal
	now     time.Time
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, storage: &mortal{Storage: &logical.InmemStorage{}}, now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	b.start()
	return b
}

// start is a new process over the same storage.
func (b *bench) start() {
	b.storage.revive()
	b.feed = New(Options{Now: func() time.Time { return b.now }})
}

func event(name string) Event {
	return Event{Type: Token, Operation: Revoke, Accessor: name}
}

// publish runs a mutation that does nothing but announce itself.
func (b *bench) publish(names ...string) {
	b.t.Helper()
	for _, name := range names {
		require.NoError(b.t, b.feed.Around(context.Background(), b.storage, []Event{event(name)}, func() error { return nil }))
	}
}

func (b *bench) head() (epoch string, index uint64) {
	b.t.Helper()
	epoch, index, err := b.feed.Head(context.Background(), b.storage)
	require.NoError(b.t, err)
	return epoch, index
}

// watch waits for the events after index.
func (b *bench) watch(index uint64, wait time.Duration) Answer {
	b.t.Helper()
	epoch, _ := b.head()
	answer, err := b.feed.Watch(context.Background(), b.storage, epoch, index, wait, 100)
	require.NoError(b.t, err)
	return answer
}

func (a *Answer) names() []string {
	names := make([]string, 0, len(a.Events))
	for _, e := range a.Events {
		names = append(names, e.Accessor)
	}
	return names
}

func TestAMutationRunsBetweenItsIntentAndItsPublication(t *testing.T) {
	b := newBench(t)
	_, before := b.head()
	b.storage.calls = nil
	err := b.feed.Around(context.Background(), b.storage, []Event{event("a"), event("b")}, func() error {
		stored := b.stored()
		require.Len(t, stored, 2, "an intent is not durable before the mutation")
		for _, e := range stored {
			require.Zero(t, e.Index, "an intent has an index")
		}
		_, head := b.head()
		require.Equal(t, before, head, "an event is announced before its mutation")
		b.storage.note("mutate")
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{"put", "put", "mutate", "put", "put"}, b.storage.calls)
	require.Equal(t, []string{"a", "b"}, b.names(before))
	for _, e := range b.stored() {
		require.NotZero(t, e.Index, "a published event is not durable with its index")
	}
}

func TestAMutationThatFailsIsAnnouncedAllTheSame(t *testing.T) {
	b := newBench(t)
	_, before := b.head()
	failure := errors.New("perhaps it is done")
	require.Equal(t, failure, b.feed.Around(context.Background(), b.storage, []Event{event("a")}, func() error { return failure }))
	require.Equal(t, []string{"a"}, b.names(before))
}

func TestAMutationWithoutAnIntentDoesNotRun(t *testing.T) {
	b := newBench(t)
	_, before := b.head()
	for at := 1; at <= 2; at++ { // of two intents
		b.storage.failAt(at, false)
		err := b.feed.Around(context.Background(), b.storage, []Event{event("a"), event("b")}, func() error {
			require.Fail(t, "the mutation ran")
			return nil
		})
		require.ErrorIs(t, err, errStorage)
		b.storage.revive()
		require.Empty(t, b.names(before))
		require.Empty(t, b.stored(), "the other intent was not taken back")
	}
	b.storage.failAt(1, true) // done all the same
	require.Error(t, b.feed.Around(context.Background(), b.storage, []Event{event("a")}, func() error { return nil }))
	b.start()
	require.Equal(t, []string{"a"}, b.names(before), "an intent that may be there is published by the next process")
}

func TestWhoCannotBeServedWithoutAGapIsTold(t *testing.T) {
	b := newBench(t)
	epoch, first := b.head()
	b.publish("a", "b", "c")
	_, head := b.head()
	b.now = b.now.Add(Retention + time.Second)
	b.publish("d")
	require.NoError(t, b.feed.Prune(context.Background(), b.storage))
	_, last := b.head()

	for _, tc := range []struct {
		name  string
		epoch string
		index uint64
		reset bool
		want  []string
	}{
		{name: "a first request", epoch: "", index: 0, reset: true},
		{name: "another mount's epoch", epoch: "other", index: head, reset: true},
		{name: "an index whose events are gone", epoch: epoch, index: first, reset: true},
		{name: "an index in the middle of what is gone", epoch: epoch, index: head - 1, reset: true},
		{name: "an index that was never given out", epoch: epoch, index: last + 1, reset: true},
		{name: "the floor itself", epoch: epoch, index: head, want: []string{"d"}},
		{name: "the head", epoch: epoch, index: last, want: []string{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			answer, err := b.feed.Watch(context.Background(), b.storage, tc.epoch, tc.index, 0, 1)
			require.NoError(t, err)
			require.Equal(t, tc.reset, answer.Reset)
			require.Equal(t, last, answer.Index)
			require.Equal(t, epoch, answer.Epoch)
			if !tc.reset {
				require.Equal(t, tc.want, answer.names())
			}
		})
	}
}

// TestAWatcherOfAHistoryThatWasUndoneIsTold restores a snapshot under a watcher
// that has heard of later changes.
func TestAWatcherOfAHistoryThatWasUndoneIsTold(t *testing.T) {
	b := newBench(t)
	b.publish("before")
	_, known := b.head()
	snapshot := b.snapshot()
	b.publish("undone", "undone too")
	_, undone := b.head()

	b.restore(snapshot)
	answer := b.watch(undone, 0)
	require.True(t, answer.Reset, "changes that never were are taken for the present")
	answer = b.watch(known, 0)
	require.False(t, answer.Reset, "what was before the snapshot still is")

	b.publish("after")
	answer = b.watch(undone, 0)
	require.True(t, answer.Reset, "also when there are changes of the new history")
	_, head := b.head()
	b.start()
	answer = b.watch(head, 0)
	require.False(t, answer.Reset, "a restart undoes nothing")
	answer = b.watch(undone, 0)
	require.True(t, answer.Reset, "nor does it make good what was undone")
}

// TestAWatcherOfOneRestoreIsToldOfTheNext restores one snapshot twice. Both times as
// much happens afterwards, so that heads by mere counting would be the same.
func TestAWatcherOfOneRestoreIsToldOfTheNext(t *testing.T) {
	b := newBench(t)
	b.publish("before")
	_, known := b.head()
	snapshot := b.snapshot()
	var undone []uint64
	for range 3 {
		b.restore(snapshot)
		answer := b.watch(known, 0)
		require.False(t, answer.Reset, "what was before the snapshot still is")
		_, began := b.head()
		b.publish("after")
		_, head := b.head()
		for range 2 { // and a restart undoes nothing
			for _, index := range undone {
				answer = b.watch(index, 0)
				require.True(t, answer.Reset, "a watcher of the restore before takes %d for the present", index)
			}
			answer = b.watch(began, 0)
			require.False(t, answer.Reset)
			require.Equal(t, []string{"after"}, answer.names())
			answer = b.watch(head, 0)
			require.False(t, answer.Reset)
			b.start()
		}
		undone = append(undone, began, head)
	}
}

// TestRunsInWhichNothingHappensAreNotRememberedForEver restarts more often than runs
// are remembered.
func TestRunsInWhichNothingHappensAreNotRememberedForEver(t *testing.T) {
	b := newBench(t)
	b.publish("first")
	b.start()
	_, forgotten := b.head()
	for range maxRuns {
		_, last := b.head()
		b.start()
		answer := b.watch(last, 0)
		require.False(t, answer.Reset, "a restart undoes nothing")
	}
	require.Len(t, b.feed.runs, maxRuns)
	answer := b.watch(forgotten, 0)
	require.True(t, answer.Reset)
}

// snapshot copies all of the storage.
func (b *bench) snapshot() map[string][]byte {
	b.t.Helper()
	all := map[string][]byte{}
	keys, err := logical.CollectKeys(context.Background(), b.storage)
	require.NoError(b.t, err)
	for _, key := range keys {
		entry, err := b.storage.Get(context.Background(), key)
		require.NoError(b.t, err)
		all[key] = entry.Value
	}
	return all
}

// restore puts back the copied storage, and starts a new process over it.
func (b *bench) restore(snapshot map[string][]byte) {
	b.t.Helper()
	b.storage.Storage = &logical.InmemStorage{}
	for key, value := range snapshot {
		require.NoError(b.t, b.storage.Put(context.Background(), &logical.StorageEntry{Key: key, Value: value}))
	}
	b.start()
}

func TestAnAnswerHoldsAThousandEventsAndTheNextOneTheRest(t *testing.T) {
	b := newBench(t)
	_, at := b.head()
	want := make([]string, 2*MaxAnswer+10)
	for i := range want {
		want[i] = fmt.Sprint(i)
	}
	b.publish(want...)
	var got []string
	for _, size := range []int{MaxAnswer, MaxAnswer, 10, 0} {
		answer := b.watch(at, 0)
		require.False(t, answer.Reset)
		require.Len(t, answer.Events, size)
		got, at = append(got, answer.names()...), answer.Index
	}
	require.Equal(t, want, got)
}

func TestSeveralEventsWithinTheCoalescingTimeAreOneAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		_, at := b.head()
		started := time.Now()
		answers := make(chan Answer)
		go func() { answers <- b.watch(at, 5*time.Second) }()
		synctest.Wait()

		b.publish("a")
		<-time.After(Coalesce / 2)
		b.publish("b", "c")
		answer := <-answers
		require.Equal(t, []string{"a", "b", "c"}, answer.names())
		require.Equal(t, Coalesce, time.Since(started), "the first event waits for the coalescing time, and no longer")
		b.publish("d")
		require.Equal(t, []string{"d"}, b.names(answer.Index), "who asks later is answered at once")
	})
}

// An event is answered at once to who asks for it; the wake-up that it has caused
// comes later, and is no news to them.
func TestAWakeUpWithoutNewsIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		_, at := b.head()
		b.publish("a")
		at = b.watch(at, 5*time.Second).Index
		started := time.Now()
		require.Empty(t, b.watch(at, 5*time.Second).Events)
		require.Equal(t, 5*time.Second, time.Since(started))
	})
}

func TestAWatcherWaitsNoLongerThanItAsks(t *testing.T) {
	for name, tc := range map[string]struct {
		wait, want time.Duration
		limit      int
		end        func(b *bench, cancel context.CancelFunc)
	}{
		"until its wait is over":             {wait: 5 * time.Second, want: 5 * time.Second, limit: 1},
		"not at all without a wait":          {wait: 0, want: 0, limit: 1},
		"not at all where none may wait":     {wait: 5 * time.Second, want: 0, limit: 0},
		"until its caller goes away":         {wait: 5 * time.Second, want: time.Second, limit: 1, end: func(_ *bench, cancel context.CancelFunc) { cancel() }},
		"until the feed is closed":           {wait: 5 * time.Second, want: time.Second, limit: 1, end: func(b *bench, _ context.CancelFunc) { b.feed.Close() }},
		"until the feed is closed, twice so": {wait: 5 * time.Second, want: time.Second, limit: 1, end: func(b *bench, _ context.CancelFunc) { b.feed.Close(); b.feed.Close() }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				epoch, at := b.head()
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				if tc.end != nil {
					time.AfterFunc(time.Second, func() { tc.end(b, cancel) })
				}
				started := time.Now()
				answer, err := b.feed.Watch(ctx, b.storage, epoch, at, tc.wait, tc.limit)
				require.NoError(t, err)
				require.Equal(t, Answer{Epoch: epoch, Index: at}, answer)
				require.Equal(t, tc.want, time.Since(started))
				require.Zero(t, b.feed.Watchers())
			})
		})
	}
}

func TestAClosedFeedHoldsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		_, at := b.head()
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { b.watch(at, time.Hour) })
		}
		synctest.Wait()
		require.Equal(t, 50, b.feed.Watchers())
		started := time.Now()
		b.feed.Close()
		all.Wait()
		require.Empty(t, b.watch(at, time.Hour).Events)
		b.publish("a") // a last mutation is done all the same
		require.Equal(t, []string{"a"}, b.names(at))
		require.Zero(t, time.Since(started))
	})
}

func TestOneTooManyIsAnsweredAtOnceAndAPlaceThatIsLeftIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		epoch, at := b.head()
		var all sync.WaitGroup
		watch := func(wait time.Duration) {
			_, err := b.feed.Watch(context.Background(), b.storage, epoch, at, wait, 2)
			require.NoError(t, err)
		}
		all.Go(func() { watch(time.Second) })
		all.Go(func() { watch(3 * time.Second) })
		synctest.Wait()
		started := time.Now()
		watch(10 * time.Second)
		require.Zero(t, time.Since(started), "there was no place for it")
		<-time.After(2 * time.Second)
		watch(10 * time.Second)
		require.Equal(t, 12*time.Second, time.Since(started), "the place of the first was free")
		all.Wait()
	})
}
