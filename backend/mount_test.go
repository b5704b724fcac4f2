package backend

import (
	"context"
	"encoding/base64"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestAMountThatWasNeverConfiguredReadsAsItsDefaults(t *testing.T) {
	require.Equal(t, data{
		"default_ttl": int64(0), "max_ttl": int64(0), "grace_period": int64(3600),
		"min_custom_token_length": 12, "max_wait": int64(10), "max_watchers": 256, "seal": "none", "sign_in_logins": nil, "usage_days": 90,
	}, newEnv(t).read("config"))
}

func TestConfigWrites(t *testing.T) {
	for _, tc := range []struct {
		name    string
		data    data
		refusal string
	}{
		{"a default above the maximum", data{"default_ttl": "2h", "max_ttl": "1h"}, "field default_ttl"},
		{"a minimum under twelve", data{"min_custom_token_length": 8}, "field min_custom_token_length"},
		{"a minimum beyond any token", data{"min_custom_token_length": 5000}, "field min_custom_token_length"},
		{"a wait that would hold Vault", data{"max_wait": "31s"}, "field max_wait"},
		{"a negative number of watchers", data{"max_watchers": -1}, "field max_watchers"},
		{"an unknown field", data{"default_tll": "1h"}, `unknown field "default_tll"`},
	} {
		t.Run(tc.name+" is refused", func(t *testing.T) {
			e := newEnv(t)
			before := e.read("config")
			require.Contains(t, e.refused(logical.UpdateOperation, "config", tc.data), tc.refusal)
			require.Equal(t, before, e.read("config"))
		})
	}
	e := newEnv(t)
	e.write("config", data{"max_ttl": "48h", "max_watchers": 0})
	e.write("config", data{"default_ttl": "24h"})
	got := e.restart().read("config")
	require.EqualValues(t, 48*3600, got["max_ttl"], "a write reset a field that it did not name")
	require.EqualValues(t, 24*3600, got["default_ttl"])
	require.Equal(t, 0, got["max_watchers"])
}

func TestTheMountsMaximumCapsAClientsOwnToken(t *testing.T) {
	e := newEnv(t)
	e.write("config", data{"max_ttl": "1h"})
	resp := e.write("clients/forever", data{"allowed_servers": "a"})
	require.EqualValues(t, 3600, resp.Data["ttl"], "a token without a TTL outlives max_ttl")
	resp = e.write("clients/long", data{"token_ttl": "2h"})
	require.EqualValues(t, 3600, resp.Data["ttl"])
	require.Contains(t, resp.Warnings[len(resp.Warnings)-1], "was cut to 1h")
	e.write("config", data{"min_custom_token_length": 40})
	require.Contains(t, e.refused(logical.UpdateOperation, "clients/c", data{"access_token": "thirty-eight-characters-are-too-few..x"}), "at least 40")
}

func TestSessionKeysAreSharedAndRotated(t *testing.T) {
	e := newEnv(t)
	first := e.read("gateway/keys")
	require.Equal(t, first, e.restart().read("gateway/keys"))
	key, err := base64.StdEncoding.DecodeString(first["keys"].(map[string]any)["1"].(map[string]any)["key"].(string))
	require.NoError(t, err)
	require.Len(t, key, 32)

	changes := e.watch(func() { e.write("gateway/keys/rotate", nil) })
	require.Equal(t, "config", changes[0]["type"])
	second := e.read("gateway/keys")
	require.Equal(t, 2, second["current_version"])
	require.Len(t, second["keys"], 2, "an older key still opens")
	require.Equal(t, first["mount_id"], second["mount_id"])

	e.clock.Advance(sessionKeyLife)
	e.periodic()
	third := e.read("gateway/keys")
	require.Equal(t, 3, third["current_version"])
	require.Len(t, third["keys"], 1, "keys have an end")
}

// After a leak the old keys must open nothing any more: who has one can seal
// sessions under it.
func TestARotationCanForgetEveryOlderSessionKey(t *testing.T) {
	e := newEnv(t)
	e.read("gateway/keys")
	e.write("gateway/keys/rotate", data{"drop_old": false})
	before := e.read("gateway/keys")
	require.Len(t, before["keys"], 2)
	changes := e.watch(func() { e.write("gateway/keys/rotate", data{"drop_old": true}) })
	require.Len(t, changes, 1)
	require.Equal(t, "keys", changes[0]["name"])
	after := e.read("gateway/keys")
	require.Equal(t, 3, after["current_version"], "a version is never used again")
	require.Len(t, after["keys"], 1)
	require.Contains(t, after["keys"], "3")
	require.Equal(t, after, e.restart().read("gateway/keys"))
}

func (e *env) periodic() {
	e.t.Helper()
	require.NoError(e.t, e.b.periodic(context.Background(), &logical.Request{Storage: e.storage}))
}

func TestTwoMountsShareNothing(t *testing.T) {
	a, b := newEnv(t), newEnv(t)
	token := a.client("c", data{})
	b.client("c", data{})
	require.False(t, b.active(token))
	require.NotEqual(t, a.read("gateway/keys")["mount_id"], b.read("gateway/keys")["mount_id"])
}

func TestChangesAreReadFromAnIndex(t *testing.T) {
	e := newEnv(t)
	start := e.read("changes")
	require.Equal(t, true, start["reset"], "one who has seen nothing must ask for everything")
	require.Empty(t, start["changes"])

	changes := e.watch(func() {
		e.client("c", data{})                                                        // nobody can know its token yet
		e.client("d", data{"access_token": "my_secret_token_123"})                   // somebody may have tried it
		e.write("clients/c", data{"allowed_servers": "a"})                           //
		e.write("config", data{"max_wait": "5s"})                                    //
		e.lease("c", nil)                                                            //
		e.rotate("c", data{"grace_period": "1h"})                                    //
		e.rotate("d", data{"grace_period": 0, "access_token": "b_secret_token_456"}) //
	})
	var got []string
	for _, c := range changes {
		got = append(got, c["type"].(string)+" "+c["operation"].(string)+" "+c["client"].(string))
	}
	require.Equal(t, []string{
		"token create d", "client update c", "config update ", "token update c", "token revoke d", "token create d",
	}, got)
	require.Contains(t, e.refused(logical.ReadOperation, "changes", data{"index": -1}), "field index")
	reset := e.must(logical.ReadOperation, "changes", data{"epoch": "other", "index": 1}).Data
	require.Equal(t, true, reset["reset"])
}

func TestTheFeedGoesOnWhereItWasAfterARestart(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{})
	head := e.read("changes")
	e.write("revoke-client/c", nil)
	again := e.restart()
	since := again.must(logical.ReadOperation, "changes", data{"epoch": head["epoch"], "index": head["index"]}).Data
	require.Equal(t, false, since["reset"])
	require.Len(t, since["changes"], 1)
	require.Equal(t, "revoke", since["changes"].([]map[string]any)[0]["operation"])
}

func TestTidyRemovesWhatCanAdmitNobody(t *testing.T) {
	e := newEnv(t)
	e.client("keep", data{})
	kept := e.lease("keep", data{"ttl": "20h"})
	disabled := e.client("disabled", data{"disabled": true})
	baseline := len(e.keys(tokenPrefix))

	e.client("gone", data{})
	e.lease("gone", data{"ttl": "20h"})
	e.delete("clients/gone")
	e.client("revoked", data{})
	e.lease("revoked", data{"ttl": "20h"})
	e.write("revoke-client/revoked", nil)
	e.client("expired", data{"token_ttl": "1m"})
	e.lease("keep", data{"ttl": "1m"})
	require.NoError(t, e.b.pointers.put(context.Background(), e.storage, "ab/cdef", &pointer{
		tokenInfo: tokenInfo{Kind: kindIssued, IssuedAt: e.clock.Now()}, Client: "keep", ClientID: "never-committed",
	}))
	e.clock.Advance(tidyMinAge + time.Minute)
	status := e.tidyToEnd()
	require.EqualValues(t, 5, status.TokensRemoved) // two leases of clients that ended them, two expired, one never committed
	require.Equal(t, 100, e.read("tidy/status")["progress"])

	e.tidyToEnd() // lease entries go once their pointers have
	require.Len(t, e.keys(tokenPrefix), baseline)
	require.Len(t, e.keys(leasePrefix), 1)
	require.Len(t, e.keys(uidPrefix), 4, "keep, disabled, revoked, expired")
	require.True(t, e.active(kept.token))
	e.write("clients/disabled", data{"disabled": false})
	require.True(t, e.active(disabled), "a disabled client's token is still its own")
}

func TestTidyLeavesAPointerThatMayNotHaveCommittedYet(t *testing.T) {
	e := newEnv(t)
	require.NoError(t, e.b.pointers.put(context.Background(), e.storage, "ab/cdef", &pointer{
		tokenInfo: tokenInfo{Kind: kindIssued, IssuedAt: e.clock.Now()}, Client: "c",
	}))
	require.NoError(t, putJSON(context.Background(), e.storage, leaseKey("x", "y"), leaseEntry{Hash: "ab/none", IssuedAt: e.clock.Now()}))
	e.tidyToEnd()
	require.Len(t, e.keys(tokenPrefix), 1)
	require.Len(t, e.keys(leasePrefix), 1)
}

func TestThePeriodicFunctionTidiesEveryHour(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{"token_ttl": "1m"})
	e.clock.Advance(2 * time.Hour)
	e.periodic()
	require.Eventually(t, func() bool { return e.b.tidying.read().State == "finished" }, 10*time.Second, time.Millisecond)
	require.Empty(t, e.keys(tokenPrefix))
	require.Equal(t, "finished", e.read("tidy/status")["state"])
}

func TestTheFactoryTouchesNoStorage(t *testing.T) {
	b, err := Factory(context.Background(), &logical.BackendConfig{System: logical.TestSystemView()})
	require.NoError(t, err)
	require.Equal(t, logical.TypeLogical, b.Type())
	b.Cleanup(context.Background())
	_, err = Factory(context.Background(), nil)
	require.Error(t, err)
}

// Every path reads as well as those of Vault's own engines: help, an operation
// id, a summary, and a schema of its answers.
func TestEveryPathIsDescribed(t *testing.T) {
	e := newEnv(t)
	ids := map[string]string{}
	for _, p := range e.b.Paths {
		require.NotEmpty(t, p.HelpSynopsis, p.Pattern)
		require.NotEmpty(t, p.HelpDescription, p.Pattern)
		require.Equal(t, operationPrefix, p.DisplayAttrs.OperationPrefix, p.Pattern)
		for name, field := range p.Fields {
			require.NotEmpty(t, field.Description, "%s %s", p.Pattern, name)
		}
		for op, h := range p.Operations {
			properties := h.Properties()
			require.NotEmpty(t, properties.Summary, "%s %s", p.Pattern, op)
			require.NotEmpty(t, properties.Responses, "%s %s", p.Pattern, op)
			for status, all := range properties.Responses {
				for name, field := range all[0].Fields {
					require.NotNil(t, field, "%s %s %d %s", p.Pattern, op, status, name)
					require.NotEmpty(t, field.Description, "%s %s %s", p.Pattern, op, name)
				}
			}
		}
	}
	doc := framework.NewOASDocument("")
	require.NoError(t, e.openAPI(doc))
	for path, item := range doc.Paths {
		for verb, op := range map[string]*framework.OASOperation{"get": item.Get, "post": item.Post, "delete": item.Delete, "patch": item.Patch} {
			if op == nil {
				continue
			}
			require.NotEmpty(t, op.OperationID, path)
			require.Empty(t, ids[op.OperationID], "%s %s has the operation id of %s", verb, path, ids[op.OperationID])
			ids[op.OperationID] = verb + " " + path
			require.NotContains(t, op.OperationID, "2", "%s %s: the id %s was made unique by a number", verb, path, op.OperationID)
		}
	}
	require.Equal(t, "post /clients/{name}", ids["mcp-write-client"])
	require.Equal(t, "post /rotate-client/{name}", ids["mcp-rotate-client"])
}

// openAPI fills doc with the paths as Vault publishes them.
func (e *env) openAPI(doc *framework.OASDocument) error {
	resp, err := e.b.HandleRequest(context.Background(), &logical.Request{
		Operation: logical.HelpOperation, Path: "", Storage: e.storage, Data: data{"requestResponsePrefix": "mcp"},
	})
	if err != nil {
		return err
	}
	made, ok := resp.Data["openapi"].(*framework.OASDocument)
	if ok {
		*doc = *made
	}
	return nil
}
