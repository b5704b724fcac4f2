package backend

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/locksutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// Every storage call of every operation goes wrong once, in every way there is,
// in an engine that has just started and in one that has everything in memory.
// Whatever happens:
//
//   - a success is a success: the view is the same as without the fault;
//   - after an error the view is that of before, or that of after the operation, and
//     nothing in between;
//   - a new engine over the same storage sees the same;
//   - a reader of the change feed gets all changes;
//   - no lock stays held;
//   - the same request again succeeds, and has its effect;
//   - no token of a sign-in is active that sign-ins/ does not list.
func TestAnOperationIsDoneOrNotDoneWhateverStorageCallGoesWrong(t *testing.T) {
	w := newWorld(t)
	for _, op := range faultedOperations(w) {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			for _, warm := range []bool{false, true} {
				s := &scenario{world: w, op: op, warm: warm}
				s.runWithoutFault(t)
				for _, f := range op.faults() {
					s.runEveryCall(t, f)
				}
			}
		})
	}
}

// faultedOperation is one operation to go wrong.
type faultedOperation struct {
	name string

	// The request: an operation and its path and data, or else do.
	op   logical.Operation
	path string
	data data
	do   func(ctx context.Context, e *env) (*logical.Response, error)

	// once is how a second attempt may be refused, of an operation that can be done once.
	once string

	// readsOnly: the operation changes nothing.
	readsOnly bool

	// done fails the test unless the operation has had its effect. It gets the answer of
	// the last of the attempts, which succeeded.
	done func(e *env, resp *logical.Response)
}

// faults are the possible faults. Where nothing is written, dying is the same as
// failing.
func (op *faultedOperation) faults() []fault {
	if op.readsOnly {
		return []fault{fails, losesItsCaller}
	}
	return []fault{fails, isDoneAndFails, losesItsCaller, isNotReached, isTheLast}
}

func (op *faultedOperation) send(ctx context.Context, e *env) (*logical.Response, error) {
	if op.do != nil {
		return op.do(ctx, e)
	}
	return e.request(ctx, op.op, op.path, op.data)
}

// scenario is one operation in a cold or a warm engine.
type scenario struct {
	world *world
	op    faultedOperation
	warm  bool

	answer        *logical.Response // without a fault
	answered      []string          // tokens in it
	before, after view
}

// engine starts an engine over a new world. A warm one has been asked for
// everything.
func (s *scenario) engine(t *testing.T) (*env, *faultyStorage) {
	t.Helper()
	storage := &faultyStorage{Storage: s.world.contents.storage(t)}
	e := s.world.start(t, storage, 1)
	if s.warm {
		s.world.look(e)
	}
	return e, storage
}

func (s *scenario) runWithoutFault(t *testing.T) {
	t.Helper()
	e, _ := s.engine(t)
	resp, err := s.op.send(context.Background(), e)
	require.NoError(t, err)
	require.NoError(t, resp.Error())
	e.await()
	s.op.done(e, resp)
	s.answer = resp
	if resp != nil && resp.Data != nil {
		if token, ok := resp.Data["token"].(string); ok {
			s.answered = []string{token}
		}
	}
	s.after = s.world.look(e, s.answered...)
	fresh, _ := s.engine(t)
	s.before = s.world.look(fresh, s.answered...)
	require.Empty(t, s.world.missed(t, e, s.before, s.after, s.before.differences(s.after)), "the change feed does not tell of")
}

// runEveryCall has one storage call after the other go wrong, until the
// operation makes fewer.
func (s *scenario) runEveryCall(t *testing.T, f fault) {
	t.Helper()
	for at := 1; s.run(t, f, at); at++ {
		require.Less(t, at, 1000, "the operation makes storage calls without end")
	}
}

// run has one storage call go wrong, and reports whether there was such a call.
func (s *scenario) run(t *testing.T, f fault, at int) bool {
	t.Helper()
	e, storage := s.engine(t)
	ctx, leave := context.WithCancel(context.Background())
	defer leave()

	storage.arm(at, f, leave)
	resp, err := s.op.send(ctx, e)
	e.await()
	struck := storage.disarm()
	if struck == "" {
		return false
	}
	e.t = quiet{labelled{t, fmt.Sprintf("warm=%t: storage call %d (%s) %s", s.warm, at, struck, faultNames[f])}}

	require.Empty(e.t, e.b.heldLocks(), "locks stay held")
	require.False(e.t, err == nil && resp.IsError(), "the caller is blamed for the storage: %v", resp)
	if err == nil {
		require.Equal(e.t, s.seen(s.answer), s.seen(resp), "a success answers something else")
	}
	if f == losesItsCaller {
		require.True(e.t, err == nil || !s.world.written(e), "it stopped half-way because its caller went away: %v", err)
	}
	if f.deadly() {
		e = s.restarted(e)
	}
	now := s.world.look(e, s.answered...)
	changed := s.check(e, now, err)
	if !f.deadly() && s.world.written(e) {
		again := s.restarted(e)
		require.Empty(e.t, now.differences(s.world.look(again, s.answered...)), "a restart changes")
		s.checkTold(again, now, changed)
		s.retry(again)
	}
	s.retry(e)
	return true
}

// check compares the present view with the allowed ones, and returns the differences from
// before.
func (s *scenario) check(e *env, now view, err error) (changed []string) {
	e.t.Helper()
	notBefore, notAfter := now.differences(s.before), now.differences(s.after)
	if err == nil {
		require.Empty(e.t, notAfter, "it was answered as done, and is not")
	}
	if len(notBefore) > 0 && len(notAfter) > 0 {
		require.Fail(e.t, "neither done nor not done", "not as before: %v\nnot as after: %v\n%s", notBefore, notAfter, now)
	}
	s.checkTold(e, now, notBefore)
	return notBefore
}

// checkTold makes sure that the engine reports the differences: the feed has the changes, and
// sign-ins/ the valid tokens.
func (s *scenario) checkTold(e *env, now view, changed []string) {
	e.t.Helper()
	require.Empty(e.t, s.world.missed(e.t, e, s.before, now, changed), "the change feed does not tell of")
	for key, value := range now {
		if found, ok := value.(data); ok && found["active"] == true && found["sign_in"] != "" {
			require.NotNil(e.t, e.read("sign-ins/"+found["sign_in"].(string)), "%s: nobody sees this sign-in", key)
		}
	}
}

// retry sends the same request again.
func (s *scenario) retry(e *env) {
	e.t.Helper()
	resp, err := s.op.send(context.Background(), e)
	require.NoError(e.t, err, "a retry fails")
	if s.op.once != "" && resp.IsError() {
		require.Equal(e.t, s.op.once, resp.Error().Error())
		return
	}
	require.NoError(e.t, resp.Error(), "a retry is refused")
	e.await()
	s.op.done(e, resp)
	require.Empty(e.t, e.b.heldLocks(), "locks stay held after the retry")
}

// restarted is a new engine over a copy of e's storage.
func (s *scenario) restarted(e *env) *env {
	e.t.Helper()
	again := s.world.start(e.t, contentsOf(e.t, e.storage).storage(e.t), 2)
	require.NoError(e.t, again.b.Initialize(context.Background(), &logical.InitializationRequest{Storage: again.storage}))
	return again
}

// seen is the content of an answer, without the parts that differ each time.
func (s *scenario) seen(resp *logical.Response) string {
	if resp == nil {
		return ""
	}
	return view(withoutFeed(resp.Data)).String()
}

// await waits for the work in the background.
func (e *env) await() {
	e.t.Helper()
	if e.b.tidying.read().State == "running" {
		require.Eventually(e.t, func() bool { return e.b.tidying.read().State != "running" }, 10*time.Second, time.Millisecond)
	}
}

// heldLocks names the locks of the engine that somebody holds.
func (b *mcpBackend) heldLocks() []string {
	var held []string
	for name, stripes := range map[string][]*locksutil.LockEntry{
		"config": b.configs.locks, "mount": b.mounts.locks, "client": b.clients.locks,
		"token": b.pointers.locks, "server": b.servers.locks, "session key": b.keys.locks,
		"KMS": b.kmsEntries.locks, "sign-in": b.signIns.locks, "assertion": b.assertions.locks,
		"pins": b.pins.locks, "usage": b.usage.locks, "usage row": b.usageRows.locks, "usage day": b.usageDays.locks,
	} {
		for i, stripe := range stripes {
			if !stripe.TryLock() {
				held = append(held, fmt.Sprintf("%s %d", name, i))
				continue
			}
			stripe.Unlock()
		}
	}
	if !b.saltLock.TryLock() {
		held = append(held, "salt")
	} else {
		b.saltLock.Unlock()
	}
	if !b.sealing.TryLock() {
		held = append(held, "sealing")
	} else {
		b.sealing.Unlock()
	}
	if !b.policyBook.lock.TryLock() {
		held = append(held, "policies")
	} else {
		b.policyBook.lock.Unlock()
	}
	if !b.policyBook.writing.TryLock() {
		held = append(held, "the writing of policies")
	} else {
		b.policyBook.writing.Unlock()
	}
	slices.Sort(held)
	return held
}

// labelled is a test whose failures name the operation.
type labelled struct {
	*testing.T
	label string
}

func (l labelled) Errorf(format string, args ...any) {
	l.Helper()
	l.T.Errorf("%s\n"+format, append([]any{l.label}, args...)...)
}
