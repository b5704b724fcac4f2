package mcp

import (
	"context"
	"sync"
)

// cut is the context of a request to a server. It ends with that of the client's request, or before
// by cut. It is a [context.WithCancelCause] that costs nothing until somebody waits for it or cuts it:
// most requests are over before.
type cut struct {
	context.Context //nolint:containedctx // the client's

	mu     sync.Mutex
	inner  context.Context //nolint:containedctx // nil: nobody has asked for it
	cancel context.CancelCauseFunc
}

// whole returns the context with all that contexts do.
func (c *cut) whole() (context.Context, context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		c.inner, c.cancel = context.WithCancelCause(c.Context)
	}
	return c.inner, c.cancel
}

// asked returns the context that has an end of its own, if there is one already.
func (c *cut) asked() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner != nil {
		return c.inner
	}
	return c.Context
}

// cut ends the context. The first cause counts.
func (c *cut) cut(cause error) {
	_, cancel := c.whole()
	cancel(cause)
}

// end frees what the context has cost. Nobody waits for it any more.
func (c *cut) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel(nil)
	}
}

// Done implements [context.Context].
func (c *cut) Done() <-chan struct{} {
	whole, _ := c.whole()
	return whole.Done()
}

// Err implements [context.Context].
func (c *cut) Err() error { return c.asked().Err() }

// Value implements [context.Context]. By this, [context.Cause] finds the cause of a cut.
func (c *cut) Value(key any) any { return c.asked().Value(key) }
