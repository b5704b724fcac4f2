package mcp

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/backend/pin"
	"vault-plugin-secrets-mcp/gateway/gatewaytest"
	"vault-plugin-secrets-mcp/gateway/grants"
	"vault-plugin-secrets-mcp/gateway/grants/grantstest"
	"vault-plugin-secrets-mcp/gateway/pins"
)

// pinning is a gateway whose server is registered in a stand-in for Vault, so that its pins
// change while it is used.
type pinning struct {
	*gateway
	vault  *grantstest.Vault
	server *grants.Server
	says   chan string // the server's next messages on its stream
	open   atomic.Int32
}

func newPinning(t *testing.T) *pinning {
	t.Helper()
	p := &pinning{says: make(chan string)}
	p.begin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		p.open.Add(1)
		defer p.open.Add(-1)
		for {
			select {
			case said := <-p.says:
				_, _ = io.WriteString(w, "data: "+said+"\n\n")
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})
	return p
}

// begin registers a server, and begins the gateway.
func (p *pinning) begin(t *testing.T, server http.HandlerFunc) {
	t.Helper()
	p.vault = grantstest.New(t)
	p.vault.Register("up", grantstest.Data{"transport": "http", "url": gatewaytest.NewUpstream(t, server).URL})
	broker := p.vault.Broker(grants.Options{})
	gatewaytest.Eventually(t, "the registration", func() bool { p.server = broker.Server("up"); return p.server != nil })
	p.gateway = newGateway(t, testConfig(), p.server)
	p.pins = pins.New(pins.Options{Registry: broker.Server, Log: p.log})
}

// pin sets the mode of the pins, and waits until the gateway has heard.
func (p *pinning) pin(t *testing.T, mode pin.Mode) {
	t.Helper()
	p.vault.Pin("up", mode)
	gatewaytest.Eventually(t, "the mode", func() bool {
		now := p.server.Pins()
		return now == nil && mode == pin.Off || now != nil && now.Mode == mode && now.Known
	})
}

// approve approves a tool, or withdraws that, and waits until the gateway has heard.
func (p *pinning) approve(t *testing.T, tool string, approved bool) {
	t.Helper()
	if approved {
		p.vault.Approve("up", pin.Tool, `{"name":"`+tool+`"}`)
	} else {
		p.vault.Withdraw("up", pin.Tool, tool)
	}
	gatewaytest.Eventually(t, "the approval", func() bool { return p.server.Pins().Set.Has(pin.Tool, tool) == approved })
}

// stream opens one: with GET, or as the answer to a call.
func (p *pinning) stream(t *testing.T, pairs ...string) io.Reader {
	t.Helper()
	body := ""
	if len(pairs) == 0 {
		body = callEcho
	}
	r, err := p.Do(t.Context(), body, pairs...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Body.Close() })
	require.Equal(t, http.StatusOK, r.StatusCode)
	return r.Body
}

const noTools = `{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}`

func TestAnOpenStreamIsFilteredByThePinsOfNow(t *testing.T) {
	p := newPinning(t)
	p.pin(t, pin.Enforce)
	stream := p.stream(t, ":method", "GET")
	hear := func(want string) {
		t.Helper()
		p.says <- twoTools
		require.Equal(t, want, events(t, &oneByOne{stream}, 1)[0])
	}
	hear(noTools)
	p.approve(t, "echo", true)
	hear(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"}]}}`)
	p.approve(t, "get-env", true)
	hear(twoTools)
	p.approve(t, "echo", false)
	hear(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get-env"}]}}`)
	p.pin(t, pin.Observe)
	hear(twoTools)
	p.pin(t, pin.Enforce)
	hear(`{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get-env"}]}}`)
	p.pin(t, pin.Off)
	hear(twoTools)
}

func TestAnAnswerThatCameAfterPinsWereEnforcedIsFiltered(t *testing.T) {
	for encoding, write := range encodings {
		for _, before := range []pin.Mode{pin.Off, pin.Observe} {
			t.Run(encoding+", before: "+string(before), func(t *testing.T) {
				p := &pinning{}
				p.begin(t, func(w http.ResponseWriter, _ *http.Request) {
					p.pin(t, pin.Enforce)
					write(w, twoTools)
				})
				p.pin(t, before)
				require.Contains(t, p.Ask(t, listTools).Body, noTools)
			})
		}
	}
}

func TestAPageThatAnswersOnAnotherStreamIsJudgedAsOne(t *testing.T) {
	for name, pairs := range map[string][]string{"a resumed one": {":method", "GET", "Last-Event-ID", "1"}, "that of a call": nil} {
		t.Run(name, func(t *testing.T) {
			p := newPinning(t)
			p.pin(t, pin.Enforce)
			p.approve(t, "echo", true)
			stream := p.stream(t, pairs...)
			p.says <- `{"jsonrpc":"2.0","id":9,"result":{"contents":[{"uri":"x://y","mimeType":"text/html","text":"<script>"}]}}`
			require.Equal(t, `{"jsonrpc":"2.0","id":9,"result":{"contents":[]}}`, events(t, &oneByOne{stream}, 1)[0])
		})
	}
}

// oneByOne reads single bytes, so that whoever buffers takes no more than a line.
type oneByOne struct{ io.Reader }

func (o *oneByOne) Read(p []byte) (int, error) { return o.Reader.Read(p[:1]) }

func TestAStreamThatIsNotFilteredEndsWhenPinsAreEnforced(t *testing.T) {
	for _, before := range []pin.Mode{pin.Off, pin.Observe} {
		t.Run("before: "+string(before), func(t *testing.T) {
			p := newPinning(t)
			p.pin(t, before)
			stream := p.stream(t, ":method", "GET")
			p.says <- twoTools
			require.Equal(t, twoTools, events(t, &oneByOne{stream}, 1)[0])
			p.pin(t, pin.Enforce)
			p.says <- twoTools
			rest, err := io.ReadAll(stream)
			require.NoError(t, err, "the client may open another one")
			require.NotContains(t, string(rest), "get-env")
			require.Contains(t, string(rest), "retry: ")
			gatewaytest.Eventually(t, "the server's end of it", func() bool { return p.open.Load() == 0 })
			again := p.stream(t, ":method", "GET", "Last-Event-ID", "1")
			p.says <- twoTools
			require.Equal(t, noTools, events(t, again, 1)[0])
		})
	}
}

func TestAStreamThatIsObservedIsReported(t *testing.T) {
	p := newPinning(t)
	p.pin(t, pin.Observe)
	stream := p.stream(t, ":method", "GET")
	for range 2 {
		p.says <- twoTools
		require.Equal(t, twoTools, events(t, &oneByOne{stream}, 1)[0])
	}
	gatewaytest.Eventually(t, "both tools are noted", func() bool { return p.gateway.pins.Waiting() == 2 })
}

func TestACallInFlightGoesOnWhenItsToolIsWithdrawn(t *testing.T) {
	p := newPinning(t)
	p.pin(t, pin.Enforce)
	p.approve(t, "echo", true)
	stream := p.stream(t)
	const progress = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`
	p.says <- progress
	require.Equal(t, progress, events(t, &oneByOne{stream}, 1)[0])
	p.approve(t, "echo", false)
	p.says <- `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`
	require.Equal(t, `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`, events(t, &oneByOne{stream}, 1)[0])
	require.Contains(t, p.Ask(t, callEcho).Body, "nobody has approved its definition")
}

func TestSessionsAndChildrenOutliveAChangeOfPins(t *testing.T) {
	vault := grantstest.New(t)

	registered := scriptedServer(t, "")
	env := grantstest.Data{}
	for key, value := range registered.Env {
		env[key] = value
	}
	vault.Register("up", grantstest.Data{"transport": "stdio", "command": registered.Command, "env": env})
	broker := vault.Broker(grants.Options{})
	var server *grants.Server
	gatewaytest.Eventually(t, "the registration", func() bool { server = broker.Server("up"); return server != nil })
	g := newGateway(t, stdioConfig(t), server)
	session := g.open(t, "alice")
	pid := textOf(t, g.Ask(t, tool("1", "pid"), session...).Body)
	vault.Approve("up", pin.Tool, `{"name":"pid"}`)
	for _, step := range []struct {
		change func()
		seen   func(*grants.Pins) bool
	}{
		{func() { vault.Pin("up", pin.Observe) }, func(p *grants.Pins) bool { return p != nil && p.Mode == pin.Observe && p.Known }},
		{func() { vault.Pin("up", pin.Enforce) }, func(p *grants.Pins) bool { return p.Mode == pin.Enforce && p.Known }},
		{func() { vault.Approve("up", pin.Prompt, `{"name":"greet"}`) }, func(p *grants.Pins) bool { return p.Set.Has(pin.Prompt, "greet") }},
		{func() { vault.Pin("up", pin.Off) }, func(p *grants.Pins) bool { return p == nil }},
	} {
		step.change()
		gatewaytest.Eventually(t, "the change", func() bool { return step.seen(broker.Server("up").Pins()) })
		g.registry.put(broker.Server("up"))
		require.Equal(t, pid, textOf(t, g.Ask(t, tool("1", "pid"), session...).Body))
	}
}

func TestUpdatesOfResourcesThatNobodyHasApprovedAreDroppedFromStreams(t *testing.T) {
	definitions := approved{pin.Template: {`{"uriTemplate":"file:///srv/docs/a.{type}"}`}}
	g := newGateway(t, stdioConfig(t), scriptedServer(t, "").WithPins(pinsOf(t, pin.Enforce, definitions, pin.Resource, pin.Template)))
	session := g.open(t, "alice")
	requireUpdatesOfAllowed(t, g, session)
}
