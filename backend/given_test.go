package backend

import (
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
	"github.com/stretchr/testify/require"
)

// The ends that a token has after it went through a file, echo or a terminal.
var ends = []string{"\n", "\r\n", " ", "\t\n"}

func TestWhiteSpaceAtTheEndsOfATokenIsCutWhereverOneIsTaken(t *testing.T) {
	for _, end := range ends {
		e := newEnv(t)
		token := e.client("c", data{"token_ttl": "1h"})
		accessor := e.lookup(token)["accessor"].(string)
		require.Equal(t, true, e.lookup(end + token + end)["active"])
		require.Equal(t, true, e.write("lookup-accessor", data{"accessor": accessor + end}).Data["active"])
		in, _ := introspect(t, e, token+end)
		require.True(t, in.Active)
		require.Equal(t, accessor, e.write("renew", data{"token": token + end, "increment": "1h"}).Data["accessor"])
		require.Equal(t, accessor, e.write("renew", data{"accessor": end + accessor, "increment": "1h"}).Data["accessor"])

		require.Empty(t, e.write("revoke", data{"token": token + end}).Warnings)
		require.False(t, e.active(token), "a token given with %q at its end stayed active", end)
		next := e.rotate("c", nil)
		accessor = e.lookup(next)["accessor"].(string)
		require.Empty(t, e.write("revoke-accessor", data{"accessor": accessor + end}).Warnings)
		require.False(t, e.active(next))

		own := "my_secret_token_123"
		require.Equal(t, own, e.write("rotate-client/c", data{"access_token": own + end}).Data["token"])
		require.True(t, e.active(own))
		require.Equal(t, own, e.write("clients/d", data{"access_token": own + "4" + end}).Data["token"].(string)[:len(own)])
	}
}

func TestWhatCannotBeATokenIsNoTokenThatHasEnded(t *testing.T) {
	e := newEnv(t)
	token := e.client("c", data{})
	accessor := e.lookup(token)["accessor"].(string)
	for name, tc := range map[string]struct{ given, told string }{
		"the scheme in front":           {"Bearer " + token, `without "Bearer"`},
		"the scheme in lower case":      {"bearer " + token, `without "Bearer"`},
		"the whole header":              {"Authorization: Bearer " + token, `without "Bearer"`},
		"a part of it":                  {token[:len(token)-1], "checksum"},
		"two of them":                   {token + " " + token, "checksum"},
		"quotes around it":              {`"` + token + `"`, "RFC 6750"},
		"an ellipsis, as in the docs":   {"mcpt_…", "checksum"},
		"a sealed token without an end": {"mcpk_abc", "field token"},
		"nothing":                       {"", "empty"},
		"white space":                   {" \n", "empty"},
		"its accessor":                  {accessor, "this is the accessor of a token"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"revoke", "renew"} {
				text := e.refused(logical.UpdateOperation, path, data{"token": tc.given})
				require.Contains(t, text, tc.told, path)
				require.Contains(t, text, "field token")
				require.NotContains(t, text, token)
			}
			resp := e.write("lookup", data{"token": tc.given})
			require.Equal(t, false, resp.Data["active"])
			if tc.given != accessor { // which might be a custom token
				require.Len(t, resp.Warnings, 1)
				require.Contains(t, resp.Warnings[0], tc.told)
			}
			require.True(t, e.active(token))
		})
	}
	require.Empty(t, e.write("lookup", data{"token": "well_formed_but_unknown"}).Warnings)
	require.Contains(t, e.refused(logical.UpdateOperation, "clients/d", data{"access_token": "Bearer my_secret_token_123"}), `without "Bearer"`)
}

func TestWhatCannotBeAnAccessorIsRefused(t *testing.T) {
	e := newEnv(t)
	token := e.client("c", data{})
	accessor := e.lookup(token)["accessor"].(string)
	for name, given := range map[string]string{
		"a word": "nonsense", "a token": token, "a part of it": accessor[:31], "more than it": accessor + "x",
		"another character in it": accessor[:31] + "-", "nothing": "", "white space in it": accessor[:16] + " " + accessor[17:],
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"revoke-accessor", "renew"} {
				text := e.refused(logical.UpdateOperation, path, data{"accessor": given})
				require.Contains(t, text, "field accessor", path)
				require.NotContains(t, text, token)
			}
			resp := e.write("lookup-accessor", data{"accessor": given})
			require.Equal(t, false, resp.Data["active"])
			require.Len(t, resp.Warnings, 1)
			if given != "" && given != token {
				require.Contains(t, e.refused(logical.DeleteOperation, "clients/c/tokens/"+given, nil), "field accessor")
			}
			require.True(t, e.active(token))
		})
	}
}
