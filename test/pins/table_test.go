package pins

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/test/harness"
	"vault-plugin-secrets-mcp/test/stage"
)

// eras are those of clients.
var eras = []string{harness.SessionEra, harness.StatelessEra}

// ways are those in which a server sends its answers.
var ways = []string{inJSON, inEvents, broken, overSSE, overPipe}

// cell is one place at which a client gets a definition.
type cell struct {
	kind pin.Kind
	at   stage.Endpoint
	mode pin.Mode
	era  string
	way  string
}

func (c cell) String() string {
	return fmt.Sprintf("%s, %s, pin=%s, in the era of %s, by a server %s", c.kind, c.at, c.mode, c.era, c.way)
}

// server is the registration for the cell's mode and way. One client has it alone.
func (c cell) server() string { return string(c.mode) + "-" + c.way }

// view is how a client gets to see definitions of a kind.
type view struct {
	method string // of the request; "": the one that opens
	uri    string // of the resource that is read
}

// views is the table from which the tests are generated: a row for each kind.
var views = map[pin.Kind]view{
	pin.Tool:         {method: "tools/list"},
	pin.Prompt:       {method: "prompts/list"},
	pin.Resource:     {method: "resources/list"},
	pin.Template:     {method: "resources/templates/list"},
	pin.Instructions: {},
	pin.Server:       {},
	pin.Page:         {method: "resources/read", uri: pageURI},
}

// never returns why there is nothing to see in the cell; "": there is something.
func (c cell) never() string {
	switch {
	case c.way == broken && c.era == harness.StatelessEra:
		return "the era has no streams that are resumed"
	case c.way == broken && c.at == stage.Aggregate && c.kind != pin.Page:
		return "the gateway makes the answer of those of all servers"
	case c.way == broken && (c.kind == pin.Instructions || c.kind == pin.Server):
		return "a session begins before: see an answer to initialize that is resumed" // among the tricks
	case c.way == overSSE && c.era == harness.StatelessEra && c.at == stage.Single:
		return "the transport is of the session era"
	case c.at == stage.Aggregate && c.kind == pin.Server:
		return "the gateway speaks of itself"
	}
	return ""
}

// table is every cell, without those that can never be seen: one server after the other.
func table() (cells []cell) {
	for _, way := range ways {
		for _, mode := range pin.Modes() {
			for _, era := range eras {
				for _, at := range stage.Endpoints {
					for _, kind := range pin.Kinds() {
						if c := (cell{kind, at, mode, era, way}); c.never() == "" {
							cells = append(cells, c)
						}
					}
				}
			}
		}
	}
	return cells
}

// holes are the cells that have not been seen, of those that there should be.
func holes(seen []cell) (missing []cell) {
	there := map[cell]bool{}
	for _, c := range seen {
		there[c] = true
	}
	for _, c := range table() {
		if !there[c] {
			missing = append(missing, c)
		}
	}
	return missing
}

// TestAHoleInTheTableIsFound leaves out one row after the other.
func TestAHoleInTheTableIsFound(t *testing.T) {
	whole := table()
	require.Empty(t, holes(whole))
	require.Len(t, whole, 7*2*3*2*5-7*2*3-6*3-2*3-7*3-2*4*3, "cells: all, without those that are never there")
	for i := range whole {
		require.Equal(t, whole[i:i+1], holes(slices.Delete(slices.Clone(whole), i, i+1)))
	}
	for _, kind := range pin.Kinds() {
		require.Contains(t, views, kind, "a kind without a view")
	}
}

// sees returns the client's answer in the cell.
func (s *pinned) sees(t *testing.T, c cell, token string) string {
	t.Helper()
	client := s.caller(t, stage.Path{Era: c.era, At: c.at}, c.server(), token)
	return client.sees(c.kind)
}

// sees returns the answer in which the server shows its definitions of the kind.
func (c *caller) sees(kind pin.Kind) string {
	c.t.Helper()
	switch v := views[kind]; {
	case v.method == "":
		return c.open()
	case v.uri != "":
		uri := v.uri
		if c.path.At == stage.Aggregate {
			uri = strings.Replace(uri, "ui://", "ui://"+c.server+"/", 1)
		}
		return c.ask(v.method, uri, fmt.Sprintf(`"uri":%q`, uri))
	default:
		return c.ask(v.method, "", "")
	}
}

// judgedEverywhere asks for every definition in every way, before anybody has approved it, and
// after.
func judgedEverywhere(t *testing.T, s *pinned) {
	t.Helper()
	base := s.start(newHostile(saying(all(good))))
	tokens := map[string]string{}
	for _, mode := range pin.Modes() {
		for _, way := range ways {
			server := cell{mode: mode, way: way}.server()
			s.register(server, base, way, harness.Map{"pin": mode})
			tokens[server] = s.CreateClient(server, harness.Map{"allowed_servers": server})
		}
	}
	cells := table()
	var seen []cell
	for i, c := range cells {
		if i > 0 && c.way != cells[i-1].way && cells[i-1].way == inJSON {
			s.wantReports(seen) // before other servers take their turns: there is one report a second
		}
		if i == 0 || c.server() != cells[i-1].server() {
			s.Eventually("the gateway knows the server", func() error {
				return registered(s.caller(t, stage.Paths[0], c.server(), tokens[c.server()]))
			})
		}
		got := s.sees(t, c, tokens[c.server()])
		seen = append(seen, c)
		if shown := strings.Contains(got, good); shown == (c.mode == pin.Enforce) {
			t.Errorf("%s: before the approval it is shown: %v: %s", c, shown, got)
		}
		if c.kind == pin.Server && c.mode == pin.Enforce && !strings.Contains(got, fmt.Sprintf(`{"name":%q,"version":"0"}`, c.server())) {
			t.Errorf("%s: the server has another name than its registration: %s", c, got)
		}
	}
	require.Empty(t, holes(seen), "cells that were not looked at")
	s.wantTold(t, cells)

	for server := range tokens {
		if !strings.HasPrefix(server, string(pin.Off)+"-") {
			s.approve(server, all(good)...)
		}
	}
	for i, c := range cells {
		show := func() error {
			if got := s.sees(t, c, tokens[c.server()]); !strings.Contains(got, good) {
				return errors.New(got)
			}
			return nil
		}
		if i == 0 || c.server() != cells[i-1].server() {
			s.Within(stage.InForce, "the approval counts: "+c.String(), show)
		} else if err := show(); err != nil {
			t.Errorf("%s: after the approval it is not shown: %v", c, err)
		}
	}
}

// wantReports waits until Vault has been told of every definition of a server whose pin is not
// off, as new, and of none of the others.
func (s *pinned) wantReports(cells []cell) {
	s.Eventually("the gateways have reported the definitions", func() error {
		for _, c := range cells {
			change, found := s.reported(c.server())[definitionOf(c.kind, good).row()]
			switch {
			case c.mode == pin.Off && found:
				return fmt.Errorf("%s was reported", c)
			case c.mode != pin.Off && change != "new":
				return fmt.Errorf("%s was not reported: %q", c, change)
			}
		}
		return nil
	})
}

// wantTold makes sure that the audit log and the metrics have every definition that nobody has
// approved.
func (s *pinned) wantTold(t *testing.T, cells []cell) {
	t.Helper()
	metrics := s.gateways[0].Metrics()
	unapproved := map[string]bool{} // server and method, by the audit log
	s.gateways[0].AwaitAudit(func(lines []harness.Map) bool {
		for _, line := range lines {
			if n, _ := line["unapproved"].(float64); n > 0 {
				unapproved[fmt.Sprint(line["server"], " ", line["method"])] = true
			}
		}
		return true
	})
	for _, c := range cells {
		count := fmt.Sprintf(`mcp_gateway_pins_unapproved_total{kind=%q,mode=%q,server=%q}`, c.kind, c.mode, c.server())
		require.Equal(t, c.mode != pin.Off, strings.Contains(metrics, count), count)
		method := views[c.kind].method
		if c.way == broken {
			method = "<nil>" // of the GET that resumes the stream
		}
		if method != "" && c.at == stage.Single {
			require.Equal(t, c.mode != pin.Off, unapproved[c.server()+" "+method], "%s: the audit log has unapproved", c)
		}
	}
}
