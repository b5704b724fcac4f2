package grants

import (
	"context"
	"sync"
)

// queue is an unbounded queue. What goes in is bounded by what exists: entries
// and servers.
type queue[T any] struct {
	mu    sync.Mutex
	items []T
	ready chan struct{} // holds a value while there may be items
}

func newQueue[T any]() *queue[T] { return &queue[T]{ready: make(chan struct{}, 1)} }

func (q *queue[T]) push(item T) {
	q.mu.Lock()
	q.items = append(q.items, item)
	q.mu.Unlock()
	wake(q.ready)
}

// pop waits for an item, and reports false when ctx is done.
func (q *queue[T]) pop(ctx context.Context) (item T, ok bool) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			item = q.items[0]
			q.items = q.items[1:]
			if len(q.items) > 0 {
				wake(q.ready) // for the next worker
			}
			q.mu.Unlock()
			return item, true
		}
		q.items = nil
		q.mu.Unlock()
		select {
		case <-q.ready:
		case <-ctx.Done():
			return item, false
		}
	}
}

// wake leaves a value in a channel that holds one, unless one is there.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
