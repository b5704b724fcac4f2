package backend

import (
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/policy"
)

func TestNoMistakeOfTheWriterTakesThePolicyAway(t *testing.T) {
	for name, d := range map[string]data{
		"a mistyped dry_run":           {"dryrun": true},
		"another dry_run":              {"dry-run": "true"},
		"a dry_run in other letters":   {"dryRun": true},
		"a mistyped managed":           {"manged": true},
		"managed in other letters":     {"Managed": true},
		"a mistyped force":             {"forse": true},
		"a mistyped list":              {"deniedMcpServer": "[]"},
		"a list with underscores":      {"denied_mcp_servers": "[]"},
		"a mistyped lock":              {"allowManagedMcpServerOnly": true},
		"a near miss beside a setting": {"deniedMcpServers": "[]", "dryrun": true},
		"desktop servers alone":        {"mcpServers": data{}},
		"other settings alone":         {"permissions": data{"deny": []any{"WebFetch"}}, "model": "x"},
		"other settings, managed":      {"permissions": data{}, "managed": true},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t)
			e.write("policies/corp", settingsOf(t, settingsFile))
			before := e.read("policies/corp")
			text := e.refusedWrite("policies/corp", d)
			require.Equal(t, before, e.read("policies/corp"), text)
			text = e.refusedWrite("policies/fresh", d)
			require.Nil(t, e.read("policies/fresh"), text)
			if d["mcpServers"] != nil {
				require.Contains(t, text, "servers/NAME")
			}
		})
	}
	e := newEnv(t)
	require.Contains(t, e.refusedWrite("policies/p", data{"managed": true}), "must restrict something")
	require.Contains(t, e.refusedWrite("policies/p", nil), "must restrict something")
	resp := e.write("policies/p", data{"deniedMcpServers": "[]", "mcpServers": data{"x": data{}}})
	require.Contains(t, strings.Join(resp.Warnings, "\n"), "RESTRICTS NOTHING")
	require.Contains(t, strings.Join(resp.Warnings, "\n"), "servers/NAME")
}

// Claude Code's own settings load with a policy, however near their names are.
func TestSettingsOfTheDesktopProgramAreIgnoredNotRefused(t *testing.T) {
	e := newEnv(t)
	resp := e.write("policies/corp", with(settingsOf(t, settingsFile), data{
		"managedMcpServers": data{}, "enabledMcpjsonServers": []any{}, "disabledMcpjsonServers": []any{}, "allowAllClaudeAiMcps": true,
		"allowManagedHooksOnly": true, "allowManagedPermissionRulesOnly": true, "managedSourcesBehavior": "merge", "env": data{"A": 1.5, "B": true},
		"hooks": data{}, "model": "opus", "forceLoginMethod": "console", "metadata": data{"a": nil}, "url": data{"x": 1}, "headers": "x",
	}))
	require.Contains(t, strings.Join(resp.Warnings, "\n"), `"managedMcpServers"`)
	require.Len(t, e.read("policies/corp")["allowedMcpServers"], 2)
}

func TestAManagedPolicyIsTakenOutOfForceWithAWordAboutIt(t *testing.T) {
	denies := data{"deniedMcpServers": `[{"serverName":"bad"}]`, "managed": true}
	lists := data{"allowedMcpServers": `[{"serverName":"good"}]`, "managed": true}
	for name, tc := range map[string]struct {
		held   []data // p first
		widens bool
	}{
		"one that denies":                           {[]data{denies}, true},
		"one with the only list":                    {[]data{lists}, true},
		"one of two that deny the same":             {[]data{denies, denies}, false},
		"one of two with lists":                     {[]data{lists, lists}, false},
		"one that denies nothing":                   {[]data{{"deniedMcpServers": "[]", "managed": true}}, false},
		"one with the only URLs":                    {[]data{{"allowedMcpServers": `[{"serverUrl":"https://a/*"}]`, "managed": true}, lists}, true},
		"one that locks, while others have lists":   {[]data{with(data{"allowManagedMcpServersOnly": true}, lists), lists, {"allowedMcpServers": "[]"}}, true},
		"one that locks, while no others have any":  {[]data{with(data{"allowManagedMcpServersOnly": true}, lists), lists}, false},
		"one that is not managed, whatever it does": {[]data{{"deniedMcpServers": `[{"serverName":"bad"}]`}}, false},
	} {
		for what, lift := range map[string]struct {
			op   logical.Operation
			data data
		}{"deleted": {logical.DeleteOperation, data{}}, "not managed any more": {logical.UpdateOperation, data{"managed": false}}} {
			t.Run(name+", "+what, func(t *testing.T) {
				e := newEnv(t)
				for i, d := range tc.held {
					e.write("policies/"+[]string{"p", "q", "r"}[i], d)
				}
				managed := tc.held[0]["managed"] == true
				if tc.widens {
					text := e.refused(lift.op, "policies/p", lift.data)
					require.Contains(t, text, "every client")
					require.Contains(t, text, "force=true")
					require.Equal(t, true, e.read("policies/p")["managed"])
				}
				warnings := e.must(lift.op, "policies/p", with(data{"force": true}, lift.data)).Warnings
				require.Equal(t, managed, strings.Contains(strings.Join(warnings, "\n"), "every client"), warnings)
				if !tc.widens { // needs no force
					e := newEnv(t)
					for i, d := range tc.held {
						e.write("policies/"+[]string{"p", "q", "r"}[i], d)
					}
					warnings := e.must(lift.op, "policies/p", lift.data).Warnings
					require.Equal(t, managed, strings.Contains(strings.Join(warnings, "\n"), "every client"), warnings)
				}
			})
		}
	}
	e := newEnv(t)
	e.write("policies/p", denies)
	require.Contains(t, e.write("policies/p", data{"managed": false, "dry_run": true}).Warnings[0], "every client")
	require.Equal(t, true, e.read("policies/p")["managed"])
}

func TestAServersNameIsNotInheritedUnseen(t *testing.T) {
	e := newEnv(t)
	here := data{"transport": "http", "url": "https://here.example/"}
	elsewhere := data{"transport": "http", "url": "https://elsewhere.example/"}
	e.write("servers/s", here)
	e.client("one", data{"allowed_servers": "s"})
	e.client("two", data{"allowed_servers": "s,t"})
	e.client("three", data{"allowed_servers": "t"})

	warning := strings.Join(e.delete("servers/s").Warnings, "\n")
	require.Contains(t, warning, "2 clients (one, two)")
	require.Contains(t, e.refusedWrite("servers/s", elsewhere), "2 clients (one, two)")
	require.Contains(t, strings.Join(e.write("servers/s", here).Warnings, "\n"), "2 clients (one, two)", "the same place again")

	e.delete("servers/s")
	require.Contains(t, strings.Join(e.write("servers/s", with(data{"force": true}, elsewhere)).Warnings, "\n"), "2 clients")
	require.Empty(t, e.keys(gonePrefix))

	e.delete("servers/s")
	e.write("clients/one", data{"allowed_servers": ""})
	e.write("clients/two", data{"allowed_servers": "t"})
	require.Empty(t, e.write("servers/s", here).Warnings, "nobody names it any more")
	require.Empty(t, e.delete("servers/s").Warnings)
	require.Empty(t, e.keys(gonePrefix))
	require.Empty(t, e.watch(func() { e.delete("servers/s") }), "a delete of nothing was announced")
}

func TestWritesWithoutEffectWakeNoGateway(t *testing.T) {
	e := newEnv(t)
	http := data{"transport": "http", "url": "https://h.example/", "headers": data{"X-A": "b"}, "args": []any{}, "env": data{}, "command": "", "shared": false}
	stdio := data{"transport": "stdio", "command": "/bin/x", "args": []string{"a"}, "env": "", "headers": "", "url": ""}
	settings := with(settingsOf(t, settingsFile), data{"managed": true})
	e.write("servers/h", http)
	e.write("servers/s", stdio)
	e.write("policies/p", settings)
	e.write("policies/q", data{"deniedMcpServers": "[]"})
	require.Empty(t, e.watch(func() {
		e.write("servers/h", http)
		e.write("servers/h", data{"transport": "streamable_http"})
		e.write("servers/s", stdio)
		e.write("policies/p", settings)
		e.write("policies/p", data{"managed": true})
		e.write("policies/q", data{"deniedMcpServers": []any{}})
	}))
	require.NotEmpty(t, e.watch(func() { e.write("policies/q", data{"deniedMcpServers": "[]", "allowedMcpServers": "[]"}) }))
}

func TestADisabledClientIsAllowedNothing(t *testing.T) {
	e := newEnv(t)
	e.catalog()
	e.client("c", data{"allowed_servers": "good"})
	e.write("clients/c", data{"disabled": true})
	for _, question := range []data{{"server": "good"}, {"server": "bad"}, {"server_name": "good", "url": "https://x.example/"}} {
		got := e.decision(with(data{"client": "c"}, question))
		require.Equal(t, false, got["allowed"])
		require.Equal(t, policy.ClientDisabled, got["decision"])
		require.Contains(t, got["reason"], "disabled=false")
		require.Contains(t, got["summary"], "client-disabled: ")
	}
	require.Equal(t, policy.UnknownServer, e.decision(data{"client": "c", "server": "nowhere"})["decision"])
}

func TestAnswersHaveASummaryForAReader(t *testing.T) {
	e := newEnv(t)
	e.catalog()
	e.client("c", data{"allowed_servers": "good,bad"})
	got := e.decision(data{"client": "c", "server": "good"})
	require.True(t, strings.HasPrefix(got["summary"].(string), "allowed: server \"good\" is allowed"))
	require.Regexp(t, `(?m)^CHECK +RESULT +DETAIL\nserver +passed +server "good" is registered$`, got["summary"])

	dry := e.write("policies/p", data{"deniedMcpServers": `[{"serverName":"bad"}]`, "managed": true, "dry_run": true}).Data
	require.Equal(t, "CLIENT  SERVER  BEFORE   AFTER\nc       bad     allowed  blocked-deny", dry["summary"])
	dry = e.write("policies/p", data{"deniedMcpServers": "[]", "managed": true, "dry_run": true}).Data
	require.Equal(t, "No decision would change.", dry["summary"])
}

// A terminal shows null as <nil>, an empty text as n/a and an empty map as map[].
func TestWhatIsNotSetIsReadInOneSpelling(t *testing.T) {
	e := newEnv(t)
	e.write("servers/h", data{"transport": "http", "url": "http://h.example/"})
	e.write("servers/s", data{"transport": "stdio", "command": "/bin/x"})
	e.client("c", nil)
	e.write("revoke-client/c", nil)
	e.client("d", nil)
	accessor := e.read("clients/d")["accessor"].(string)
	for _, path := range []string{"servers/h", "servers/s", "clients/c", "clients/d", "clients/d/tokens/" + accessor} {
		for name, value := range e.read(path) {
			if value == "" {
				t.Errorf("%s: %s is empty, and not nothing", path, name)
			}
			require.NotEqual(t, map[string]string{}, value, "%s: %s", path, name)
		}
	}
	got := e.read("clients/c")
	for _, field := range []string{"allowed_tools", "metadata", "seal", "expires_at", "accessor"} {
		require.Contains(t, got, field)
		require.Nil(t, got[field], field)
	}
	require.Equal(t, []string{}, got["allowed_servers"], "an empty list is set")
}

func TestACreateSaysHowToSendTheToken(t *testing.T) {
	resp := newEnv(t).write("clients/c", nil)
	require.Equal(t, "Authorization: Bearer <token>", resp.Data["send_as"])
}
