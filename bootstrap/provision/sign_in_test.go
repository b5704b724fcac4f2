package provision_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/bootstrap/provision"
)

func TestAPublicURLIsHTTPSOrOnTheLoopback(t *testing.T) {
	for address, fine := range map[string]bool{
		"https://mcp.example.com":      true,
		"https://mcp.example.com/":     true,
		"https://mcp.example.com:8443": true,
		"http://127.0.0.1:8080":        true,
		"http://[::1]:8080":            true,
		"http://localhost:8080":        true,
		"http://mcp.example.com":       false,
		"http://127.0.0.1.example.com": false,
		"http://10.0.0.1":              false,
		"https://mcp.example.com/mcp":  false,
		"https://mcp.example.com?x=1":  false,
		"https://mcp.example.com#x":    false,
		"https://me@mcp.example.com":   false,
		"https://":                     false,
		"mcp.example.com":              false,
		"ftp://127.0.0.1":              false,
		"https://mcp.example.com\n":    false,
	} {
		err := provision.CheckPublicURL(address)
		require.Equal(t, fine, err == nil, "%q: %v", address, err)
	}
}

func TestASignInLastsFromAQuarterOfAnHourToThirtyDays(t *testing.T) {
	for life, fine := range map[time.Duration]bool{
		15 * time.Minute: true, 12 * time.Hour: true, 720 * time.Hour: true,
		0: false, 15*time.Minute - time.Second: false, 720*time.Hour + time.Second: false, -time.Hour: false,
	} {
		require.Equal(t, fine, provision.CheckSessionMax(life) == nil, life)
	}
}

func TestTheNameOfARoleStandsInAPath(t *testing.T) {
	for name, fine := range map[string]bool{
		"mcp": true, "a": true, "1-b": true, strings.Repeat("a", 32): true,
		"": false, "-a": false, "MCP": false, "a:b": false, "a b": false, "a/b": false, strings.Repeat("a", 33): false,
	} {
		require.Equal(t, fine, provision.CheckRoleName(name) == nil, name)
	}
}

func TestAGroupOfAnyNameHasOneNameInVault(t *testing.T) {
	for group, want := range map[string]string{
		"sre":               "mcp-employees-sre",
		"SRE":               "mcp-employees-sre",
		"/engineering/core": "mcp-employees-%2fengineering%2fcore",
		"Platform Team":     "mcp-employees-platform%20team",
	} {
		require.Equal(t, want, provision.SignInGroup("employees", group))
	}
}

func TestTheRoleGivesNoMoreThanASignInNeeds(t *testing.T) {
	settings := provision.PersonRole{Clients: []string{"b", "a", "b"}, Policies: []string{"mcp-person-more"}, SessionMax: time.Hour}.Settings()
	require.Equal(t, []string{"mcp-person", "mcp-person-a", "mcp-person-b", "mcp-person-more"}, settings["token_policies"])
	require.Equal(t, int64(600), settings["token_ttl"], "what nobody finishes ends after ten minutes")
	require.Equal(t, int64(3600), settings["token_max_ttl"])
	for _, name := range []string{"root", "mcp-admin", "mcp-gateway", "mcp-client", "*", "mcp-person*", ""} {
		require.Error(t, provision.CheckPersonPolicy(name), name)
	}
	require.NoError(t, provision.CheckPersonPolicy("mcp-person-more"))
}
