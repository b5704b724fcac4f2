package pins

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/bootstrap/provision"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// pinsOutliveVault kills Vault, and starts it again.
func pinsOutliveVault(t *testing.T, s *pinned) {
	t.Helper()
	server := newHostile(saying(all(good)))
	s.register("kept", s.start(server), inJSON, harness.Map{"pin": "enforce"})
	s.approve("kept", definitionOf(pin.Tool, good))
	token := s.CreateClient("kept", harness.Map{"allowed_servers": "kept"})
	var callers []*caller
	for _, at := range stage.Endpoints {
		c := s.caller(t, stage.Path{Era: harness.StatelessEra, At: at}, "kept", token)
		callers = append(callers, c)
		s.Eventually("the approved text is shown", func() error { return c.shows(true) })
	}
	before := s.Read("mcp/pins/kept")

	s.Vault.Nodes[0].Kill()
	for _, c := range callers {
		require.NoError(t, c.shows(true), "while Vault is down")
		server.says(saying(all(bad)))
		require.NotContains(t, c.sees(pin.Tool), bad, "while Vault is down")
		server.says(saying(all(good)))
	}
	s.Vault.Nodes[0].Start()
	require.Equal(t, before["approved"], s.Read("mcp/pins/kept")["approved"])
	require.Equal(t, before["place"], s.Read("mcp/pins/kept")["place"])
	s.gateways[1].Restart() // knows only the approvals in Vault
	for _, c := range callers {
		other := *c
		other.gateway = s.gateways[1]
		s.Eventually("it is shown at a gateway that was started after that", func() error { return other.shows(true) })
		server.says(saying(all(bad)))
		require.NotContains(t, other.sees(pin.Tool), bad)
		server.says(saying(all(good)))
	}
	s.Write("mcp/pins/kept", harness.Map{"withdraw": toolName, "kind": "tool"})
	for _, c := range callers {
		s.Eventually("a withdrawal after that counts", func() error { return c.shows(false) })
	}
}

// gatewayPins is the part of the gateway's ACL policy about pins.
var gatewayPins = regexp.MustCompile(`path "mcp/gateway/pins/\+" \{[^}]*\}`)

// unreadPinsAreNoPass takes the right to read pins from the gateways, as an ACL policy of before
// does that nobody has renewed.
func unreadPinsAreNoPass(t *testing.T, s *pinned) {
	t.Helper()
	before := gatewayPins.ReplaceAllString(policies.Gateway, `path "mcp/gateway/pins/+" { capabilities = ["deny"] }`)
	require.NotEqual(t, policies.Gateway, before)
	write := func(rules string) {
		require.NoError(t, provision.Policy(context.WithoutCancel(t.Context()), s.Vault.Client(), policies.GatewayName, rules))
	}
	base := s.start(newHostile(saying(all(good))))
	write(before)
	t.Cleanup(func() { write(policies.Gateway) })
	s.register("unread", base, inJSON, harness.Map{"pin": "enforce"})
	s.approve("unread", all(good)...)
	s.register("unpinned", base, inJSON, nil)
	token := s.CreateClient("unread", harness.Map{"allowed_servers": "unread,unpinned"})
	path := stage.Path{Era: harness.StatelessEra, At: stage.Single}
	c, other := s.caller(t, path, "unread", token), s.caller(t, path, "unpinned", token)
	s.Eventually("the gateway knows the server without pins", func() error { return other.shows(true) })
	for method, name := range map[string]string{"tools/list": "", "tools/call": toolName, "server/discover": "", "ping": ""} {
		answer := c.h.Do(http.MethodPost, c.url(), token, c.header(method, name), c.message(method, named("name")(name)))
		require.Equal(t, http.StatusServiceUnavailable, answer.Status, "%s: %s", method, answer.Body)
		require.NotContains(t, answer.Body, good)
	}
	whole := s.caller(t, stage.Path{Era: harness.StatelessEra, At: stage.Aggregate}, "unread", token)
	s.Eventually("the lists of the others are there", func() error { return whole.shows(true) })
	require.NotContains(t, whole.sees(pin.Tool), "unread__")

	write(policies.Gateway)
	s.Eventually("the server is reached again", func() error { return c.shows(true) })
	s.Eventually("and at the endpoint of all servers", func() error {
		if got := whole.sees(pin.Tool); !regexp.MustCompile("unread__search").MatchString(got) {
			return errors.New(got)
		}
		return nil
	})
}
