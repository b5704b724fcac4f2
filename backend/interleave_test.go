package backend

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// A gateway throws a reading away where the change feed has an event about it
// with a greater index than the reading's. So whatever the order in which a
// reading and a change of what it reads take their steps: the reading knows of
// the change, or its index is smaller than the change's; and no later reading has the
// old state.
func TestAReadingThatIsOlderThanAChangeSaysSo(t *testing.T) {
	w := newWorld(t)
	for _, op := range faultedOperations(w) {
		if op.readsOnly {
			continue
		}
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			for _, warm := range []bool{false, true} {
				s := &scenario{world: w, op: op, warm: warm}
				s.runWithoutFault(t)
				for _, key := range s.changed() {
					for _, paused := range []string{"reading", "change"} {
						for at := 1; s.interleave(t, key, paused, at); at++ {
							require.Less(t, at, 1000)
						}
					}
				}
			}
		})
	}
}

// changed are the entries for gateways that the operation changes.
func (s *scenario) changed() []string {
	var keys []string
	for _, key := range s.before.differences(s.after) {
		switch kind, _, _ := strings.Cut(key, " "); kind {
		case "token":
			if !sameGrant(s.before[key], s.after[key]) {
				keys = append(keys, key)
			}
		case "server", "pins":
			keys = append(keys, key)
		}
	}
	return keys
}

// reading is an answer that a gateway has read, with its age.
type reading struct {
	value any
	index uint64
}

// readAs reads a view's entry under the key, as a gateway does.
func (w *world) readAs(e *env, key string) (reading, error) {
	kind, name, _ := strings.Cut(key, " ")
	op, path, d := logical.Operation(logical.UpdateOperation), "lookup", data{"token": w.tokens[name]}
	switch kind {
	case "server":
		op, path, d = logical.ReadOperation, "gateway/servers", nil
	case "pins":
		op, path, d = logical.ReadOperation, "gateway/pins/"+name, nil
	}
	resp, err := e.request(context.Background(), op, path, d)
	if err != nil {
		return reading{}, err
	}
	r := reading{value: withoutFeed(resp.Data), index: resp.Data["index"].(uint64)}
	if kind == "server" {
		r.value = resp.Data["servers"].(map[string]any)[name]
		for _, field := range []string{"pinned_servers", "credential_servers"} {
			if held, ok := resp.Data[field].(map[string]any)[name]; ok {
				r.value = held
			}
		}
	}
	return r, resp.Error()
}

// interleave pauses the reading or the change at a step, and has the other one run
// meanwhile: to its end, unless it waits for the paused one. It reports whether
// there was such a step.
func (s *scenario) interleave(t *testing.T, key, paused string, at int) bool {
	t.Helper()
	e, _ := s.engine(t)
	gate := &gate{at: at, reached: make(chan string, 1), goOn: make(chan struct{})}
	gated := *e
	gated.storage = &hookedStorage{Storage: e.storage, before: gate.before, after: gate.after}

	var r reading
	read := func(e *env) error {
		var err error
		r, err = s.world.readAs(e, key)
		return err
	}
	change := func(e *env) error {
		resp, err := s.op.send(context.Background(), e)
		if err != nil {
			return err
		}
		return resp.Error()
	}
	first, second := read, change
	if paused == "change" {
		first, second = change, read
	}

	firstDone := inBackground(func() error { return first(&gated) })
	var where string
	select {
	case err := <-firstDone:
		require.NoError(t, err)
		return false
	case where = <-gate.reached:
	}
	e.t = quiet{labelled{t, fmt.Sprintf("%s, warm=%t: the %s pauses %s", key, s.warm, paused, where)}}
	secondDone := inBackground(func() error { return second(e) })
	select {
	case err := <-secondDone:
		require.NoError(e.t, err)
		secondDone = nil
	case <-time.After(10 * time.Millisecond): // it waits for a lock, or the machine is slow
	}
	close(gate.goOn)
	require.NoError(e.t, <-firstDone)
	if secondDone != nil {
		require.NoError(e.t, <-secondDone)
	}
	s.checkReading(e, key, r)
	return true
}

func inBackground(do func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	return done
}

// checkReading fails the test unless the reading is right or says that it is old.
func (s *scenario) checkReading(e *env, key string, r reading) {
	e.t.Helper()
	if !reflect.DeepEqual(r.value, s.after[key]) {
		answer, err := e.b.feed.Watch(context.Background(), e.storage, s.world.epoch, r.index, 0, 0)
		require.NoError(e.t, err)
		require.True(e.t, answer.Reset || told(answer.Events, key, s.before[key], s.after[key]),
			"the reading at %d is old, and no later event says so: %v", r.index, answer.Events)
	}
	again, err := s.world.readAs(e, key)
	require.NoError(e.t, err)
	require.Empty(e.t, view{key: again.value}.differences(view{key: s.after[key]}), "what is gone was kept in memory")
}

// gate pauses a storage once, before or after one of its calls: the at-th of all
// these steps.
type gate struct {
	at      int
	reached chan string
	goOn    chan struct{}

	mu    sync.Mutex
	steps int
}

func (g *gate) before(what, key string) { g.pause("before " + what + " " + key) }
func (g *gate) after(what, key string)  { g.pause("after " + what + " " + key) }

func (g *gate) pause(where string) {
	g.mu.Lock()
	g.steps++
	here := g.steps == g.at
	g.mu.Unlock()
	if here {
		g.reached <- where
		<-g.goOn
	}
}
