package bridge

import (
	"context"
	"sync"
)

const (
	// maxQueueBytes bounds the messages that wait for a client that does not read.
	maxQueueBytes = 8 << 20
	// maxQueueItems bounds them where they are small.
	maxQueueItems = 4096
)

// Item is one message for a client.
type Item struct {
	Message []byte
	Final   bool // it is the answer to the request; nothing follows
	Failed  bool // the answer is an error
	Code    int  // of that error
}

// queue holds the messages that one HTTP answer has not sent yet. Any goroutine may
// put; one calls next.
type queue struct {
	mu    sync.Mutex
	items []Item
	bytes int
	err   error // no more items come; next still returns those that are there
	ready chan struct{}
}

func newQueue() *queue { return &queue{ready: make(chan struct{}, 1)} }

// put never blocks. It reports false if the queue has ended, or is full and so ends
// with this item.
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

// close ends the queue after the items in it.
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

// next waits for the next item.
func (q *queue) next(ctx context.Context) (Item, error) {
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

// holds reports whether an item is there.
func (q *queue) holds() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) > 0
}

// drain removes and returns all items.
func (q *queue) drain() []Item {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items, q.bytes = nil, 0
	return items
}

// failure is the cause of the queue's end; nil if it has not ended.
func (q *queue) failure() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}
