package backend

import (
	"context"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/backend/policy"
)

// faultedOperations are all operations of the engine, upon a world.
func faultedOperations(w *world) []faultedOperation {
	active := func(names ...string) func(*env, *logical.Response) {
		return func(e *env, _ *logical.Response) { w.requireActive(e, true, names...) }
	}
	ended := func(names ...string) func(*env, *logical.Response) {
		return func(e *env, _ *logical.Response) { w.requireActive(e, false, names...) }
	}
	write := func(name, path string, d data, done func(*env, *logical.Response)) faultedOperation {
		return faultedOperation{name: name, op: logical.UpdateOperation, path: path, data: d, done: done}
	}
	remove := func(name, path string, done func(*env, *logical.Response)) faultedOperation {
		return faultedOperation{name: name, op: logical.DeleteOperation, path: path, done: done}
	}
	patch := func(name, path string, d data, done func(*env, *logical.Response)) faultedOperation {
		return faultedOperation{name: name, op: logical.PatchOperation, path: path, data: d, done: done}
	}
	field := func(path, name string, want any) func(*env, *logical.Response) {
		return func(e *env, _ *logical.Response) { require.EqualValues(e.t, want, e.read(path)[name]) }
	}
	gone := func(path string) func(*env, *logical.Response) {
		return func(e *env, _ *logical.Response) { require.Nil(e.t, e.read(path)) }
	}
	disabled := func(server string) func(*env, *logical.Response) {
		return func(e *env, _ *logical.Response) {
			require.NotContains(e.t, e.read("gateway/servers")["servers"], server)
			require.Equal(e.t, []string{server}, e.read("gateway/servers")["disabled"])
		}
	}
	grants := func(token, server string) func(*env, *logical.Response) {
		return func(e *env, _ *logical.Response) {
			require.True(e.t, policy.AllowsServer(e.lookup(w.tokens[token])["rights"].([]policy.Rights), server))
		}
	}
	everyTokenOfC := []string{"c", "c before", "c leased", "c signed"}

	operations := []faultedOperation{
		write("creating a client", "clients/new", data{"allowed_servers": "good"}, w.aClientWithAToken("new")),
		write("creating a client with a token of its own", "clients/new", data{"access_token": customNew}, active("new")),
		write("creating a client with a token that has ended", "clients/new", data{"access_token": customSpent, "allow_reuse": true}, active("k spent")),
		write("changing a client", "clients/c", data{"allowed_servers": "local"}, field("clients/c", "allowed_servers", []string{"local"})),
		write("changing nothing of a client", "clients/c", data{"allowed_servers": "good,local"}, active(everyTokenOfC...)),
		write("disabling a client", "clients/c", data{"disabled": true}, ended(everyTokenOfC...)),
		write("enabling a client", "clients/x", data{"disabled": false}, active("x")),
		write("giving a client a token of its own", "clients/c", data{"access_token": customNew}, active("new", "c", "c leased")),
		write("giving a client its own token again", "clients/k", data{"access_token": customNow}, active("k", "k before")),
		patch("patching a client", "clients/c", data{"metadata": nil, "allowed_tools": ""}, field("clients/c", "allowed_tools", []string{})),
		remove("deleting a client", "clients/c", ended(everyTokenOfC...)),
		remove("deleting a client with custom tokens", "clients/k", w.customTokensStayEnded("k", "k before")),

		write("rotating", "rotate-client/c", nil, w.rotated("c", "c before", "c leased", "c signed")),
		write("rotating without grace", "rotate-client/c", data{"grace_period": 0}, w.rotatedAt("c", "c before")),
		write("rotating by an id", "rotate-client/c", data{"rotation_id": "one"}, w.rotated("c", "c before", "c leased")),
		write("rotating by an id again", "rotate-client/t", data{"rotation_id": "again"}, w.rotatedAt("t")),
		write("rotating to a custom token", "rotate-client/c", data{"access_token": customNew}, active("new", "c", "c before")),
		write("rotating a custom token away", "rotate-client/k", data{"grace_period": 0}, w.rotatedAt("k", "k before")),
		write("rotating a revoked client", "rotate-client/r", nil, w.rotatedAt("r")),

		write("revoking a client", "revoke-client/c", nil, ended(everyTokenOfC...)),
		write("revoking a client with custom tokens", "revoke-client/k", nil, w.customTokensStayEnded("k", "k before")),
		write("revoking everything", "revoke-all", nil, ended("c", "c before", "c leased", "c signed", "k", "k before", "t", "t before", "z")),
		write("revoking a token", "revoke", data{"token": w.tokens["c"]}, ended("c")),
		write("revoking a custom token", "revoke", data{"token": customNow}, w.customTokensStayEnded("k")),
		write("revoking a leased token", "revoke", data{"token": w.tokens["c leased"]}, ended("c leased")),
		write("revoking an unknown token", "revoke", data{"token": customNew}, ended("new")),
		write("revoking by accessor", "revoke-accessor", data{"accessor": w.accessor["c before"]}, ended("c before")),
		write("revoking a leased token by accessor", "revoke-accessor", data{"accessor": w.accessor["c leased"]}, ended("c leased")),
		remove("revoking a token by its path", "clients/c/tokens/"+w.accessor["c"], ended("c")),
		remove("revoking a leased token by its path", "clients/c/tokens/"+w.accessor["c leased"], ended("c leased")),

		{name: "leasing a token", op: logical.ReadOperation, path: "creds/c", data: data{"ttl": "5m"}, done: w.answersAToken()},
		{name: "renewing a lease", do: w.renewLease("c leased"), done: w.livesFor("c leased", 2*time.Hour)},
		{name: "revoking a lease", do: w.revokeLease("c leased"), done: ended("c leased")},
		{name: "revoking a lease that ran out", do: w.revokeLease("c expired"), done: ended("c expired")},
		{name: "revoking a lease of a client that is gone", do: w.revokeLease("d leased"), done: ended("d leased")},
		write("renewing a token", "renew", data{"token": w.tokens["t"], "increment": "3h"}, w.livesFor("t", 3*time.Hour)),
		write("renewing by accessor", "renew", data{"accessor": w.accessor["t"], "increment": "3h"}, w.livesFor("t", 3*time.Hour)),

		write("registering a server", "servers/new", data{"transport": "http", "url": "https://mcp.example.com/new"},
			field("servers/new", "url", "https://mcp.example.com/new")),
		write("pointing a server elsewhere", "servers/good", data{"url": "https://mcp.example.com/other"}, field("servers/good", "url", "https://mcp.example.com/other")),
		write("changing a server's credentials", "servers/good", data{"headers": data{"X-Key": "v"}}, field("servers/good", "headers", []string{"X-Key"})),
		write("disabling a server", "servers/good", data{"disabled": true}, disabled("good")),
		remove("removing a server", "servers/good", gone("servers/good")),
		write("creating a role", "roles/new", data{"allowed_servers": "good"}, field("roles/new", "allowed_servers", []string{"good"})),
		write("changing a role", "roles/engineer", data{"allowed_servers": "local"}, grants("e", "local")),
		write("changing nothing of a role", "roles/engineer", data{"allowed_servers": "good"}, grants("e", "good")),
		patch("patching a role", "roles/engineer", data{"denied_tools": nil, "allowed_tools": ""}, field("roles/engineer", "allowed_tools", []string{})),
		remove("deleting a role", "roles/unused", gone("roles/unused")),
		{
			name: "deleting a role that clients have", op: logical.DeleteOperation, path: "roles/engineer", data: data{"force": true},
			done: func(e *env, _ *logical.Response) {
				require.Nil(e.t, e.read("roles/engineer"))
				require.Equal(e.t, policy.Rights{Role: "engineer", Missing: true}, e.lookup(w.tokens["e"])["rights"].([]policy.Rights)[1])
			},
		},
		write("giving a client a role", "clients/z", data{"role": "engineer"}, field("clients/z", "role", "engineer")),
		write("taking a client's role", "clients/e", data{"role": ""}, field("clients/e", "role", nil)),
		write("creating a policy", "policies/new", data{"managed": true, "deniedMcpServers": []any{}}, field("policies/new", "managed", true)),
		write("changing a policy", "policies/corp", data{"managed": true}, field("policies/corp", "managed", true)),
		write("trying a policy", "policies/corp", data{"managed": true, "dry_run": true}, field("policies/corp", "managed", false)),
		remove("deleting a policy", "policies/unused", gone("policies/unused")),
		write("configuring", "config", data{"grace_period": "5m"}, field("config", "grace_period", 300)),
		write("configuring logins", "config", data{"sign_in_logins": data{"ci": ciMount}}, field("config", "sign_in_logins", map[string]string{"ci": ciMount})),
		write("making new keys alone", "gateway/keys/rotate", data{"drop_old": true}, func(e *env, _ *logical.Response) {
			require.Len(e.t, e.read("gateway/keys")["keys"], 1)
		}),
		write("making a session key", "gateway/keys/rotate", nil, func(e *env, _ *logical.Response) {
			require.Greater(e.t, len(e.read("gateway/keys")["keys"].(map[string]any)), 1)
		}),
		{name: "starting", do: initialize, done: active("c", "k", "t", "z")},
		{name: "the work of every minute", do: periodic, done: active("c", "k", "t", "z")},
	}
	operations = append(operations, w.signInOperations(active, ended)...)
	operations = append(operations, w.pinOperations()...)
	return append(operations, w.readOperations()...)
}

// signInOperations are those of people who sign in, and of who lets them.
func (w *world) signInOperations(active, ended func(names ...string) func(*env, *logical.Response)) []faultedOperation {
	signsIn := func(who *signer, d data) func(context.Context, *env) (*logical.Response, error) {
		return func(ctx context.Context, e *env) (*logical.Response, error) {
			return e.asks(ctx, who, logical.UpdateOperation, "c", signInData(d))
		}
	}
	answered := func(accessor string) func(*env, *logical.Response) {
		return func(e *env, resp *logical.Response) {
			w.answersAToken()(e, resp)
			require.Equal(e.t, "c", e.read("sign-ins/" + accessor)["client"])
		}
	}
	write := func(name string, d data, done func(*env, *logical.Response)) faultedOperation {
		return faultedOperation{name: name, op: logical.UpdateOperation, path: "clients/c", data: d, done: done}
	}
	return []faultedOperation{
		{name: "signing in", do: signsIn(job(1), data{"application_name": "Cursor"}), done: answered("accessor-of-login-1")},
		{name: "refreshing a sign-in", do: signsIn(ann(), nil), done: answered("accessor-of-ann")},
		{
			name: "signing in with an assertion", do: signsIn(job(2), data{"assertion_id": "1", "assertion_expires": w.now.Unix() + 60}),
			done: answered("accessor-of-login-2"), once: usedBefore,
		},
		{name: "revoking the lease of a sign-in", do: w.revokeLease("c signed"), done: ended("c signed")},
		write("taking sign-in from a client", data{"sign_in": false}, func(e *env, resp *logical.Response) {
			ended("c signed")(e, resp)
			active("c", "c before", "c leased")(e, resp)
		}),
		write("giving sign-in to a client", data{"sign_in": true}, active("c signed")),
	}
}

// pinOperations are those about pins, of the server pinned.
func (w *world) pinOperations() []faultedOperation {
	digest := func(e *env, text string) string { return digestOf(e.t, pin.Tool, text) }
	approved := func(names ...string) func(*env, *logical.Response) {
		return func(e *env, _ *logical.Response) {
			tools := e.read("gateway/pins/pinned")["approved"].(map[string]map[string][]string)["tool"]
			require.Equal(e.t, orEmpty(names), sortedKeys(tools))
		}
	}
	operation := func(name string, op logical.Operation, path string, d func(e *env) data, done func(*env, *logical.Response)) faultedOperation {
		return faultedOperation{name: name, done: done, do: func(ctx context.Context, e *env) (*logical.Response, error) {
			return e.request(ctx, op, path, d(e))
		}}
	}
	write := func(name string, d func(e *env) data, done func(*env, *logical.Response)) faultedOperation {
		return operation(name, logical.UpdateOperation, "pins/pinned", d, done)
	}
	report := func(name string, done func(*env, *logical.Response), texts ...string) faultedOperation {
		place := w.place
		return operation(name, logical.UpdateOperation, "gateway/pins/pinned", func(*env) data { return reportOf(place, texts...) }, done)
	}
	return []faultedOperation{
		write("approving a definition", func(e *env) data {
			return data{"approve": "new", "digest": digest(e, toolText("new", "again"))}
		}, approved("first", "new", "old")),
		write("withdrawing an approval", func(*env) data { return data{"withdraw": "old"} }, approved("first")),
		write("trusting the first", func(*env) data { return data{"trust_first": true} }, approved("first", "old")),
		write("forgetting reported definitions", func(*env) data { return data{"forget_reported": true} }, func(e *env, _ *logical.Response) {
			require.Empty(e.t, e.read("pins/pinned")["reported"])
		}),
		operation("deleting pins", logical.DeleteOperation, "pins/pinned", func(*env) data { return nil }, approved()),
		report("reporting new definitions", approved("first", "more", "old"), toolText("more", ""), toolText("old", "other")),
		report("reporting known definitions", approved("first", "old"), toolText("new", "again")),
		report("reporting another than the first", approved("old"), toolText("first", "changed")),
		operation("pointing a server with pins elsewhere", logical.UpdateOperation, "servers/pinned",
			func(*env) data { return data{"url": "https://mcp.example.com/other"} }, approved()),
	}
}

// readOperations are those that change nothing, and so are done when answered.
func (w *world) readOperations() []faultedOperation {
	var operations []faultedOperation
	answered := func(*env, *logical.Response) {}
	for _, path := range []string{
		"config", "clients/c", "servers/good", "roles/engineer", "policies/corp", "gateway/servers", "gateway/keys", "gateway/sign-in", "tidy/status",
		"sign-ins/accessor-of-ann", "gateway/pins/pinned", "pins/pinned",
		"clients/c/tokens/" + w.accessor["c"], "clients/c/tokens/" + w.accessor["c leased"],
	} {
		operations = append(operations, faultedOperation{name: "reading " + path, op: logical.ReadOperation, path: path, done: answered})
	}
	for _, path := range []string{"clients/", "servers/", "policies/", "clients/c/tokens/", "sign-ins/", "pins/"} {
		operations = append(operations, faultedOperation{name: "listing " + path, op: logical.ListOperation, path: path, done: answered})
	}
	for name, token := range w.tokens {
		operations = append(operations, faultedOperation{
			name: "looking up " + name, op: logical.UpdateOperation, path: "lookup", data: data{"token": token}, done: answered,
		})
	}
	for _, name := range []string{"c", "c leased"} {
		operations = append(operations, faultedOperation{
			name: "introspecting " + name, op: logical.UpdateOperation, path: "introspect", data: data{"token": w.tokens[name]}, done: answered,
		}, faultedOperation{
			name: "looking up the accessor of " + name, op: logical.UpdateOperation, path: "lookup-accessor", data: data{"accessor": w.accessor[name]}, done: answered,
		})
	}
	operations = append(operations,
		faultedOperation{name: "asking about a tool", op: logical.UpdateOperation, path: "evaluate", data: data{"client": "z", "server": "pinned", "tool": "old"}, done: answered},
		faultedOperation{name: "reading texts", op: logical.ReadOperation, path: "pins/pinned", data: data{"texts": true}, done: answered},
		faultedOperation{name: "asking why", op: logical.UpdateOperation, path: "evaluate", data: data{"client": "c", "server": "good"}, done: answered},
		faultedOperation{
			name: "reading the changes", op: logical.ReadOperation, path: "changes", data: data{"epoch": w.epoch, "index": w.index}, done: answered,
		})
	for i := range operations {
		operations[i].readsOnly = true
	}
	return operations
}

func initialize(ctx context.Context, e *env) (*logical.Response, error) {
	return nil, e.b.Initialize(ctx, &logical.InitializationRequest{Storage: e.storage})
}

// periodic runs the work that Vault asks for every minute, except tidy, which is not a
// single operation.
func periodic(ctx context.Context, e *env) (*logical.Response, error) {
	e.b.lastTidy.Store(e.clock.Now().Unix())
	_, err := e.b.HandleRequest(ctx, &logical.Request{Operation: logical.RollbackOperation, Storage: e.storage})
	return nil, err
}

func (w *world) requireActive(e *env, want bool, names ...string) {
	e.t.Helper()
	for _, name := range names {
		require.Equal(e.t, want, e.active(w.tokens[name]), "the token %q is active", name)
	}
}

// aClientWithAToken: the answer has the client's token, or it was lost and a
// rotation gives one.
func (w *world) aClientWithAToken(name string) func(*env, *logical.Response) {
	return func(e *env, resp *logical.Response) {
		e.t.Helper()
		if resp == nil || resp.Data["token"] == nil {
			require.True(e.t, e.active(e.rotate(name, nil)))
			return
		}
		require.True(e.t, e.active(resp.Data["token"].(string)))
	}
}

func (w *world) answersAToken() func(*env, *logical.Response) {
	return func(e *env, resp *logical.Response) {
		e.t.Helper()
		require.True(e.t, e.active(resp.Data["token"].(string)))
	}
}

// rotated: the answered token is active and so are the others.
func (w *world) rotated(others ...string) func(*env, *logical.Response) {
	return func(e *env, resp *logical.Response) {
		e.t.Helper()
		w.answersAToken()(e, resp)
		w.requireActive(e, true, others...)
	}
}

// rotatedAt: the answered token is active and those have ended.
func (w *world) rotatedAt(gone ...string) func(*env, *logical.Response) {
	return func(e *env, resp *logical.Response) {
		e.t.Helper()
		w.answersAToken()(e, resp)
		w.requireActive(e, false, gone...)
	}
}

// customTokensStayEnded: the tokens have ended, and nobody may bring them again.
func (w *world) customTokensStayEnded(names ...string) func(*env, *logical.Response) {
	return func(e *env, _ *logical.Response) {
		e.t.Helper()
		w.requireActive(e, false, names...)
		for _, name := range names {
			require.Contains(e.t, e.refused(logical.UpdateOperation, "clients/z", data{"access_token": w.tokens[name]}), "must not come back")
		}
	}
}

func (w *world) livesFor(name string, ttl time.Duration) func(*env, *logical.Response) {
	return func(e *env, _ *logical.Response) {
		e.t.Helper()
		require.EqualValues(e.t, seconds(ttl), e.lookup(w.tokens[name])["ttl"])
	}
}

func (w *world) renewLease(name string) func(context.Context, *env) (*logical.Response, error) {
	return func(ctx context.Context, e *env) (*logical.Response, error) {
		l := w.lease(name)
		l.secret.Increment = 2 * time.Hour
		_, err := e.b.HandleRequest(ctx, &logical.Request{
			Operation: logical.RenewOperation, Storage: e.storage, Secret: l.secret, Data: l.data,
		})
		return nil, err
	}
}

func (w *world) revokeLease(name string) func(context.Context, *env) (*logical.Response, error) {
	return func(ctx context.Context, e *env) (*logical.Response, error) {
		l := w.lease(name)
		return e.b.HandleRequest(ctx, &logical.Request{
			Operation: logical.RevokeOperation, Storage: e.storage, Secret: l.secret, Data: l.data,
		})
	}
}
