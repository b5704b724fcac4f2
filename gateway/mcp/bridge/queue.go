package bridge

import (
	"context"
	"sync"
)

const (
	// maxQueueBytes bounds what is kept for a client that does not read.
	maxQueueBytes = 8 << 20
	// maxQueueItems does so for many small messages.
	maxQueueItems = 4096
)

// Item is one message for a client.
type Item struct {
	Message []byte
	Final   bool // the answer to the request; nothing follows
	Failed  bool // the final answer is an error
	Code    int  // that error's
}

// queue holds what one HTTP answer is still to be sent. Any goroutine may put;
// one takes.
type queue struct {
	mu    sync.Mutex
	items []Item
	bytes int
	err   error // no more items come; what is there may be taken
	ready chan struct{}
}

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

// put never blocks. It reports false if the queue has ended, or ends with this
// item because nobody reads.
func (q *queue) put(item Item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return false
	}
	if q.bytes+len(item.Message) > maxQueueBytes && len(q.items) > 0 || len(q.items) == maxQueueItems {
		q.end(ErrSlow)
		return false
	}
	q.items = append(q.items, item)
	q.bytes += len(item.Message)
	q.wake()
	return true
}

// close ends the queue, behind what is in it.
func (q *queue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.end(err)
}

func (q *queue) end(err error) {
	if q.err == nil {
		q.err = err
		q.wake()
	}
}

func (q *queue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take waits for the next item.
func (q *queue) take(ctx context.Context) (Item, error) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			item := q.items[0]
			q.items[0] = Item{}
			q.items = q.items[1:]
			q.bytes -= len(item.Message)
			q.mu.Unlock()
			return item, nil
		}
		err := q.err
		q.mu.Unlock()
		if err != nil {
			return Item{}, err
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return Item{}, ctx.Err()
		}
	}
}

// drain takes all that is there.
func (q *queue) drain() []Item {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items, q.bytes = nil, 0
	return items
}

// failure is why the queue has ended; nil if it has not.
func (q *queue) failure() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}
