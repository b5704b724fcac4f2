package aggregate

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"vault-plugin-secrets-mcp/gateway/gatewaytest"
)

// keeper is a server that knows only the sessions of its present run. The test says what it
// answers in others.
type keeper struct {
	*httptest.Server
	refuse func(w http.ResponseWriter, body string)

	mu      sync.Mutex
	run     int
	begun   int // sessions, in all runs
	carried int // calls that were carried out
	ended   []string
	fail    http.HandlerFunc // answers all calls in the present run; nil: they are carried out
}

func newKeeper(t testing.TB, refuse func(w http.ResponseWriter, body string)) *keeper {
	t.Helper()
	k := &keeper{refuse: refuse}
	f := newFake(t, k.serve)
	k.Server = f.Server
	return k
}

func (k *keeper) restart() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.run++
}

func (k *keeper) serve(w http.ResponseWriter, r *http.Request, method, body string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := r.Header.Get("Mcp-Session-Id")
	switch {
	case method == "initialize":
		k.begun++
		w.Header().Set("Mcp-Session-Id", fmt.Sprintf("%d/%d", k.run, k.begun))
		reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"up","version":"1"}}`)
		return
	case id == "":
		w.WriteHeader(http.StatusBadRequest)
		return
	case id[:1] != fmt.Sprint(k.run):
		k.refuse(w, body)
		return
	}
	switch {
	case r.Method == http.MethodDelete:
		k.ended = append(k.ended, id)
	case r.Method == http.MethodGet:
		w.WriteHeader(http.StatusMethodNotAllowed)
	case method == "tools/list":
		reply(w, body, `{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}`)
	case method == "tools/call" && k.fail != nil:
		k.fail(w, r)
	case method == "tools/call":
		k.carried++
		reply(w, body, textResult)
	case method == "ping":
		reply(w, body, `{}`)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

func (k *keeper) sessions() (begun int, ended []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.begun, append([]string{}, k.ended...)
}

// TestNoServerIsDeadAfterARestart: however a server says that it does not know a
// session, the next request begins another one. A call is sent again where it
// was certainly not carried out, and a list always.
func TestNoServerIsDeadAfterARestart(t *testing.T) {
	refuse := func(status int, contentType, body string) func(http.ResponseWriter, string) {
		return func(w http.ResponseWriter, _ string) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	rpc := func(status, code int, message, id string) func(http.ResponseWriter, string) {
		return refuse(status, "application/json", fmt.Sprintf(`{"jsonrpc":"2.0","error":{"code":%d,"message":%q},"id":%s}`, code, message, id))
	}
	abort := func(http.ResponseWriter, string) { panic(http.ErrAbortHandler) }
	for name, c := range map[string]struct {
		refuse func(http.ResponseWriter, string)
		called bool // the first call after the restart is answered
	}{
		"404":                             {refuse(404, "text/plain", "session not found\n"), true},
		"404 with an error":               {rpc(404, -32001, "Session not found", "null"), true},
		"404 without a body":              {refuse(404, "", ""), true},
		"400 of the TypeScript example":   {rpc(400, -32000, "Bad Request: No valid session ID provided", "null"), true},
		"400 without an id":               {refuse(400, "application/json", `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}`), true},
		"400 of the Python SDK":           {rpc(400, -32600, "Bad Request: No valid session ID provided", `"server-error"`), true},
		"400 of FastMCP":                  {rpc(400, -32600, "Bad Request: Missing session ID", `"server-error"`), true},
		"400 under an id of its own":      {rpc(400, -32000, "Session not found", "7"), true},
		"400 in text":                     {refuse(400, "text/plain", "Invalid session ID\n"), true},
		"400, invalid or missing":         {refuse(400, "text/html", "Invalid or missing session ID"), true},
		"400 with JSON of its own":        {refuse(400, "application/json", `{"error":"Session not found"}`), true},
		"400 that does not say why":       {refuse(400, "text/plain", "Bad Request"), false},
		"400, not initialized":            {rpc(400, -32000, "Bad Request: Server not initialized", "null"), false},
		"401":                             {refuse(401, "text/plain", "Unauthorized: Session not found"), false},
		"403":                             {refuse(403, "text/plain", "Forbidden"), false},
		"409":                             {refuse(409, "application/json", `{"error":"stale"}`), false},
		"410":                             {refuse(410, "text/plain", "gone"), false},
		"422":                             {refuse(422, "text/plain", "Unprocessable: expected initialize request"), false},
		"500":                             {refuse(500, "text/plain", "Internal Server Error"), false},
		"500 with an error":               {rpc(500, -32603, "Internal error", "null"), false},
		"502 of a proxy":                  {refuse(502, "text/html", "<h1>Bad Gateway</h1>"), false},
		"200 with an error":               {rpc(200, -32001, "Session not found", "1"), false},
		"200 with an error without an id": {rpc(200, -32600, "Session expired", "null"), false},
		"200 with an error on a stream":   {refuse(200, "text/event-stream", "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32001,\"message\":\"Unknown session\"}}\n\n"), false},
		"a connection that ends":          {abort, false},
	} {
		t.Run(name, func(t *testing.T) {
			up := newKeeper(t, c.refuse)
			s := newStage(t, map[string]string{"notes": up.URL})
			mine := s.open(alice)
			list := func() []string {
				return toolsIn(t, s.ask(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, mine...).message())
			}
			require.Contains(t, s.ask(echo("1", "a"), mine...).body, `"hi"`)

			up.restart()
			g := s.ask(echo("1", "b"), mine...)
			require.Equal(t, http.StatusOK, g.status, "the client's own session goes on")
			if c.called {
				require.Contains(t, g.body, `"hi"`)
			} else {
				require.Contains(t, g.message(), `"error"`)
				require.Contains(t, s.ask(echo("1", "c"), mine...).body, `"hi"`, "the next request begins anew")
			}
			require.Contains(t, s.log.String(), "the next request begins another session")

			up.restart()
			require.Equal(t, []string{"notes__echo"}, list(), "a list is asked again in any case")

			// The same in an implicit session.
			echoes := func() string { return s.asks("1", "tools/call", `"name":"notes__echo","arguments":{}`).body }
			require.Contains(t, echoes(), `"hi"`)
			up.restart()
			if !c.called {
				require.Contains(t, echoes(), `"error"`)
			}
			require.Contains(t, echoes(), `"hi"`)
			up.restart()
			require.Equal(t, []string{"notes__echo"}, toolsIn(t, s.asks("1", "tools/list", "").message()))
		})
	}
}

func TestACallThatMayHaveBeenCarriedOutIsNotRepeated(t *testing.T) {
	for name, fail := range map[string]http.HandlerFunc{
		"500":          func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"400":          func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such file", http.StatusBadRequest) },
		"it is broken": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"its own session": func(w http.ResponseWriter, _ *http.Request) {
			replyText(w, `{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"The browser session was not found."}}`)
		},
		"400, a session that it has booked": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			replyText(w, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"Booked a session, but the mail is invalid."}}`)
		},
		"400, a session that it has booked, in text": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "Booked a session, but the mail is invalid.", http.StatusBadRequest)
		},
		"400, its own session": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			replyText(w, `{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"The browser session was not found."}}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			up := newKeeper(t, nil)
			up.fail = func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				fail(w, r)
			}
			s := newStage(t, map[string]string{"notes": up.URL})
			mine := s.open(alice)
			require.Contains(t, s.ask(echo("1", "a"), mine...).message(), `"error"`)
			require.Equal(t, int32(1), calls.Load())
			gatewaytest.Eventually(t, "the session in doubt to be ended", func() bool {
				_, ended := up.sessions()
				return len(ended) == 1 && ended[0] == "0/1"
			})
		})
	}
}

// TestOnlyAnErrorAboutNothingButTheSessionLetsACallBeRepeated: any other may come from a
// tool that has run.
func TestOnlyAnErrorAboutNothingButTheSessionLetsACallBeRepeated(t *testing.T) {
	rpc := func(id, message string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":%q}}`, id, message)
	}
	for body, want := range map[string]bool{
		"Invalid session ID\n":                                   true,
		"Invalid or missing session ID":                          true,
		"Session not found: 0f3a":                                true,
		"Mcp-Session-Id header is missing.":                      true,
		"Error: Session does not exist":                          true,
		"Session expired":                                        true,
		"No valid session found":                                 true,
		`{"error":"Unknown session"}`:                            true,
		` {"error":{"message":"Session terminated"}}`:            true,
		rpc("null", "Bad Request: No valid session ID provided"): true,
		rpc(`"server-error"`, "Bad Request: Missing session ID"): true,
		rpc("1", "Session not found"):                            true,
		"Bad Request: Mcp-Session-Id header is required":         true,
		"No session with id 'b6e1' exists.":                      true,
		"Session b6e1-77 not found":                              true,
		"invalid/expired session_id, please initialize again":    true,

		"":                                  false,
		"session":                           false,
		"Bad Request":                       false,
		"The browser session was not found": false,
		"Booked a session for the customer, but the mail is invalid": false,
		"Session closed, and the customer has been told":             false,
		"Invalid session type":                                       false,
		"New session created, the existing one is closed":            false,
		"Unknown tool start_session":                                 false,
		"<p>Invalid session ID</p>":                                  false,
		rpc("null", "The booked session was not found"):              false,
		`{"error":"Session not found"`:                               false,
		`{"result":"Session not found"}`:                             false,
		"Session not found: " + strings.Repeat("x", maxSessionError): false,
	} {
		require.Equal(t, want, saysOnlyNoSession([]byte(body)), body)
	}
}

func replyText(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, body)
}

// TestASessionIsNotGivenUpForARequestOfItsClient: refusals for the size or the rate of
// requests, or for the gateway's own bounds, mean nothing for the session.
func TestASessionIsNotGivenUpForARequestOfItsClient(t *testing.T) {
	for _, status := range []int{408, 413, 429, 431} {
		up := newKeeper(t, nil)
		up.fail = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", status) }
		s := newStage(t, map[string]string{"notes": up.URL})
		mine := s.open(alice)
		for range 3 {
			require.Contains(t, s.ask(echo("1", "a"), mine...).message(), `"error"`)
		}
		begun, _ := up.sessions()
		require.Equal(t, 1, begun, status)
	}
}

// TestAClientThatListensHearsOfAServerThatWasRestarted: the server's stream is opened in
// another session, whatever the server answers in the old one.
func TestAClientThatListensHearsOfAServerThatWasRestarted(t *testing.T) {
	for _, status := range []int{400, 401, 404, 500} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			run, begun, restarted := "a", 0, make(chan struct{})
			up := newFake(t, func(w http.ResponseWriter, r *http.Request, method, body string) {
				mu.Lock()
				now, end := run, restarted
				if method == "initialize" {
					begun++
				}
				mu.Unlock()
				switch {
				case method == "initialize":
					w.Header().Set("Mcp-Session-Id", now)
					reply(w, body, `{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"up","version":"1"}}`)
				case r.Header.Get("Mcp-Session-Id") != now:
					http.Error(w, "who is that?", status)
				case r.Method == http.MethodGet && now == "a":
					w.Header().Set("Content-Type", "text/event-stream")
					_ = http.NewResponseController(w).Flush()
					<-end
				case r.Method == http.MethodGet:
					w.Header().Set("Content-Type", "text/event-stream")
					_, _ = io.WriteString(w, "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{\"data\":\"it is back\"}}\n\n")
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
				case method == "ping":
					reply(w, body, `{}`)
				default:
					w.WriteHeader(http.StatusAccepted)
				}
			})
			s := newStage(t, map[string]string{"notes": up.URL})
			mine := s.open(alice)
			r, err := s.do("", append(mine, ":method", "GET")...)
			require.NoError(t, err)
			defer r.Body.Close()
			gatewaytest.Eventually(t, "the server's stream to be open", func() bool { return up.count() >= 3 })
			mu.Lock()
			run = "b"
			close(restarted)
			mu.Unlock()
			heard := make([]byte, 0, 1024)
			for !containsText(heard, "it is back") {
				part := make([]byte, 256)
				n, err := r.Body.Read(part)
				require.NoError(t, err)
				heard = append(heard, part[:n]...)
			}
		})
	}
}

func containsText(b []byte, text string) bool { return strings.Contains(string(b), text) }
