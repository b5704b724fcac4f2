package backend

import (
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/kms"
	"vault-plugin-secrets-mcp/backend/token"
)

// The same as TestAnOperationIsDoneOrNotDoneWhateverStorageCallGoesWrong, for
// operations with AWS KMS.
func TestAnOperationWithKMSIsDoneOrNotDoneWhateverStorageCallGoesWrong(t *testing.T) {
	w, operations := newSealedWorld(t)
	t.Run("operations", func(t *testing.T) {
		for _, op := range operations {
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
	})
}

// newSealedWorld makes a mount with data keys, and the operations on it. Its clients:
//
//	s  sealed: a current token, a predecessor, and a leased one
//	p  not sealed
func newSealedWorld(t *testing.T) (*world, []faultedOperation) {
	t.Helper()
	e := newKMSEnv(t)
	e.kms.CreateKey("alias/next")
	w := &world{tokens: map[string]string{}, accessor: map[string]string{}, leases: map[string]lease{}}
	e.read("gateway/keys") // which makes them
	w.tokens["s before"] = e.client("s", data{"seal": "kms"})
	w.tokens["s"] = e.rotate("s", data{"grace_period": "1h"})
	w.leases["s leased"] = *e.lease("s", data{"ttl": "1h"})
	w.tokens["s leased"] = w.leases["s leased"].token
	w.tokens["p"] = e.client("p", data{})
	w.tokens["new"] = customNew // nobody's yet
	w.take(e.env)
	return w, e.faultedOperations(w)
}

func (e *kmsEnv) faultedOperations(w *world) []faultedOperation {
	ciphertext := e.encrypt(customNew, kms.TokenContext(testAccessor, "p"))
	inner, dataKey := e.open(w.tokens["s"])
	active := func(names ...string) func(*env, *logical.Response) {
		return func(e *env, _ *logical.Response) { w.requireActive(e, true, names...) }
	}
	ended := func(names ...string) func(*env, *logical.Response) {
		return func(e *env, _ *logical.Response) { w.requireActive(e, false, names...) }
	}
	sealed := func(others ...string) func(*env, *logical.Response) {
		return func(e *env, resp *logical.Response) {
			e.t.Helper()
			require.True(e.t, token.IsSealed(resp.Data["token"].(string)))
			w.rotated(others...)(e, resp)
		}
	}
	dataKeys := func(want int) func(*env, *logical.Response) {
		return func(e *env, _ *logical.Response) {
			e.t.Helper()
			require.GreaterOrEqual(e.t, len(e.read("config/kms")["data_keys"].([]string)), want)
			w.requireActive(e, true, "s", "s before", "s leased", "p")
		}
	}
	answered := func(*env, *logical.Response) {}
	all := []faultedOperation{
		{name: "creating a sealed client", path: "clients/new", data: data{"seal": "kms"}, done: w.aClientWithAToken("new")},
		{name: "rotating a sealed client", path: "rotate-client/s", done: sealed("s", "s before", "s leased", "p")},
		{name: "leasing a sealed token", op: logical.ReadOperation, path: "creds/s", data: data{"ttl": "5m"}, done: sealed("s")},
		{name: "renewing the lease of a sealed token", do: w.renewLease("s leased"), done: active("s leased")},
		{name: "revoking a sealed token", path: "revoke", data: data{"token": w.tokens["s"]}, done: ended("s")},
		{name: "giving a client an encrypted token", path: "clients/p", data: data{"access_token_ciphertext": ciphertext}, done: active("new", "p")},
		{name: "rotating to an encrypted token", path: "rotate-client/p", data: data{"access_token_ciphertext": ciphertext}, done: active("new", "p")},
		{name: "making a data key", path: "config/kms/rotate", done: dataKeys(2)},
		{name: "changing the KMS key", path: "config/kms", data: data{"key_id": "alias/next"}, done: dataKeys(2)},
		{name: "changing the audience", path: "config/kms", data: data{"audience": "other"}, done: dataKeys(2)},
		{name: "changing nothing about KMS", path: "config/kms", data: data{"region": e.kms.Region()}, done: dataKeys(1)},
		{name: "having everything sealed", path: "config", data: data{"seal": "kms"}, done: active("s", "p")},
		{name: "doing without KMS", op: logical.DeleteOperation, path: "config/kms", data: data{"force": true}, done: ended("s", "s before", "s leased")},
		{name: "looking up a sealed token", readsOnly: true, path: "lookup", data: data{"token": w.tokens["s"]}, done: answered},
		{name: "looking up an opened token", readsOnly: true, path: "lookup", data: data{"token": inner, "data_key": dataKey}, done: answered},
		{name: "introspecting a sealed token", readsOnly: true, path: "introspect", data: data{"token": w.tokens["s"]}, done: answered},
		{name: "reading the data keys", readsOnly: true, op: logical.ReadOperation, path: "gateway/data-keys", done: answered},
	}
	for i := range all {
		if all[i].op == "" {
			all[i].op = logical.UpdateOperation
		}
	}
	return all
}
