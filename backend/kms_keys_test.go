package backend

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/kms"
	double "vault-plugin-secrets-mcp/test/kms"
)

// drained is when nothing can be sealed any more under a key that was superseded.
const drained = dataKeySettles + dataKeyDrains + time.Second

func TestTokensUnderAnOlderDataKeyStillOpen(t *testing.T) {
	e := newKMSEnv(t)
	first := e.client("c", data{"seal": "kms"})
	old := e.currentKey()
	changes := e.watch(func() { e.write("config/kms/rotate", nil) })
	require.Equal(t, "config", changes[0]["type"])
	require.Equal(t, "data-keys", changes[0]["name"])
	require.Len(t, e.read("gateway/data-keys")["data_keys"], 2)

	require.Equal(t, old, e.currentKey(), "a data key seals before every gateway knows it")
	e.clock.Advance(dataKeySettles)
	require.NotEqual(t, old, e.currentKey())
	second := e.client("d", data{"seal": "kms"})
	require.Equal(t, e.currentKey(), e.lookup(second)["data_key"])
	require.Equal(t, old, e.lookup(first)["data_key"])

	again := e.restart()
	require.True(t, again.active(first))
	require.True(t, again.active(second))
}

func TestDataKeysOfAnEarlierKMSKeyStillOpen(t *testing.T) {
	e := newKMSEnv(t)
	first := e.client("c", data{"seal": "kms"})
	next := e.kms.CreateKey("alias/next")
	e.write("config/kms", data{"key_id": "alias/next"})
	require.Equal(t, next, e.read("config/kms")["key_arn"])
	second := e.client("d", data{"seal": "kms"}) // at once: the old key may be out of order
	require.Equal(t, e.currentKey(), e.lookup(second)["data_key"])
	again := e.restart()
	require.True(t, again.active(first))

	e.kms.Disable(e.arn)
	again.clock.Advance(kms.Period)
	require.False(t, again.active(first))
	require.True(t, again.active(second), "a disabled key touched tokens of another")
}

func TestTidyRemovesDataKeysWithoutLiveTokens(t *testing.T) {
	e := newKMSEnv(t)
	own := e.client("own", data{"seal": "kms"})
	e.clock.Advance(time.Minute)
	e.write("config/kms/rotate", nil)
	e.clock.Advance(drained)
	leased := e.lease("own", data{"ttl": "2h"})
	e.clock.Advance(time.Minute)
	e.write("config/kms/rotate", nil)
	e.clock.Advance(drained)
	e.client("gone", data{"seal": "kms"})
	e.client("short", data{"seal": "kms", "token_ttl": "30m"})
	e.clock.Advance(time.Minute)
	e.write("config/kms/rotate", nil)

	keys := func() int { return len(e.read("config/kms")["data_keys"].([]string)) }
	e.delete("clients/gone")
	e.tidyToEnd()
	require.Equal(t, 4, keys(), "a data key went that a request may just have sealed with")
	e.clock.Advance(drained)
	e.tidyToEnd()
	require.Equal(t, 4, keys(), "a data key went under which a token lives")
	e.clock.Advance(30 * time.Minute)
	changes := e.watch(func() { e.tidyToEnd() })
	require.Equal(t, 3, keys(), "the third has no live token")
	require.Equal(t, "data-keys", changes[len(changes)-1]["name"])
	require.True(t, e.active(own))
	require.True(t, e.active(leased.token))

	require.NoError(t, e.revokeLease(leased))
	e.tidyToEnd()
	require.Equal(t, 2, keys())
	e.write("revoke-all", nil)
	e.tidyToEnd()
	require.Equal(t, 1, keys())
	require.False(t, e.active(own))
	e.tidyToEnd()
	require.Equal(t, 1, keys(), "the key that seals stays")
}

func TestAMountHasABoundedNumberOfDataKeys(t *testing.T) {
	e := newKMSEnv(t)
	for range maxDataKeys - 1 {
		e.write("config/kms/rotate", nil)
	}
	require.Contains(t, e.refused(logical.UpdateOperation, "config/kms/rotate", nil), "run tidy")
	e.clock.Advance(drained)
	e.tidyToEnd()
	e.write("config/kms/rotate", nil)
}

func TestDeletingTheConfigurationIsRefusedWhileSealedTokensLive(t *testing.T) {
	e := newKMSEnv(t)
	e.client("plain", data{})
	e.client("revoked", data{"seal": "kms"})
	e.write("revoke-client/revoked", nil)
	e.client("expired", data{"seal": "kms", "token_ttl": "1m"})
	e.clock.Advance(time.Minute)
	disabled := e.client("disabled", data{"seal": "kms", "disabled": true})
	require.Contains(t, e.refused(logical.DeleteOperation, "config/kms", nil), `the client "disabled"`)
	e.write("clients/disabled", data{"disabled": false})
	require.True(t, e.active(disabled))
	e.delete("clients/disabled")

	e.write("clients/leases", data{"seal": "none"})
	e.write("clients/leases", data{"seal": "kms"})
	leased := e.lease("leases", data{"ttl": "10m"})
	require.Contains(t, e.refused(logical.DeleteOperation, "config/kms", nil), `the client "leases"`)
	require.True(t, e.active(leased.token))
	require.NoError(t, e.revokeLease(leased))
	e.delete("config/kms")
	require.Empty(t, e.keys(kmsPrefix))
	e.delete("config/kms") // a missing entry is not an error
}

func TestAForcedDeleteEndsSealedTokensAndNoOthers(t *testing.T) {
	e := newKMSEnv(t)
	sealed, plain := e.client("sealed", data{"seal": "kms"}), e.client("plain", data{})
	inner, key := e.open(sealed)
	changes := e.watch(func() { e.must(logical.DeleteOperation, "config/kms", data{"force": true}) })
	require.Equal(t, "data-keys", changes[0]["name"])
	require.Empty(t, e.read("gateway/data-keys")["data_keys"])
	require.False(t, e.active(sealed))
	require.Equal(t, false, e.write("lookup", data{"token": inner, "data_key": key}).Data["active"], "a token outlived its data key")
	require.True(t, e.active(plain))
	require.Contains(t, e.refused(logical.UpdateOperation, "rotate-client/sealed", nil), "AWS KMS is not configured")
	require.Contains(t, strings.Join(e.write("clients/sealed", data{"token_ttl": "1h"}).Warnings, "\n"), "no token can be issued")

	e.write("config/kms", e.settings())
	require.False(t, e.active(sealed), "a new configuration brought an old token back")
	require.True(t, e.active(e.rotate("sealed", nil)))
}

// The second authority: if KMS refuses, the engine neither opens nor seals.
func TestADisabledKMSKeyStopsSealedTokensAndNoOthers(t *testing.T) {
	e := newKMSEnv(t)
	sealed, plain := e.client("sealed", data{"seal": "kms"}), e.client("plain", data{})
	e.kms.Disable(e.arn)
	e.clock.Advance(kms.Period)
	require.False(t, e.active(sealed))
	require.True(t, e.active(plain))
	require.Contains(t, e.refused(logical.UpdateOperation, "rotate-client/sealed", nil), "DisabledException")
	require.Contains(t, e.refused(logical.ReadOperation, "creds/sealed", nil), "DisabledException")
	require.Contains(t, e.refused(logical.UpdateOperation, "revoke", data{"token": sealed}), "by its accessor")
	e.rotate("plain", nil)

	e.kms.Enable(e.arn)
	e.clock.Advance(time.Minute)
	require.True(t, e.active(sealed), "it works again by itself")
	e.rotate("sealed", nil)
}

func TestWithoutAnAnswerOfKMSKnownKeysGoOnForAnHour(t *testing.T) {
	e := newKMSEnv(t)
	sealed := e.client("c", data{"seal": "kms"})
	e.kms.Fail(double.Unreachable())
	e.clock.Advance(kms.MaxStale - time.Second)
	require.True(t, e.active(sealed))
	second := e.rotate("c", data{"grace_period": "1h"})
	require.Regexp(t, `^mcpk_`, second, "an outage is no reason to hand out a token in clear")
	e.clock.Advance(time.Second)
	require.Contains(t, e.unanswered("lookup", data{"token": second}), "was not confirmed for 1h")
	e.unanswered("rotate-client/c", nil)
	e.unanswered("clients/d", data{"seal": "kms"})
	require.Empty(t, e.keys(clientPrefix+"d"))
	require.Contains(t, e.unanswered("config/kms/rotate", nil), "alias/mcp")
	require.Contains(t, e.unanswered("clients/d", data{"access_token_ciphertext": e.encrypt("x", nil)}), "KMS does not answer Decrypt")
	e.kms.Recover()
	e.clock.Advance(time.Minute)
	require.True(t, e.active(second))
}

// A request that waits for KMS keeps nobody else waiting.
func TestNoLockIsHeldWhileKMSIsAsked(t *testing.T) {
	e := newKMSEnv(t)
	e.client("c", data{"seal": "kms"})
	e.clock.Advance(kms.Period)
	asked := e.kms.Calls("")
	e.kms.Fail(double.Slow("", time.Hour))
	var waiting sync.WaitGroup
	for path, d := range map[string]data{
		"rotate-client/c": nil, "config/kms": e.settings(), "config/kms/rotate": nil,
		"clients/d": {"access_token_ciphertext": e.encrypt("my_custom_token_123", kms.TokenContext(testAccessor, "d"))},
	} {
		waiting.Go(func() {
			began := time.Now()
			_, _ = e.request(context.Background(), logical.UpdateOperation, path, d)
			if took := time.Since(began); took > 2*kms.Timeout {
				t.Errorf("%s was held for %s", path, took)
			}
		})
	}
	require.Eventually(t, func() bool { return e.kms.Calls("") >= asked+4 }, 10*time.Second, time.Millisecond)
	began := time.Now()
	e.write("clients/c", data{"allowed_servers": "b"})
	e.write("clients/e", data{"seal": "none"})
	e.read("config/kms")
	e.write("revoke-client/c", nil)
	require.Less(t, time.Since(began), kms.Timeout-time.Second, "others waited for KMS")
	waiting.Wait()
}

func TestTwoWhoConfigureAtOnceDoNotOverwriteEachOther(t *testing.T) {
	e := newKMSEnv(t)
	f := double.Slow("GenerateDataKey", time.Second)
	f.Times = 1
	e.kms.Fail(f)
	asked := e.kms.Calls("GenerateDataKey")
	done := make(chan error, 1)
	go func() {
		resp, err := e.request(context.Background(), logical.UpdateOperation, "config/kms/rotate", nil)
		if err == nil {
			err = resp.Error()
		}
		done <- err
	}()
	require.Eventually(t, func() bool { return e.kms.Calls("GenerateDataKey") > asked }, 10*time.Second, time.Millisecond)
	e.write("config/kms", data{"audience": "other"})
	require.ErrorContains(t, <-done, "somebody else has written config/kms meanwhile")
	require.Equal(t, "other", e.read("config/kms")["audience"])
}

func TestManyWhoIssueAtOnceAskKMSOnce(t *testing.T) {
	e := newKMSEnv(t)
	again := e.restart() // with nothing in memory
	again.kms.ResetCalls()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			_, err := again.request(context.Background(), logical.UpdateOperation, "clients/c"+string(rune('a'+i)), data{"seal": "kms"})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Equal(t, 1, again.kms.Calls(""))
}

// However often a request needs KMS, it waits for it as long as for one answer.
func TestARequestWaitsForKMSOnce(t *testing.T) {
	e := newKMSEnv(t)
	e.client("c", data{"seal": "kms"})
	e.clock.Advance(kms.MaxStale)
	e.kms.Fail(double.Slow("", 2900*time.Millisecond)) // two would take almost twice as long as one may
	var waiting sync.WaitGroup
	for path, d := range map[string]data{
		"config/kms":      e.settings(),
		"rotate-client/c": {"access_token_ciphertext": e.encrypt("my_custom_token_123", kms.TokenContext(testAccessor, "c"))},
	} {
		waiting.Go(func() {
			began := time.Now()
			if _, err := e.request(context.Background(), logical.UpdateOperation, path, d); err == nil {
				t.Errorf("%s was answered", path)
			}
			if took := time.Since(began); took >= 5500*time.Millisecond {
				t.Errorf("%s was held for %s", path, took)
			}
		})
	}
	waiting.Wait()
}
