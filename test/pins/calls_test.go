package pins

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/mcp/protocol"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// call is a request that names a thing of a server.
type call struct {
	name   string
	method string
	era    string                    // "": both
	thing  string                    // as the server names it
	params func(thing string) string // with the name that the client knows
	header bool                      // the name is in a header, too
	shows  string                    // a text in an answer of the server
	reason string                    // of a refusal
	words  string                    // of the client's error
}

func named(member string) func(string) string {
	return func(thing string) string { return fmt.Sprintf("%q:%q", member, thing) }
}

// calls is every way to name a thing.
var calls = []call{
	{
		name: "a tool is called", method: "tools/call", thing: toolName, params: named("name"), header: true,
		shows: "the tool was called", reason: "tool-not-approved", words: "This tool is not available here: nobody has approved its definition.",
	},
	{
		name: "a prompt is got", method: "prompts/get", thing: promptName, params: named("name"), header: true,
		shows: "the prompt was got", reason: "prompt-not-approved", words: "nobody has approved its definition",
	},
	{
		name: "a resource is read", method: "resources/read", thing: resourceURI, params: named("uri"), header: true,
		shows: "the resource was read", reason: "resource-not-approved", words: "nobody has approved its definition",
	},
	{
		name: "an expansion of a template is read", method: "resources/read", thing: expansion, params: named("uri"), header: true,
		shows: "the resource was read", reason: "resource-not-approved", words: "nobody has approved its definition",
	},
	{
		name: "a resource is subscribed to", method: "resources/subscribe", era: harness.SessionEra, thing: resourceURI, params: named("uri"),
		shows: `"result":{`, reason: "resource-not-approved", words: "nobody has approved its definition",
	},
	{
		name: "an argument of a prompt is completed", method: "completion/complete", thing: promptName,
		params: func(thing string) string {
			return fmt.Sprintf(`"ref":{"type":"ref/prompt","name":%q},"argument":{"name":"day","value":"m"}`, thing)
		},
		shows: "the completion", reason: "prompt-not-approved", words: "nobody has approved its definition",
	},
	{
		name: "an argument of a template is completed", method: "completion/complete", thing: templateURI,
		params: func(thing string) string {
			return fmt.Sprintf(`"ref":{"type":"ref/resource","uri":%q},"argument":{"name":"day","value":"m"}`, thing)
		},
		shows: "the completion", reason: "resource-not-approved", words: "nobody has approved its definition",
	},
}

// code is that of the refusal: the protocol's for a name that does not exist.
func (k *call) code(path stage.Path) int {
	ofResource := k.method == protocol.MethodResourcesRead || k.method == protocol.MethodSubscribe
	if ofResource && path.Era == harness.SessionEra && path.At == stage.Aggregate {
		return protocol.CodeResourceNotFound
	}
	return protocol.CodeInvalidParams
}

// thingAt is the name by which the client knows the thing.
func thingAt(at stage.Endpoint, server, thing string) string {
	if strings.Contains(thing, "://") {
		return at.Resource(server, thing)
	}
	return at.Tool(server, thing)
}

// call sends the call.
func (c *caller) call(k *call) string {
	c.t.Helper()
	thing := thingAt(c.path.At, c.server, k.thing)
	header := ""
	if k.header {
		header = thing
	}
	return c.ask(k.method, header, k.params(thing))
}

// judgedByName makes every call at both endpoints, in both eras, in every mode, before anybody
// has approved the named definition, and after.
func judgedByName(t *testing.T, s *pinned) {
	t.Helper()
	server := newHostile(saying(all(good)))
	base := s.start(server)
	callers := map[pin.Mode][]*caller{}
	for _, mode := range pin.Modes() {
		name := "calls-" + string(mode)
		s.register(name, base, inJSON, harness.Map{"pin": mode})
		token := s.CreateClient(name, harness.Map{"allowed_servers": name})
		for _, path := range stage.Paths {
			callers[mode] = append(callers[mode], s.caller(t, path, name, token))
		}
		s.Eventually("the gateway knows the server", func() error { return registered(callers[mode][0]) })
	}
	each := func(mode pin.Mode, test func(c *caller, k *call, name string)) {
		for _, c := range callers[mode] {
			for i := range calls {
				if k := &calls[i]; k.era == "" || k.era == c.path.Era {
					test(c, k, fmt.Sprintf("%s, %s, pin=%s", k.name, c.path, mode))
				}
			}
		}
	}
	for _, mode := range []pin.Mode{pin.Off, pin.Observe} {
		each(mode, func(c *caller, k *call, name string) {
			require.Contains(t, c.call(k), k.shows, name)
		})
	}
	refusals := map[string]int{}
	each(pin.Enforce, func(c *caller, k *call, name string) {
		before := server.calls(k.thing)
		got := c.call(k)
		require.Contains(t, got, fmt.Sprintf(`"code":%d`, k.code(c.path)), name)
		require.Contains(t, got, k.words, name)
		require.Equal(t, before, server.calls(k.thing), "%s: the server has seen it", name)
		require.Contains(t, c.ask("vendor/run", "", named("name")(k.thing)), "-32601", "%s: a method that nobody knows passed", name)
		refusals[k.reason]++
	})
	s.gateways[0].AwaitAudit(func(lines []harness.Map) bool {
		seen := map[string]int{}
		for _, line := range lines {
			if line["server"] == "calls-enforce" && line["decision"] == "deny" {
				seen[fmt.Sprint(line["reason"])]++
			}
		}
		for reason, n := range refusals {
			if seen[reason] != n {
				return false
			}
		}
		return true
	})

	s.approve("calls-enforce", all(good)...)
	each(pin.Enforce, func(c *caller, k *call, name string) {
		s.Within(stage.InForce, name+": after the approval", func() error {
			if got := c.call(k); !strings.Contains(got, k.shows) {
				return errors.New(got)
			}
			return nil
		})
	})
	for _, path := range stage.Paths {
		c := s.caller(t, path, "calls-enforce", callers[pin.Enforce][0].token)
		require.Contains(t, c.ask("tools/call", thingAt(path.At, c.server, "invented"), named("name")(thingAt(path.At, c.server, "invented"))),
			"-32602", "a tool that does not exist")
	}
}

// registered is nil once the gateway knows the caller's server, and may ask it.
func registered(c *caller) error {
	probe := *c
	probe.path = stage.Path{Era: harness.StatelessEra, At: stage.Single}
	answer := c.h.Do(http.MethodPost, probe.url(), c.token, probe.header("ping", ""), probe.message("ping", ""))
	if answer.Status == http.StatusForbidden || answer.Status == http.StatusServiceUnavailable {
		return errors.New(answer.Body)
	}
	return nil
}
