package backend

import (
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestGatewaysReadAsWhomPeopleMaySignIn(t *testing.T) {
	e := newEnv(t)
	require.Equal(t, data{"clients": map[string]any{}, "logins": []string{}}, e.read("gateway/sign-in"))
	for _, name := range []string{"files", "github", "secret"} {
		e.write("servers/"+name, data{"transport": "http", "url": "https://" + name + ".example.com/mcp"})
	}
	e.write("policies/dev", data{"deniedMcpServers": []any{data{"serverName": "secret"}}})
	e.write("config", data{"sign_in_logins": data{"employees": employees, "ci": ciMount}})
	e.client("listed", data{"sign_in": true, "allowed_servers": "github,files,not-registered", "metadata": "description=For engineers"})
	e.client("all", data{"sign_in": true, "allowed_servers": "*"})
	e.client("ruled", data{"sign_in": true, "allowed_servers": "*", "policies": "dev"})
	e.client("blocked", data{"sign_in": true, "allowed_servers": "*", "policies": "missing"})
	e.client("nothing", data{"sign_in": true})
	e.client("disabled", data{"sign_in": true, "allowed_servers": "*", "disabled": true})
	e.client("other", data{"allowed_servers": "*"})
	got := e.read("gateway/sign-in")
	require.Equal(t, []string{"ci", "employees"}, got["logins"])
	want := func(name, description string, all bool, servers ...string) data {
		return data{"id": e.read("clients/" + name)["client_id"], "description": description, "servers": orEmpty(servers), "all_servers": all}
	}
	require.Equal(t, map[string]any{
		"listed":  want("listed", "For engineers", false, "files", "github"),
		"all":     want("all", "", true, "files", "github", "secret"),
		"ruled":   want("ruled", "", false, "files", "github"),
		"blocked": want("blocked", "", false),
		"nothing": want("nothing", "", false),
	}, got["clients"])
}

func TestTheRegistrationKeyOutlivesEverySessionKey(t *testing.T) {
	e := newEnv(t)
	key := func() string { return e.read("gateway/keys")["registration_key"].(string) }
	first := key()
	raw, err := base64.StdEncoding.DecodeString(first)
	require.NoError(t, err)
	require.Len(t, raw, 32)
	for version := range e.read("gateway/keys")["keys"].(map[string]any) {
		require.NotEqual(t, first, e.read("gateway/keys")["keys"].(map[string]any)[version].(map[string]any)["key"])
	}
	e.write("gateway/keys/rotate", nil)
	require.Equal(t, first, key())
	for range 12 {
		e.clock.Advance(sessionKeyPeriod)
		e.write("gateway/keys/rotate", nil)
	}
	require.Equal(t, first, key(), "time has dropped it")
	require.Equal(t, first, e.restart().read("gateway/keys")["registration_key"])
	e.write("gateway/keys/rotate", data{"drop_old": true})
	dropped := key()
	require.NotEqual(t, first, dropped)
	e.clock.Advance(time.Hour)
	require.Equal(t, dropped, key())
}

func TestTheKeysOfAnEarlierVersionGetARegistrationKey(t *testing.T) {
	e := newEnv(t)
	e.read("gateway/keys")
	forget := func() {
		held := contentsOf(t, e.storage)[sessionKeysKey]
		var stored data
		require.NoError(t, json.Unmarshal(held, &stored))
		require.NotEmpty(t, stored["registration"])
		delete(stored, "registration")
		require.NoError(t, putJSON(t.Context(), e.storage, sessionKeysKey, stored))
	}
	before := e.read("gateway/keys")
	forget()
	e = e.restart()
	after := e.read("gateway/keys")
	require.Equal(t, before["keys"], after["keys"])
	require.Equal(t, before["current_version"], after["current_version"])
	require.NotEmpty(t, after["registration_key"])
	require.Equal(t, after, e.restart().read("gateway/keys"), "it is stored")

	forget()
	e = newEnvOn(t, e.storage, e.clock)
	e.write("gateway/keys/rotate", nil) // before anybody has read them
	require.NotEmpty(t, e.read("gateway/keys")["registration_key"])
}
