package backend

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/framework"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

func TestPairsAreEmptiedFromTheCommandLine(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{"metadata": "team=search"})
	e.write("clients/c", data{"metadata": ""})
	require.Empty(t, e.read("clients/c")["metadata"])
	e.write("clients/c", data{"metadata": "team=search"})
	e.patch("clients/c", data{"metadata": ""})
	require.Empty(t, e.read("clients/c")["metadata"])
	require.Empty(t, e.write("clients/d", data{"metadata": ""}).Data["metadata"])

	e.write("servers/h", data{"transport": "http", "url": "http://127.0.0.1:1/", "headers": "Authorization=x"})
	e.write("servers/h", data{"headers": ""})
	require.Empty(t, e.read("servers/h")["headers"])
	e.write("servers/s", data{"transport": "stdio", "command": "/bin/x", "env": "A=b"})
	e.write("servers/s", data{"env": ""})
	require.Empty(t, e.read("servers/s")["env"])
}

// RFC 7396: objects are merged, null removes, and any other value replaces.
func TestAPatchMergesMetadata(t *testing.T) {
	for name, tc := range map[string]struct {
		patch any
		want  map[string]string
	}{
		"a name is added":              {map[string]any{"new": "1"}, map[string]string{"team": "search", "owner": "ann", "new": "1"}},
		"a name is changed":            {map[string]any{"owner": "bob"}, map[string]string{"team": "search", "owner": "bob"}},
		"a null removes its name":      {map[string]any{"owner": nil, "gone": nil}, map[string]string{"team": "search"}},
		"an empty object does nothing": {map[string]any{}, map[string]string{"team": "search", "owner": "ann"}},
		"null resets":                  {nil, map[string]string{}},
		"on the command line":          {"owner=bob", map[string]string{"team": "search", "owner": "bob"}},
		"several on the command line":  {[]any{"owner=bob", "new=1"}, map[string]string{"team": "search", "owner": "bob", "new": "1"}},
		"every name is removed":        {map[string]any{"owner": nil, "team": nil}, map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			token := e.client("c", data{"metadata": "team=search,owner=ann"})
			e.write("clients/c", data{"metadata": map[string]any{"team": "search", "owner": "ann"}})
			e.patch("clients/c", data{"metadata": tc.patch})
			if len(tc.want) > 0 {
				require.Equal(t, tc.want, e.read("clients/c")["metadata"])
			} else {
				require.Empty(t, e.read("clients/c")["metadata"])
			}
			require.Equal(t, tc.want, e.lookup(token)["metadata"])
			e.write("clients/c", data{"metadata": map[string]any{"only": "1"}})
			require.Equal(t, map[string]string{"only": "1"}, e.read("clients/c")["metadata"], "a write that is no patch replaces")
		})
	}
}

func TestAPatchOfAClientThatDoesNotExistIsNotFound(t *testing.T) {
	e := newEnv(t)
	_, err := e.request(context.Background(), logical.PatchOperation, "clients/nobody", data{"disabled": true})
	var coded logical.HTTPCodedError
	require.ErrorAs(t, err, &coded)
	require.Equal(t, http.StatusNotFound, coded.Code())
	require.Contains(t, err.Error(), `no client "nobody" exists`)
}

func TestTheAdviceForAClientWithoutToolsCanBeTyped(t *testing.T) {
	e := newEnv(t)
	warnings := strings.Join(e.write("clients/c", data{"allowed_servers": "a", "allowed_tools": ""}).Warnings, "\n")
	require.Contains(t, warnings, "allowed_tools='*/*'")
	require.NotContains(t, warnings, "null")
	e.write("clients/c", data{"allowed_tools": "*/*"})
	require.Equal(t, []string{"*/*"}, e.read("clients/c")["allowed_tools"])
}

func TestAClientsFieldsHaveBounds(t *testing.T) {
	many := func(n int, name string) []string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf(name, i)
		}
		return all
	}
	pairs := func(n, size int) map[string]any {
		all := map[string]any{}
		for i := range n {
			all[fmt.Sprintf("k%d", i)] = strings.Repeat("v", size)
		}
		return all
	}
	for name, tc := range map[string]struct{ fits, beyond data }{
		"metadata in all":        {data{"metadata": pairs(8, 1000)}, data{"metadata": pairs(1, 700_000)}},
		"names of metadata":      {data{"metadata": pairs(64, 1)}, data{"metadata": pairs(65, 1)}},
		"a name of metadata":     {data{"metadata": map[string]any{strings.Repeat("k", 128): "v"}}, data{"metadata": map[string]any{strings.Repeat("k", 129): "v"}}},
		"servers":                {data{"allowed_servers": many(1024, "s%d")}, data{"allowed_servers": many(1025, "s%d")}},
		"tools that are allowed": {data{"allowed_tools": many(1024, "s/%d")}, data{"allowed_tools": many(1025, "s/%d")}},
		"tools that are denied":  {data{"denied_tools": many(1024, "s/%d")}, data{"denied_tools": many(1025, "s/%d")}},
		"policies":               {data{"policies": many(64, "p%d")}, data{"policies": many(65, "p%d")}},
		"blocks of addresses":    {data{"token_bound_cidrs": many(256, "10.0.0.%d")}, data{"token_bound_cidrs": append(many(256, "10.0.0.%d"), "::1")}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.write("clients/fits", tc.fits)
			for _, op := range []logical.Operation{logical.UpdateOperation, logical.PatchOperation} {
				text := e.refused(op, "clients/fits", tc.beyond)
				require.Contains(t, text, "are allowed")
				require.Less(t, len(text), 1000)
			}
			e.refused(logical.UpdateOperation, "clients/new", tc.beyond)
			require.Nil(t, e.read("clients/new"))
		})
	}
}

// An earlier version has taken more. The client must be disabled anyway.
func TestWhatIsTooLargeSinceAnEarlierVersionKeepsNobodyFromOtherFields(t *testing.T) {
	e := newEnv(t)
	token := e.client("c", data{})
	held, err := e.b.clients.read(context.Background(), e.storage, "c")
	require.NoError(t, err)
	held.Metadata = map[string]string{"notes": strings.Repeat("v", 700_000)}
	unlock := e.b.clients.lock("c")
	require.NoError(t, e.b.clients.put(context.Background(), e.storage, "c", held))
	unlock()
	e.write("clients/c", data{"disabled": true})
	require.False(t, e.active(token))
	require.Contains(t, e.refused(logical.PatchOperation, "clients/c", data{"metadata": map[string]any{"more": "1"}}), "field metadata")
	e.write("clients/c", data{"metadata": "notes=short"})
}

func TestARaisedMinimumLeavesThePresentTokenAlone(t *testing.T) {
	e := newEnv(t)
	const present = "my_custom_tok"
	e.client("c", data{"access_token": present})
	e.client("other", data{"access_token": "others_token_1"})
	e.write("config", data{"min_custom_token_length": 36})
	version := e.read("clients/c")["version"]
	e.write("clients/c", data{"access_token": present, "allowed_servers": ""})
	require.Contains(t, e.write("rotate-client/c", data{"access_token": present}).Warnings[0], "current token already")
	require.Equal(t, version, e.read("clients/c")["version"])
	require.True(t, e.active(present))

	for name, d := range map[string]data{
		"another token":                {"access_token": "another_tok_1"},
		"another client's token":       {"access_token": "others_token_1"},
		"its own for another client":   {"access_token": "others_token_2"},
		"another token with a license": {"access_token": "another_tok_1", "allow_reuse": true},
	} {
		require.Contains(t, e.refused(logical.UpdateOperation, "clients/c", d), "too short", name)
	}
	e.write("revoke", data{"token": present})
	require.Contains(t, e.refused(logical.UpdateOperation, "clients/c", data{"access_token": present}), "too short")
	require.Contains(t, e.refused(logical.UpdateOperation, "clients/c", data{"access_token": present, "allow_reuse": true}), "too short")
}

func TestAWriteOfTheConfigThatChangesNothingWakesNobody(t *testing.T) {
	e := newEnv(t)
	e.write("config", data{"default_ttl": "1h"})
	require.Empty(t, e.watch(func() {
		e.write("config", data{"default_ttl": "3600"})
		e.write("config", nil)
		e.write("config", data{"max_watchers": e.read("config")["max_watchers"]})
	}))
	require.Len(t, e.watch(func() { e.write("config", data{"default_ttl": "2h"}) }), 1)
}

func TestTidyForgetsCustomTokensThatEndedLongAgo(t *testing.T) {
	e := newEnv(t)
	ended := func(client, token string) {
		e.client(client, data{"access_token": token})
		e.write("revoke", data{"token": token})
	}
	ended("c", "ended_token_one")
	legacy := spentPrefix + "ab/" + strings.Repeat("c", 62)
	require.NoError(t, putJSON(context.Background(), e.storage, legacy, struct{}{}))
	e.tidyToEnd()
	require.Len(t, e.keys(spentPrefix), 2)

	e.clock.Advance(spentLife - time.Second)
	ended("d", "ended_token_two")
	e.tidyToEnd()
	require.Len(t, e.keys(spentPrefix), 3)
	require.Contains(t, e.refused(logical.UpdateOperation, "clients/e", data{"access_token": "ended_token_one"}), "must not come back")
	e.clock.Advance(time.Second)
	require.EqualValues(t, 2, e.tidyToEnd().TokensRemoved)
	require.Len(t, e.keys(spentPrefix), 1, "the one that ended later stays")
	require.Contains(t, e.refused(logical.UpdateOperation, "clients/e", data{"access_token": "ended_token_two"}), "must not come back")
}

func TestIntrospectionNamesTheServersThatThePoliciesLetThrough(t *testing.T) {
	e := newEnv(t)
	for _, name := range []string{"good", "bad", "also-good"} {
		e.write("servers/"+name, data{"transport": "http", "url": "https://" + name + ".example/"})
	}
	token := e.client("c", data{"allowed_servers": "good,bad,unregistered"})
	every := e.client("d", data{"allowed_servers": "*"})
	in, _ := introspect(t, e, token)
	require.Equal(t, "good bad unregistered", in.Scope, "no policy applies")
	in, _ = introspect(t, e, every)
	require.Equal(t, "*", in.Scope)

	e.write("policies/corp", data{"managed": true, "deniedMcpServers": []any{map[string]any{"serverUrl": "https://bad.example/*"}}})
	in, _ = introspect(t, e, token)
	require.Equal(t, "good unregistered", in.Scope)
	require.Equal(t, []string{"good", "unregistered"}, in.AllowedServers)
	in, _ = introspect(t, e, every)
	require.Equal(t, "also-good good", in.Scope)

	e.write("policies/corp", data{"managed": true, "allowedMcpServers": []any{}})
	in, raw := introspect(t, e, token)
	require.True(t, in.Active)
	require.NotContains(t, raw, "scope")
}

func TestTokensRememberWhoHadThemIssued(t *testing.T) {
	e := newEnv(t)
	system := e.b.System().(*cachedSystem).SystemView.(*logical.StaticSystemView)
	system.EntityVal = &logical.Entity{ID: "entity-1", Name: "ci-runner", Aliases: []*logical.Alias{
		{MountType: "userpass", Name: "ann"},
		{MountType: "approle", Name: "role-id-1", Metadata: map[string]string{"role_name": "ci"}},
	}}
	ask := func(op logical.Operation, path string) *logical.Response {
		resp, err := e.b.HandleRequest(context.Background(), &logical.Request{
			Operation: op, Path: path, Storage: e.storage, Data: data{}, DisplayName: "approle", EntityID: "entity-1", ClientTokenAccessor: "a",
		})
		require.NoError(t, err)
		require.NoError(t, resp.Error())
		return resp
	}
	for _, accessor := range []any{
		ask(logical.CreateOperation, "clients/c").Data["accessor"],
		ask(logical.ReadOperation, "creds/c").Data["accessor"],
		ask(logical.UpdateOperation, "rotate-client/c").Data["accessor"],
	} {
		read := e.read("clients/c/tokens/" + accessor.(string))
		require.Equal(t, "approle (role ci, alias role-id-1, entity ci-runner)", read["issued_by"])
		require.Equal(t, "entity-1", read["issued_by_entity"])
		require.Equal(t, "role-id-1", read["issued_by_alias"])
		require.Equal(t, "ci", read["issued_by_role"])
	}
	system.EntityVal = nil
	accessor := ask(logical.ReadOperation, "creds/c").Data["accessor"].(string)
	require.Equal(t, "approle", e.read("clients/c/tokens/" + accessor)["issued_by"], "Vault may know no more")
	require.Equal(t, "tester", e.read("clients/c/tokens/" + e.lookup(e.rotate("c", nil))["accessor"].(string))["issued_by"])
}

// The OpenAPI document joins the operations that create and those that change.
func TestOpenAPISaysWhatWritesAnswer(t *testing.T) {
	e := newEnv(t)
	resp, err := e.b.HandleRequest(context.Background(), &logical.Request{Operation: logical.HelpOperation, Path: "", Storage: e.storage})
	require.NoError(t, err)
	doc := resp.Data["openapi"].(*framework.OASDocument)
	created := doc.Paths["/clients/{name}"].Post
	require.Contains(t, created.Responses, 204)
	answer := created.Responses[200].Content["application/json"].Schema.Ref
	shown := doc.Components.Schemas[answer[strings.LastIndex(answer, "/")+1:]]
	for _, field := range []string{"token", "accessor", "expires_at", "allowed_servers"} {
		require.Contains(t, shown.Properties, field)
	}
	for path, item := range doc.Paths {
		for _, op := range []*framework.OASOperation{item.Get, item.Post, item.Patch, item.Delete} {
			if op == nil || op.Responses[204] == nil {
				continue
			}
			require.Contains(t, op.Responses, 200, "%s %s may answer with warnings", path, op.OperationID)
		}
	}
	require.True(t, e.b.Route("tidy/status").Operations[logical.ReadOperation].Properties().ForwardPerformanceStandby)
}
