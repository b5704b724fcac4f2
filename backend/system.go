package backend

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
)

// cachedSystem answers from memory, for a second, what the framework asks of the
// system on every request. Each of these questions is a call back into Vault, and
// takes about as long as a lookup.
type cachedSystem struct {
	logical.SystemView
	now  func() time.Time
	held atomic.Pointer[systemState]
}

type systemState struct {
	replication consts.ReplicationState
	local       bool
	until       time.Time
}

func newCachedSystem(view logical.SystemView, now func() time.Time) *cachedSystem {
	return &cachedSystem{SystemView: view, now: now}
}

// ReplicationState returns the node's replication state, at most a second old.
func (c *cachedSystem) ReplicationState() consts.ReplicationState { return c.state().replication }

// LocalMount reports whether the mount is local to its cluster.
func (c *cachedSystem) LocalMount() bool { return c.state().local }

func (c *cachedSystem) state() *systemState {
	now := c.now()
	if held := c.held.Load(); held != nil && now.Before(held.until) {
		return held
	}
	asked := &systemState{
		replication: c.SystemView.ReplicationState(), local: c.SystemView.LocalMount(), until: now.Add(time.Second),
	}
	c.held.Store(asked)
	return asked
}
