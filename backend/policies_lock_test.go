package backend

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/helper/locksutil"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// A write of a client reads the policies while it holds the client's lock; a delete of
// a policy reads the clients that name it. Neither may wait for the other.
func TestWritersOfClientsAndOfPoliciesDoNotWaitForEachOther(t *testing.T) {
	before := newEnv(t)
	before.write("policies/corp", data{"deniedMcpServers": []any{}})
	held, created := namesOfOneStripe()
	before.client(held, data{})

	reading, goOn := make(chan struct{}), make(chan struct{})
	var paused atomic.Bool
	storage := &hookedStorage{Storage: contentsOf(t, before.storage).storage(t)}
	storage.before = func(what, key string) {
		if what == "list" && key == policyPrefix && paused.CompareAndSwap(false, true) {
			close(reading)
			<-goOn
		}
	}
	e := newEnvOn(t, storage, before.clock) // has nothing in memory
	send := func(op logical.Operation, path string) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := e.b.HandleRequest(context.Background(), &logical.Request{Operation: op, Path: path, Storage: storage, Data: data{}})
			done <- err
		}()
		return done
	}
	finishes := func(what string, done <-chan error) {
		t.Helper()
		select {
		case err := <-done:
			require.NoError(t, err, what)
		case <-time.After(10 * time.Second):
			require.Fail(t, what+" waits for ever")
		}
	}

	deleted := send(logical.DeleteOperation, "policies/corp")
	<-reading
	finishes("creating a client while a policy is being deleted", send(logical.CreateOperation, "clients/"+created))
	close(goOn)
	finishes("deleting a policy", deleted)
	require.Equal(t, []string{held, created}, e.list("clients/"))
	require.Empty(t, e.list("policies/"))
}

// namesOfOneStripe are two client names under the same lock.
func namesOfOneStripe() (a, b string) {
	seen := map[uint8]string{}
	for i := 0; ; i++ {
		name := fmt.Sprintf("c%d", i)
		stripe := locksutil.LockIndexForKey(name)
		if other, ok := seen[stripe]; ok {
			return other, name
		}
		seen[stripe] = name
	}
}
