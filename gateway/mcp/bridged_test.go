package mcp

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestASessionOnStdio(t *testing.T) {
	g := newGateway(t, stdioConfig(t), scriptedServer(t, ""))
	session := g.open(t, "alice")
	require.Equal(t, http.StatusAccepted, g.Ask(t, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, session...).Status)

	got := g.Ask(t, `{"jsonrpc":"2.0","id":"a","method":"tools/list"}`, session...)
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
	require.JSONEq(t, `{"jsonrpc":"2.0","id":"a","result":{"tools":[{"name":"echo"},{"name":"pid"}],"big":12345678901234567890}}`, got.Body)
	require.Contains(t, got.Body, "12345678901234567890")

	echo := `{"jsonrpc":"2.0", "id":"b",` + "\n" + `"method":"tools/call","params":{"name":"echo","x":1.10,"_meta":{"progressToken":"p"}}}`
	got = g.Ask(t, echo, session...)
	require.Contains(t, got.Body, `"x":1.10`)
	require.Contains(t, got.Body, `"id":"b","result":{"got":{"jsonrpc":"2.0", "id":`)

	got = g.Ask(t, `{"jsonrpc":"2.0","id":1,"method":"vendor/x"}`, session...)
	require.Equal(t, http.StatusOK, got.Status)
	require.Contains(t, got.Body, "-32601")

	require.Equal(t, http.StatusNoContent, g.Ask(t, "", append(session, ":method", "DELETE")...).Status)
	for _, method := range []string{"POST", "GET", "DELETE"} {
		body := ping
		if method != "POST" {
			body = ""
		}
		require.Equal(t, http.StatusNotFound, g.Ask(t, body, append(session, ":method", method)...).Status, method)
	}
}

func TestAnAnswerBecomesAStreamWhereItMust(t *testing.T) {
	g := newGateway(t, stdioConfig(t), scriptedServer(t, ""))
	session := g.open(t, "alice")
	r, err := g.Do(t.Context(), `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"progress","_meta":{"progressToken":"mine"}}}`, session...)
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, "text/event-stream", r.Header.Get("Content-Type"))
	got := events(t, r.Body, 4)
	for i, progress := range got[:3] {
		require.Equal(t, fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"mine","progress":%d}}`, i), progress)
	}
	require.Contains(t, got[3], `"id":3,"result"`)
	_, err = r.Body.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF)

	plain := slices.Concat(session, []string{"Accept", "", "Accept", "application/json"})
	answer := g.Ask(t, `{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"progress","_meta":{"progressToken":"mine"}}}`, plain...)
	require.Equal(t, "done", textOf(t, answer.Body), "who takes no stream gets the answer alone")
	stream := slices.Concat(session, []string{"Accept", "", "Accept", "text/event-stream"})
	answer = g.Ask(t, tool("4", "pid"), stream...)
	require.Contains(t, answer.Body, "event: message\ndata: {")
	neither := slices.Concat(session, []string{"Accept", "", "Accept", "text/html"})
	require.Equal(t, http.StatusNotAcceptable, g.Ask(t, tool("5", "pid"), neither...).Status)
}

func TestAServersQuestionIsAnsweredByAnotherRequest(t *testing.T) {
	g := newGateway(t, stdioConfig(t), scriptedServer(t, ""))
	session := g.open(t, "alice")
	r, err := g.Do(t.Context(), tool("1", "ask"), session...)
	require.NoError(t, err)
	defer r.Body.Close()
	reader := bufio.NewReader(r.Body)
	question := events(t, reader, 1)[0]
	require.Contains(t, question, `"maxTokens":12345678901234567890`)
	var m struct{ ID json.RawMessage }
	require.NoError(t, json.Unmarshal([]byte(question), &m))
	got := g.Ask(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"role":"assistant","n":1.10}}`, m.ID), session...)
	require.Equal(t, http.StatusAccepted, got.Status)
	rest, err := io.ReadAll(reader)
	require.NoError(t, err)
	require.Contains(t, string(rest), `\"n\":1.10`)
}

func TestASessionsOwnStream(t *testing.T) {
	g := newGateway(t, stdioConfig(t), scriptedServer(t, ""))
	session := g.open(t, "alice")
	r, err := g.Do(t.Context(), "", append(session, ":method", "GET")...)
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, http.StatusOK, r.StatusCode)
	require.Equal(t, http.StatusAccepted, g.Ask(t, `{"jsonrpc":"2.0","method":"notifications/vendor"}`, session...).Status)
	require.Contains(t, events(t, r.Body, 1)[0], "got notifications/vendor")

	require.Equal(t, http.StatusNoContent, g.Ask(t, "", append(session, ":method", "DELETE")...).Status)
	_, err = io.ReadAll(r.Body)
	require.NoError(t, err, "the stream ends with the session")
}

func TestSessionsOnStdioAreTheirClientsAlone(t *testing.T) {
	g := newGateway(t, stdioConfig(t), scriptedServer(t, ""))
	alice, bob := g.open(t, "alice"), g.open(t, "bob")
	alicesPid := textOf(t, g.Ask(t, tool("1", "pid"), alice...).Body)
	bobsPid := textOf(t, g.Ask(t, tool("1", "pid"), bob...).Body)
	require.NotEqual(t, alicesPid, bobsPid)
	stolen := append([]string(nil), alice...)
	stolen[1] = "bob"
	for _, method := range []string{"POST", "GET", "DELETE"} {
		body := tool("1", "pid")
		if method != "POST" {
			body = ""
		}
		require.Equal(t, http.StatusNotFound, g.Ask(t, body, append(stolen, ":method", method)...).Status, method)
	}
	second := g.open(t, "alice")
	require.Equal(t, alicesPid, textOf(t, g.Ask(t, tool("1", "pid"), second...).Body), "one child for a client")
}

func TestASharedChildServesAllClients(t *testing.T) {
	server := scriptedServer(t, "")
	server.Shared = true
	g := newGateway(t, stdioConfig(t), server)
	alice, bob := g.open(t, "alice"), g.open(t, "bob")
	require.Equal(t, textOf(t, g.Ask(t, tool("1", "pid"), alice...).Body), textOf(t, g.Ask(t, tool("1", "pid"), bob...).Body))
	r, err := g.Do(t.Context(), "", append(bob, ":method", "GET")...)
	require.NoError(t, err)
	defer r.Body.Close()
	g.Ask(t, tool("2", "log"), alice...)
	require.Contains(t, events(t, r.Body, 1)[0], "list_changed", "what the server logs for alice is not for bob")
	require.Contains(t, textOf(t, g.Ask(t, tool("3", "ask"), alice...).Body), `"error"`)
}

func TestRequestsOnStdioThatBreakTheRules(t *testing.T) {
	g := newGateway(t, stdioConfig(t), scriptedServer(t, ""))
	session := g.open(t, "alice")
	tests := map[string]struct {
		body   string
		header []string
		status int
	}{
		"no session":                           {ping, nil, 400},
		"an unknown session":                   {ping, []string{"Mcp-Session-Id", "x"}, 404},
		"a version that is none":               {ping, append(session[:4:4], "MCP-Protocol-Version", "1900-01-01"), 400},
		"a stream without a session":           {"", []string{":method", "GET"}, 405},
		"a stream for who takes none":          {"", append(session, ":method", "GET", "Accept", "", "Accept", "application/json"), 406},
		"a stream in the era without":          {"", append(session[:4:4], ":method", "GET", "MCP-Protocol-Version", "2026-07-28"), 405},
		"an end in the era without":            {"", append(session[:4:4], ":method", "DELETE", "MCP-Protocol-Version", "2026-07-28"), 405},
		"an end without a session":             {"", []string{":method", "DELETE"}, 400},
		"a response in the era without":        {`{"jsonrpc":"2.0","id":1,"result":{}}`, []string{"MCP-Protocol-Version", "2026-07-28"}, 400},
		"a request without a version in _meta": {ping, []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "ping"}, 400},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := g.Ask(t, test.body, test.header...)
			require.Equal(t, test.status, got.Status, got.Body)
			require.Contains(t, got.Body, "request-1")
		})
	}
}

// modern is a request of the era without sessions, with its headers.
func modern(id, method, members string) (body string, header []string) {
	body = fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{%s"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}`, id, method, members)
	return body, []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", method}
}

func TestStdioWithoutSessions(t *testing.T) {
	g := newGateway(t, stdioConfig(t), scriptedServer(t, ""))
	body, header := modern("1", "tools/list", "")
	got := g.Ask(t, body, append(header, "Mcp-Session-Id", "ignored")...)
	require.Equal(t, http.StatusOK, got.Status, got.Body)
	require.NotContains(t, got.Header, "Mcp-Session-Id")

	body, header = modern("1", "vendor/x", "")
	got = g.Ask(t, body, header...)
	require.Equal(t, http.StatusNotFound, got.Status)
	require.Contains(t, got.Body, "-32601")

	body, header = modern("1", "tools/call", `"name":"nothing",`)
	got = g.Ask(t, body, append(header, "Mcp-Name", "nothing")...)
	require.Equal(t, http.StatusBadRequest, got.Status)

	body, header = modern(`"l"`, "subscriptions/listen", "")
	r, err := g.Do(t.Context(), body, header...)
	require.NoError(t, err)
	require.Equal(t, "text/event-stream", r.Header.Get("Content-Type"))
	require.Contains(t, events(t, r.Body, 1)[0], `"io.modelcontextprotocol/subscriptionId":"l"`)
	require.NoError(t, r.Body.Close())
}

func TestAnOldServerOnStdioSendsClientsBackToTheHandshake(t *testing.T) {
	g := newGateway(t, stdioConfig(t), scriptedServer(t, "legacy"))
	for range 2 {
		body, header := modern("1", "server/discover", "")
		got := g.Ask(t, body, header...)
		require.Equal(t, http.StatusBadRequest, got.Status, got.Body)
		require.NotContains(t, got.Body, "-3202", "an error of the newer era would keep them there")
	}
	g.open(t, "alice")
}

func TestListsOnStdioAreFiltered(t *testing.T) {
	g := newGateway(t, stdioConfig(t), scriptedServer(t, ""))
	g.grants["alice"] = grant(t, "alice", nil, []string{"up/pid"})
	session := g.open(t, "alice")
	got := g.Ask(t, listTools, session...)
	require.JSONEq(t, `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"echo"}],"big":12345678901234567890}}`, got.Body)
	got = g.Ask(t, tool("1", "pid"), session...)
	require.Contains(t, got.Body, "-32602")
}
