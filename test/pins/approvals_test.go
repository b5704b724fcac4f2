package pins

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/bootstrap/policies"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// everywhere returns a client of the server at each gateway, endpoint and era.
func (s *pinned) everywhere(t *testing.T, server, token string) (callers []*caller) {
	t.Helper()
	for _, gateway := range s.gateways {
		for _, path := range stage.Paths {
			c := s.caller(t, path, server, token)
			c.gateway = gateway
			callers = append(callers, c)
		}
	}
	return callers
}

// shows is nil if the client is shown the approved tool, or is not, as wanted.
func (c *caller) shows(wanted bool) error {
	if got := c.sees(pin.Tool); strings.Contains(got, good) != wanted {
		return fmt.Errorf("at %s, %s: %s", c.gateway.URL, c.path, got)
	}
	return nil
}

// aFlipIsQuick changes the pins of a server in every way, and looks at both gateways.
func aFlipIsQuick(t *testing.T, s *pinned) {
	t.Helper()
	s.register("flip", s.start(newHostile(saying(all(good)))), inJSON, nil)
	callers := s.everywhere(t, "flip", s.CreateClient("flip", harness.Map{"allowed_servers": "flip"}))
	for _, c := range callers {
		s.Eventually("the gateway knows the server", func() error { return registered(c) })
		s.Eventually("the tool is listed without pins", func() error { return c.shows(true) })
	}
	tool := definitionOf(pin.Tool, good)
	withdrawn := harness.Map{"withdraw": tool.name, "kind": "tool", "digest": tool.digest()}
	for _, step := range []struct {
		name  string
		do    func()
		shown bool
	}{
		{"pin=enforce", func() { s.pin("flip", "enforce") }, false},
		{"an approval", func() { s.approve("flip", tool) }, true},
		{"its withdrawal", func() { s.Write("mcp/pins/flip", withdrawn) }, false},
		{"pin=observe", func() { s.pin("flip", "observe") }, true},
		{"pin=enforce again", func() { s.pin("flip", "enforce") }, false},
		{"pins of prompts alone", func() { s.Write("mcp/servers/flip", harness.Map{"pin_kinds": "prompt"}) }, true},
		{"pins of all kinds", func() { s.Write("mcp/servers/flip", harness.Map{"pin_kinds": ""}) }, false},
		{"another approval", func() { s.approve("flip", tool) }, true},
		{"the end of all approvals", func() { s.Delete("mcp/pins/flip") }, false},
		{"pin=off", func() { s.pin("flip", "off") }, true},
	} {
		step.do()
		since := time.Now()
		for _, c := range callers {
			s.Within(stage.InForce, step.name+" counts", func() error { return c.shows(step.shown) })
		}
		t.Logf("%s counts everywhere after %s", step.name, time.Since(since).Round(time.Millisecond))
	}
}

// aGatewayApprovesNothing tries it with a gateway's login.
func aGatewayApprovesNothing(t *testing.T, s *pinned) {
	t.Helper()
	tool := definitionOf(pin.Tool, good)
	server := newHostile(saying([]*definition{tool, definitionOf(pin.Server, good)}))
	s.register("stolen", s.start(server), inJSON, harness.Map{"pin": "enforce", "pin_kinds": "tool,prompt"})
	gateway := stage.Holder(t, s.Harness, policies.GatewayName, policies.Gateway)
	for _, act := range []harness.Map{
		{"approve": tool.name, "kind": "tool", "digest": tool.digest()},
		{"definitions": []harness.Map{tool.approval()}},
		{"withdraw": tool.name, "kind": "tool"},
		{"trust_first": true},
		{"forget_reported": true},
		{"approve": tool.name, "kind": "tool", "digest": tool.digest(), "dry_run": true},
	} {
		s.denied(t, gateway, http.MethodPut, "mcp/pins/stolen", act)
	}
	s.denied(t, gateway, http.MethodGet, "mcp/pins/stolen", nil)
	s.denied(t, gateway, "LIST", "mcp/pins/", nil)
	s.denied(t, gateway, http.MethodDelete, "mcp/pins/stolen", nil)
	s.denied(t, gateway, http.MethodPut, "mcp/servers/stolen", harness.Map{"pin": "off"})

	// It may read, and report. Neither is an approval, whatever other fields the request
	// has.
	place := s.Read("mcp/pins/stolen")["place"]
	report := func(more harness.Map) (*api.Secret, error) {
		data := harness.Map{"place": place, "definitions": []harness.Map{{"kind": "tool", "text": tool.text}}}
		for key, value := range more {
			data[key] = value
		}
		return gateway.Logical().WriteWithContext(t.Context(), "mcp/gateway/pins/stolen", data)
	}
	_, err := report(nil)
	require.NoError(t, err)
	for _, more := range []harness.Map{
		{"trust_first": true},
		{"approve": tool.name, "kind": "tool", "digest": tool.digest()},
		{"approved": []harness.Map{tool.approval()}},
	} {
		_, err := report(more)
		require.ErrorContains(t, err, "unknown field", "a report with %v", more)
	}
	read := s.Read("mcp/pins/stolen")
	require.Empty(t, read["approved"])
	require.Equal(t, "new", s.reported("stolen")[tool.row()])
	c := s.caller(t, stage.Paths[0], "stolen", s.CreateClient("stolen", harness.Map{"allowed_servers": "stolen"}))
	s.Eventually("the gateway knows the server", func() error { return registered(c) })
	require.NoError(t, c.shows(false))

	// While somebody trusts the first definitions, a report approves, and that is told.
	s.Write("mcp/pins/stolen", harness.Map{"trust_first": true})
	_, err = report(nil)
	require.NoError(t, err)
	approved := s.Read("mcp/pins/stolen")["approved"].([]any)
	require.Len(t, approved, 1)
	require.Equal(t, true, approved[0].(map[string]any)["first_seen"])
	s.Within(stage.InForce, "the approval counts", func() error { return c.shows(true) })

	// A report that contradicts it takes that back, and nothing else is trusted.
	other := definitionOf(pin.Tool, bad)
	_, err = gateway.Logical().WriteWithContext(t.Context(), "mcp/gateway/pins/stolen", harness.Map{
		"place": place, "definitions": []harness.Map{{"kind": "tool", "text": other.text}},
	})
	require.NoError(t, err)
	read = s.Read("mcp/pins/stolen")
	require.Empty(t, read["approved"])
	require.Len(t, read["frozen"], 1)
	require.Empty(t, read["trust_first_until"])
	require.Contains(t, s.reported("stolen"), tool.row())
	require.Contains(t, s.reported("stolen"), other.row())
	s.Within(stage.InForce, "the approval is gone", func() error { return c.shows(false) })
	prompt := definitionOf(pin.Prompt, good)
	_, err = gateway.Logical().WriteWithContext(t.Context(), "mcp/gateway/pins/stolen", harness.Map{
		"place": place, "definitions": []harness.Map{{"kind": "prompt", "text": prompt.text}},
	})
	require.NoError(t, err)
	require.Empty(t, s.Read("mcp/pins/stolen")["approved"])
}

// denied makes sure that Vault's ACL refuses the request.
func (s *pinned) denied(t *testing.T, holder *api.Client, method, path string, data harness.Map) {
	t.Helper()
	request := holder.NewRequest(method, "/v1/"+path)
	if data != nil {
		require.NoError(t, request.SetJSONBody(data))
	}
	response, err := holder.RawRequestWithContext(t.Context(), request) //nolint:staticcheck // any method
	if err == nil {
		_ = response.Body.Close()
	}
	require.ErrorContains(t, err, "permission denied", "%s %s %v", method, path, data)
}

// anotherPlaceBeginsAgain changes the fields that make up a server's place, and the
// other fields.
func anotherPlaceBeginsAgain(t *testing.T, s *pinned) {
	t.Helper()
	hostile := newHostile(saying(all(good)))
	base := s.start(hostile)
	s.register("moves", base, inJSON, harness.Map{"pin": "enforce"})
	s.approve("moves", all(good)...)
	c := s.caller(t, stage.Path{Era: harness.StatelessEra, At: stage.Single}, "moves", s.CreateClient("moves", harness.Map{"allowed_servers": "moves"}))
	s.Eventually("the approved text is shown", func() error {
		if err := registered(c); err != nil {
			return err
		}
		return c.shows(true)
	})
	place := s.Read("mcp/pins/moves")["place"]
	for _, same := range []harness.Map{
		{"headers": harness.Map{"X-Team": "a"}}, {"description": "another"}, {"disabled": true}, {"disabled": false},
	} {
		s.Write("mcp/servers/moves", same)
		read := s.Read("mcp/pins/moves")
		require.Equal(t, place, read["place"], "%v", same)
		require.Len(t, read["approved"], len(pin.Kinds()), "%v", same)
	}
	s.Within(stage.InForce, "it is shown", func() error { return c.shows(true) })

	s.register("moves", base, inEvents, nil)
	read := s.Read("mcp/pins/moves")
	require.NotEqual(t, place, read["place"])
	require.Empty(t, read["approved"])
	require.Equal(t, "enforce", read["pin"])
	s.Within(stage.InForce, "nothing is shown", func() error { return c.shows(false) })
	require.Contains(t, c.call(&calls[0]), "-32602")

	// A gateway that has not heard of it reports definitions of the other place.
	late := definitionOf(pin.Tool, bad)
	s.Write("mcp/gateway/pins/moves", harness.Map{"place": place, "definitions": []harness.Map{{"kind": "tool", "text": late.text}}})
	require.NotContains(t, s.reported("moves"), late.row())

	// A return to the same place counts as another place: nobody knows which server was
	// there meanwhile.
	s.register("moves", base, inJSON, nil)
	require.Empty(t, s.Read("mcp/pins/moves")["approved"])
}
