package backend

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
)

func TestRightsAreWrittenReadAndPatched(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{
		"allowed_servers": "files", "allowed_prompts": "", "denied_prompts": "files/x", "allowed_resources": "files/file:///srv/*",
		"denied_resources": []string{"*/*secret*"}, "rate_limit": "0.5", "rate_burst": 3,
	})
	held := e.read("clients/c")
	require.Nil(t, held["allowed_tools"])
	require.Equal(t, []string{}, held["allowed_prompts"], "no prompt at all is not the same as every prompt")
	require.Equal(t, []string{"files/x"}, held["denied_prompts"])
	require.Equal(t, []string{"files/file:///srv/*"}, held["allowed_resources"])
	require.Equal(t, []string{"*/*secret*"}, held["denied_resources"])
	require.InDelta(t, 0.5, held["rate_limit"], 0)
	require.Equal(t, 3, held["rate_burst"])

	e.patch("clients/c", data{"allowed_prompts": nil, "denied_prompts": nil, "rate_limit": nil, "rate_burst": nil})
	held = e.read("clients/c")
	require.Nil(t, held["allowed_prompts"])
	require.Equal(t, []string{}, held["denied_prompts"])
	require.InDelta(t, 0, held["rate_limit"], 0)
	require.Equal(t, []string{"files/file:///srv/*"}, held["allowed_resources"], "a patch leaves the other fields")
}

func TestRightsThatNoClientCanHaveAreRefused(t *testing.T) {
	e := newEnv(t)
	for name, test := range map[string]struct {
		fields data
		want   string
	}{
		"a prompt without a server":    {data{"allowed_prompts": "review"}, "field allowed_prompts: prompt rule"},
		"a denied prompt without one":  {data{"denied_prompts": "review"}, "field denied_prompts: prompt rule"},
		"a URI without a server":       {data{"allowed_resources": "file:///srv/*"}, `for example "*/file:///srv/*"`},
		"a URI in another spelling":    {data{"denied_resources": "files/FILE:///srv"}, `write it as "files/file:///srv"`},
		"a rate below zero":            {data{"rate_limit": -1}, "field rate_limit: -1 is not a valid number"},
		"a rate that is not a number":  {data{"rate_limit": "NaN"}, "field rate_limit"},
		"a rate without end":           {data{"rate_limit": "Inf"}, "field rate_limit"},
		"a burst without a rate":       {data{"rate_burst": 2}, "field rate_burst: it means nothing without a rate_limit"},
		"a burst below zero":           {data{"rate_limit": 1, "rate_burst": -2}, "field rate_burst: -2 is not a valid number"},
		"more rules than are answered": {data{"denied_prompts": make([]string, 1025)}, ""},
		"rules that no entry holds":    {data{"denied_resources": longRules()}, "field denied_resources: its rules are 133770 bytes long: at most 131072 are allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			if list, ok := test.fields["denied_prompts"].([]string); ok {
				for i := range list {
					list[i] = "s/" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
				}
				test.want = "field denied_prompts: it has 1025 entries"
			}
			require.Contains(t, e.refusedWrite("clients/c", test.fields), test.want)
		})
	}
}

// longRules returns rules that are too long together, and not each by itself.
func longRules() []string {
	rules := make([]string, 0, 70)
	for i := range cap(rules) {
		rules = append(rules, fmt.Sprintf("s/note://%02d%s", i, strings.Repeat("a", 1900)))
	}
	return rules
}

func TestRulesThatAnEarlierVersionTookStay(t *testing.T) {
	e := newEnv(t)
	e.client("c", data{"allowed_servers": "s"})
	stored, err := e.storage.Get(context.Background(), clientPrefix+"c")
	require.NoError(t, err)
	var c clientEntry
	require.NoError(t, stored.DecodeJSON(&c))
	c.DeniedTools = make([]string, 0, 300)
	for i := range cap(c.DeniedTools) {
		c.DeniedTools = append(c.DeniedTools, fmt.Sprintf("s/%03d%s", i, strings.Repeat("a", 490)))
	}
	require.NoError(t, putJSON(context.Background(), e.storage, clientPrefix+"c", &c))
	e.b.invalidate(context.Background(), clientPrefix+"c")
	e.write("clients/c", data{"disabled": true})
	require.Contains(t, e.refusedWrite("clients/c", data{"denied_tools": c.DeniedTools}), "field denied_tools: its rules are 148500 bytes long")
}

func TestRulesWithoutEffectAreWarnedOf(t *testing.T) {
	e := newEnv(t)
	for name, test := range map[string]struct {
		fields data
		want   string
	}{
		"prompts":                         {data{"allowed_prompts": ""}, "allowed_prompts is set and empty, so it allows no prompt of allowed_servers: write allowed_prompts='*/*' to allow all of them"},
		"resources":                       {data{"allowed_resources": ""}, "allowed_resources is set and empty, so it allows no resource of allowed_servers"},
		"rules about a server beside it":  {data{"allowed_tools": "files/x,github/y,gitlab/*,github/z"}, "allowed_tools has rules about github, gitlab, which allowed_servers does not name: they have no effect until it does"},
		"resources of a server beside it": {data{"allowed_resources": "github/*"}, "allowed_resources has rules about github"},
	} {
		t.Run(name, func(t *testing.T) {
			test.fields["allowed_servers"] = "files"
			require.Contains(t, strings.Join(e.write("clients/c", test.fields).Warnings, "\n"), test.want)
		})
	}
	warnings := e.write("clients/d", data{"allowed_servers": "*", "allowed_tools": "github/y", "denied_tools": "gitlab/x"}).Warnings
	require.NotContains(t, strings.Join(warnings, "\n"), "rules about", "a denial is no mistake, and * admits github")
}

func TestWarningsOfRightsAreTrueOfRolesToo(t *testing.T) {
	e := newEnv(t)
	warnings := strings.Join(e.write("roles/r", data{"allowed_servers": "later", "allowed_tools": ""}).Warnings, "\n")
	require.Contains(t, warnings, `no server "later" is registered: allowed_servers admits it once it is (servers/later)`)
	require.Contains(t, warnings, "allowed_tools is set and empty, so it allows no tool of allowed_servers: write allowed_tools='*/*' to allow all of them")
	warnings = strings.Join(e.write("clients/c", data{"role": "r", "allowed_tools": ""}).Warnings, "\n")
	require.NotContains(t, warnings, "set and empty", "the client has no servers of its own, and its role decides about the others")
}

// oldLookup has the fields of a lookup's answer that a gateway of version 0.1 reads.
type oldLookup struct {
	AllowedServers []string `json:"allowed_servers"`
	AllowedTools   []string `json:"allowed_tools"`
	DeniedTools    []string `json:"denied_tools"`
}

func TestOldGatewayAdmitsNothingUnderRulesThatItDoesNotKnow(t *testing.T) {
	e := newEnv(t)
	e.write("servers/files", data{"transport": "http", "url": "https://files.example.com/mcp"})
	plain := data{"allowed_servers": "files", "allowed_tools": "files/read", "denied_tools": "files/x"}
	token := e.client("plain", plain)
	old := asJSON[oldLookup](t, e.lookup(token))
	require.Equal(t, oldLookup{[]string{"files"}, []string{"files/read"}, []string{"files/x"}}, old)
	require.Nil(t, e.lookup(token)["rights"], "the old fields say all")

	for name, more := range map[string]data{
		"no prompt":       {"allowed_prompts": ""},
		"a denied prompt": {"denied_prompts": "files/x"},
		"some resources":  {"allowed_resources": "*/*"},
		"one resource":    {"denied_resources": "files/file:///x"},
		"a rate limit":    {"rate_limit": 2.5},
	} {
		t.Run(name, func(t *testing.T) {
			fields := data{}
			for _, part := range []data{plain, more} {
				for field, value := range part {
					fields[field] = value
				}
			}
			e.write("clients/plain", fields)
			answer := e.lookup(token)
			require.Equal(t, oldLookup{[]string{}, []string{}, []string{}}, asJSON[oldLookup](t, answer))
			read := asJSON[struct {
				Rights    []policy.Rights `json:"rights"`
				RateLimit float64         `json:"rate_limit"`
				RateBurst int             `json:"rate_burst"`
			}](t, answer)
			require.Len(t, read.Rights, 1)
			require.Equal(t, []string{"files"}, read.Rights[0].AllowedServers)
			require.Equal(t, []string{"files/x"}, read.Rights[0].DeniedTools)
			require.Equal(t, more["rate_limit"] != nil, read.RateLimit == 2.5 && read.RateBurst == 3)

			resp := e.must(logical.UpdateOperation, "introspect", data{"token": token})
			require.Equal(t, http.StatusOK, resp.Data[logical.HTTPStatusCode])
			var in map[string]any
			require.NoError(t, json.Unmarshal(resp.Data[logical.HTTPRawBody].([]byte), &in))
			require.NotContains(t, in, "scope", "who reads that and allowed_tools lets pass what denied_prompts denies")
			require.NotContains(t, in, "allowed_servers")
			require.Equal(t, []any{"files"}, in["servers"])
			require.Equal(t, []any{}, in["allowed_tools"])
			require.Len(t, in["rights"], 1)

			e.patch("clients/plain", data{"allowed_prompts": nil, "denied_prompts": nil, "allowed_resources": nil, "denied_resources": nil, "rate_limit": nil})
			require.Nil(t, e.lookup(token)["rights"])
		})
	}
}

func TestStoredClientOfAnEarlierVersionReads(t *testing.T) {
	var c clientEntry
	require.NoError(t, json.Unmarshal([]byte(`{"id":"x","allowed_servers":["a"],"allowed_tools":null,"denied_tools":["a/x"],"policies":["p"]}`), &c))
	require.Equal(t, []string{"a"}, c.AllowedServers)
	require.Nil(t, c.AllowedTools)
	require.Nil(t, c.AllowedPrompts, "what is not there is unset")
	require.Nil(t, c.AllowedResources)
	require.Equal(t, []string{"a/x"}, c.DeniedTools)

	c.AllowedPrompts = []string{}
	text, err := json.Marshal(&c)
	require.NoError(t, err)
	var again clientEntry
	require.NoError(t, json.Unmarshal(text, &again))
	require.Equal(t, c, again, "a list that is set and empty stays so")
}

func TestEvaluateExplainsAnItem(t *testing.T) {
	e := newEnv(t)
	e.write("servers/files", data{"transport": "http", "url": "https://files.example.com/mcp"})
	e.client("c", data{
		"allowed_servers": "files", "allowed_tools": "files/read_*", "denied_prompts": "*/deploy",
		"allowed_resources": "files/file:///srv/*", "denied_resources": "*/*secret*",
	})
	for name, test := range map[string]struct {
		request  data
		decision string
		reason   string
		entry    string
		source   string
	}{
		"an allowed tool":      {data{"tool": "read_file"}, "allowed", `the rule "files/read_*" in allowed_tools of client c matches`, "files/read_*", "allowed_tools of client c"},
		"another tool":         {data{"tool": "write"}, "tool-not-allowed", `Add "files/write" to allow it`, "", ""},
		"a denied prompt":      {data{"prompt": "deploy"}, "prompt-not-allowed", "Nothing overrides a denial", "*/deploy", "denied_prompts of client c"},
		"another prompt":       {data{"prompt": "review"}, "allowed", "allowed_prompts of client c is unset", "", ""},
		"an allowed resource":  {data{"resource": "FILE:///srv/a b"}, "allowed", `compared as "file:///srv/a%20b"`, "files/file:///srv/*", "allowed_resources of client c"},
		"a denied resource":    {data{"resource": "file:///srv/Secret"}, "resource-not-allowed", "denied_resources of client c", "*/*secret*", "denied_resources of client c"},
		"a URI with two sides": {data{"resource": "file:///srv/../etc"}, "resource-not-allowed", `has a part "." or ".."`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			test.request["client"], test.request["server"] = "c", "files"
			answer := e.write("evaluate", test.request).Data
			require.Equal(t, test.decision, answer["decision"])
			require.Equal(t, test.decision == "allowed", answer["allowed"])
			require.Contains(t, answer["reason"], test.reason)
			require.Equal(t, test.entry, answer["entry"])
			require.Equal(t, test.source, answer["source"])
			require.Len(t, answer["checks"], 6)
		})
	}
	refused := e.write("evaluate", data{"client": "c", "server": "elsewhere", "tool": "x"}).Data
	require.Equal(t, "unknown-server", refused["decision"])
	require.Len(t, refused["checks"], 6)
	e.write("clients/c", data{"disabled": true})
	require.Equal(t, "client-disabled", e.write("evaluate", data{"client": "c", "server": "files", "tool": "read_file"}).Data["decision"])
	require.Contains(t, e.refusedWrite("evaluate", data{"policies": "", "server": "files", "tool": "x"}), "field tool: rules about it belong to a client")
	require.Contains(t, e.refusedWrite("evaluate", data{"client": "c", "server": "files", "tool": "x", "prompt": "y"}), "give one of them")
	require.Contains(t, e.refusedWrite("evaluate", data{"client": "c", "server": "files", "tool": ""}), "field tool: it is empty")
}

// asJSON reads data as those do who get it over the wire.
func asJSON[T any](t *testing.T, d data) T {
	t.Helper()
	text, err := json.Marshal(d)
	require.NoError(t, err)
	var read T
	require.NoError(t, json.Unmarshal(text, &read))
	return read
}
