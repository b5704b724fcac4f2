package backend

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
)

// TestAnUpgradeKeepsWhatV010Stored reads the storage that v0.1.0 left behind. Its
// answers about a token, a client, a server or a policy stay true.
func TestAnUpgradeKeepsWhatV010Stored(t *testing.T) {
	d := readDump(t)

	t.Run("every token is as good as it was", func(t *testing.T) {
		e := d.start(t)
		for _, name := range slices.Sorted(maps.Keys(d.Tokens)) {
			was, is := d.Lookups[name], e.lookup(d.Tokens[name])
			require.Equal(t, was["active"], is["active"], name)
			for _, field := range []string{"client", "client_id", "accessor", "kind", "allowed_servers", "denied_tools", "token_bound_cidrs", "metadata", "issued_at", "expires_at"} {
				require.Equal(t, plain(t, was[field]), plain(t, is[field]), "%s of %s", field, name)
			}
			if is["active"] == true {
				found := e.write("lookup-accessor", data{"accessor": d.Accessors[name]}).Data
				require.Equal(t, is["client_id"], found["client_id"], name)
			}
		}
	})

	t.Run("every decision is the same", func(t *testing.T) {
		e := d.start(t)
		for _, client := range e.list("clients/") {
			if client == "disabled" { // v0.1.0 said nothing of that here
				continue
			}
			for _, server := range e.list("servers/") {
				got := e.write("evaluate", data{"client": client, "server": server}).Data["decision"]
				require.Equal(t, d.Decisions[client+" "+server], got, "%s to %s", client, server)
			}
		}
	})

	t.Run("gateways read the same registry and keys", func(t *testing.T) {
		e := d.start(t)
		require.Equal(t, plain(t, d.Gateway["gateway/keys"]["keys"]), plain(t, e.read("gateway/keys")["keys"]))
		was, is := d.Gateway["gateway/servers"]["servers"].(data), e.read("gateway/servers")["servers"].(data)
		require.Equal(t, slices.Sorted(maps.Keys(was)), slices.Sorted(maps.Keys(is)))
		for name := range is {
			old := was[name].(data)
			for field, value := range is[name].(data) {
				if _, known := old[field]; known {
					require.Equal(t, plain(t, old[field]), plain(t, value), "%s of %s", field, name)
				} else {
					require.Equal(t, "nothing", plain(t, value), "%s of %s, which v0.1.0 did not have", field, name)
				}
				delete(old, field)
			}
			require.Empty(t, old, "a field of %s is gone", name)
		}
	})

	t.Run("administrators read the same", func(t *testing.T) {
		e := d.start(t)
		require.Equal(t, slices.Sorted(maps.Keys(d.Clients)), e.list("clients/"))
		require.Equal(t, slices.Sorted(maps.Keys(d.Policies)), e.list("policies/"))
		for name, was := range d.Servers {
			is := e.read("servers/" + name)
			for _, field := range []string{"id", "transport", "url", "url_query", "command", "args", "env", "headers", "shared"} {
				require.Equal(t, plain(t, was[field]), plain(t, is[field]), "%s of %s", field, name)
			}
		}
	})

	t.Run("a gateway's feed goes on where it was", func(t *testing.T) {
		e := d.start(t)
		since := data{"epoch": d.Feed["epoch"], "index": int64(d.Feed["index"].(float64))}
		e.write("revoke-client/plain", nil)
		got := e.must(logical.ReadOperation, "changes", since).Data
		require.Equal(t, false, got["reset"])
		changes := got["changes"].([]map[string]any)
		require.Len(t, changes, 1)
		require.Equal(t, d.Clients["plain"]["client_id"], changes[0]["client_id"])
		require.False(t, e.active(d.Tokens["plain"]))
	})

	t.Run("leases are renewed and revoked", func(t *testing.T) {
		e := d.start(t)
		first := d.lease(t, "first")
		resp, err := e.renewLease(first)
		require.NoError(t, err)
		require.NoError(t, resp.Error())
		e.clock.Advance(20 * time.Minute) // beyond its first end
		require.True(t, e.active(first.token))
		require.NoError(t, e.revokeLease(first))
		require.False(t, e.active(first.token))
	})

	t.Run("a rotation ends what it should, and a spent token stays spent", func(t *testing.T) {
		e := d.start(t)
		e.write("rotate-client/rotated", data{"grace_period": "0"})
		require.False(t, e.active(d.Tokens["rotated-old"]))
		require.False(t, e.active(d.Tokens["rotated-new"]))
		require.Contains(t, e.refused(logical.UpdateOperation, "clients/again", data{"access_token": d.Tokens["spent"]}), "access_token")
	})

	t.Run("nobody signs in before an administrator says so", func(t *testing.T) {
		e := d.start(t)
		require.Empty(t, e.rows())
		require.Equal(t, data{"clients": map[string]any{}, "logins": []string{}}, e.read("gateway/sign-in"))
		require.NotEmpty(t, e.read("gateway/keys")["registration_key"])
		require.Nil(t, e.read("config")["sign_in_logins"])
		for _, name := range e.list("clients/") {
			require.Equal(t, false, e.read("clients/" + name)["sign_in"], name)
		}
		for name, token := range d.Tokens {
			if found := e.lookup(token); found["active"] == true {
				require.Empty(t, found["resource"], name)
				require.Empty(t, found["sign_in"], name)
			}
		}
		require.Contains(t, e.signInRefused(ann(), logical.UpdateOperation, "plain", signInData(nil)), "sign_in=true first")
		e.write("clients/plain", data{"sign_in": true})
		e.write("config", data{"sign_in_logins": data{"employees": employees}})
		require.True(t, e.active(e.signedIn(ann(), "plain", nil).token))
		require.True(t, e.active(d.Tokens["plain"]))
	})

	t.Run("pins are off, and belong to where servers lead", func(t *testing.T) {
		e := d.start(t)
		digest := digestOf(t, pin.Tool, toolText("a", ""))
		for name, was := range d.Servers {
			require.Equal(t, "off", e.read("servers/" + name)["pin"])
			require.Equal(t, was["id"], e.read("pins/" + name)["place"])
			e.write("pins/"+name, data{"approve": "a", "digest": digest})
		}
		e.write("servers/notes", data{"env": data{"NOTES_KEY": "other"}, "pin": "enforce"})
		e.write("servers/notes", data{"disabled": true})
		require.NotEqual(t, d.Servers["notes"]["id"], e.read("servers/notes")["id"])
		require.Len(t, e.read("pins/notes")["approved"], 1)
		e.write("servers/calculator", data{"url": "https://elsewhere.example.com/mcp"})
		require.Empty(t, e.read("pins/calculator")["approved"])
		e.tidyToEnd()
		require.Len(t, e.read("pins/notes")["approved"], 1)
	})

	t.Run("tidy takes nothing that lives", func(t *testing.T) {
		e := d.start(t)
		e.tidyToEnd()
		for name, token := range d.Tokens {
			require.Equal(t, d.Lookups[name]["active"], e.active(token), name)
		}
	})
}

// plain is a value as JSON has it, with one form of an empty value: the test compares
// values as a caller reads them.
func plain(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	switch s := string(b); s {
	case "null", "[]", "{}", `""`:
		return "nothing"
	default:
		return s
	}
}
